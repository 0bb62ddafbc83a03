"""Sizes on the ground: areas and lengths on the WGS 84 ellipsoid, from longitudes and latitudes.

Two formulas and no library: the area between a line and the equator has a closed form on an ellipsoid, and a short line
is as long as its chord. Tests compare both with PROJ's geodesics.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SEMI_MAJOR = 6378137.0
"""Equatorial radius of WGS 84 in metres."""
FLATTENING = 1 / 298.257223563
_E2 = FLATTENING * (2 - FLATTENING)
_E = _E2**0.5
_PIECE = np.radians(0.05)  # a longer step between two positions is measured in pieces, about 5 km each


def unwrap(lonlat: FloatArray) -> FloatArray:
    """Make the longitudes of a line [N, 2] in degrees continuous: no step is longer than half a turn."""
    line = np.array(lonlat, dtype=np.float64)
    steps = np.diff(line[:, 0])
    line[1:, 0] -= 360.0 * np.cumsum(np.round(steps / 360.0))
    return line


def area(lonlat: FloatArray) -> float:
    """Area in m² within a ring [N, 2] in degrees, not closed, whose sides are short or run straight in lon and lat.

    The ring is laid out on the cylindrical equal-area projection (Snyder, USGS Professional Paper 1395, 1987, equation
    3-12), on which the shoelace formula is exact but for the way a side bends between its ends. A ring round a pole
    holds the pole.
    """
    ring = unwrap(np.concatenate([lonlat, lonlat[:1]]))
    longitude = np.radians(ring[:, 0])
    height = _authalic(np.radians(ring[:, 1]))
    turns = round((longitude[-1] - longitude[0]) / (2 * np.pi))
    if turns:  # what the ring leaves open is a rectangle up to the pole that it goes round
        pole = float(np.copysign(_authalic(np.array(np.pi / 2)), height.mean()))
        longitude = np.append(longitude, [longitude[-1], longitude[0]])
        height = np.append(height, [pole, pole])
    longitude, height = longitude - longitude[0], height - height[0]  # small numbers keep their digits
    twice = np.dot(longitude[:-1], height[1:]) - np.dot(longitude[1:], height[:-1])
    twice += longitude[-1] * height[0] - longitude[0] * height[-1]
    return float(abs(twice)) / 2 * SEMI_MAJOR**2


def length(lonlat: FloatArray) -> float:
    """Length in metres of a line [N, 2] in degrees whose sides are short or run straight in lon and lat.

    The sum of the chords of pieces of 5 km at most, each bent to the arc of a sphere: 1e-9 of the length is lost.
    """
    line = unwrap(lonlat)
    pieces = [line[:1]]
    for start, end in pairwise(line):
        count = max(1, int(np.ceil(np.hypot(*np.radians(end - start)) / _PIECE)))
        pieces.append(start + (end - start) * (np.arange(1, count + 1) / count)[:, None])
    positions = geocentric(np.concatenate(pieces))
    chords = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return float((2 * SEMI_MAJOR * np.arcsin(chords / (2 * SEMI_MAJOR))).sum())


def extent(lonlat: FloatArray) -> float:
    """Greatest distance in metres between two of the positions [N, 2] in degrees, along a sphere of equal chords."""
    positions = geocentric(lonlat)
    chord = max(float(np.linalg.norm(positions[index:] - each, axis=1).max()) for index, each in enumerate(positions))
    return 2 * SEMI_MAJOR * float(np.arcsin(min(chord / (2 * SEMI_MAJOR), 1.0)))


def geocentric(lonlat: FloatArray) -> FloatArray:
    """Positions [N, 3] in metres from the Earth's centre (EPSG method 9602) of [N, 2] in degrees on the ellipsoid."""
    longitude, latitude = np.radians(lonlat).T
    radius = SEMI_MAJOR / np.sqrt(1 - _E2 * np.sin(latitude) ** 2)
    across = radius * np.cos(latitude)
    xyz = [across * np.cos(longitude), across * np.sin(longitude), radius * (1 - _E2) * np.sin(latitude)]
    return np.stack(xyz, axis=1)


def _authalic(latitude: FloatArray) -> FloatArray:
    """Half of Snyder's q: the area between the equator and a latitude, over one radian and a radius of 1."""
    sine = np.sin(latitude)
    q = (1 - _E2) * (sine / (1 - _E2 * sine**2) + np.arctanh(_E * sine) / _E)
    half: FloatArray = np.asarray(q / 2)
    return half
