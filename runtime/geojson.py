"""RFC 7946: geometries with the right winding, cut at the antimeridian, to seven digits.

Everything here takes rings as `gmrt.runtime.geography.rings` gives them: longitude and latitude in degrees, continuous,
not closed. Seven digits of a degree are a centimetre on the ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.geodesy import unwrap

FloatArray = npt.NDArray[np.float64]
Geometry = dict[str, Any]

DIGITS = 7
_TURN = 360.0


def point(lonlat: FloatArray) -> Geometry:
    """A Point of one position, [2] or [1, 2]; its longitude is brought within ±180."""
    longitude, latitude = (float(value) for value in np.asarray(lonlat, np.float64).reshape(2))
    return {"type": "Point", "coordinates": [round(math.remainder(longitude, _TURN), DIGITS), round(latitude, DIGITS)]}


def polygon(ring: FloatArray) -> Geometry:
    """A Polygon of a ring [N, 2], or a MultiPolygon where it crosses the antimeridian (RFC 7946, section 3.1.9).

    Outer rings run counterclockwise (section 3.1.6). A ring round a pole is led along the edge of the map to that pole,
    so that what it encloses is its inside there as well. A ring with less than a centimetre of width is a Point.
    """
    outline = _opened_at_the_pole(unwrap(np.concatenate([ring, ring[:1]])))
    west = _TURN * math.floor((outline[:, 0].min() + _TURN / 2) / _TURN)
    outline = outline - [west, 0]
    parts: list[list[list[float]]] = []
    for turn in range(math.ceil((outline[:, 0].max() - _TURN / 2) / _TURN) + 1):
        here = outline - [_TURN * turn, 0]
        for eastern in _clipped(here, -_TURN / 2, 1.0):
            parts.extend(_written(part) for part in _clipped(eastern, _TURN / 2, -1.0))
    rings = [part for part in parts if part]
    if not rings:
        return point(ring.mean(axis=0))
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[part] for part in rings]}


def _opened_at_the_pole(closed: FloatArray) -> FloatArray:
    """A closed and continuous ring without its last point; one that goes round the Earth is joined to its pole."""
    if not round((closed[-1, 0] - closed[0, 0]) / _TURN):
        return closed[:-1]
    pole = math.copysign(90.0, float(closed[:, 1].mean()))
    return np.concatenate([closed, [[closed[-1, 0], pole], [closed[0, 0], pole]]])


def _clipped(ring: FloatArray, meridian: float, side: float) -> list[FloatArray]:
    """The parts of a simple ring on the eastern (1) or western (−1) side of a meridian.

    Pieces of the ring on that side end on the meridian. Sorted by latitude, each two neighbouring ends have the ring's
    inside between them, so they are joined: a concave outline may fall into several parts.
    """
    inside = (ring[:, 0] - meridian) * side > 0
    if inside.all():
        return [ring]
    if not inside.any():
        return []
    start = int(np.flatnonzero(~inside)[0])
    ring, inside = np.roll(ring, -start, axis=0), np.roll(inside, -start)
    pieces: list[list[FloatArray]] = []
    for index in range(len(ring)):
        a, b = ring[index], ring[(index + 1) % len(ring)]
        before, behind = bool(inside[index]), bool(inside[(index + 1) % len(ring)])
        if before != behind:
            share = (meridian - a[0]) / (b[0] - a[0])
            crossing = np.array([meridian, a[1] + share * (b[1] - a[1])])
            if behind:
                pieces.append([crossing])
            else:
                pieces[-1].append(crossing)
        if behind:
            pieces[-1].append(b)
    return _joined([np.array(piece) for piece in pieces])


def _joined(pieces: Sequence[FloatArray]) -> list[FloatArray]:
    """Join pieces whose ends lie on one meridian to rings."""
    ends = sorted((float(piece[end, 1]), number, end) for number, piece in enumerate(pieces) for end in (0, -1))
    other = {}
    for (_, *one), (_, *two) in zip(ends[::2], ends[1::2], strict=True):
        other[tuple(one)], other[tuple(two)] = tuple(two), tuple(one)
    left, rings = set(range(len(pieces))), []
    while left:
        number, entered = min(left), 0
        parts = []
        while number in left:
            left.remove(number)
            parts.append(pieces[number] if entered == 0 else pieces[number][::-1])
            number, entered = other[number, -1 if entered == 0 else 0]
        rings.append(np.concatenate(parts))
    return rings


def _written(ring: FloatArray) -> list[list[float]]:
    """Round a ring, turn it counterclockwise and close it; empty when nothing of it is left."""
    rounded = np.round(ring, DIGITS) + 0.0  # no negative zero
    kept = rounded[np.any(rounded != np.roll(rounded, 1, axis=0), axis=1)]
    if len(kept) < 3:
        return []
    x, y = (kept - kept[0]).T
    twice = float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))
    if twice == 0:
        return []
    turned = kept if twice > 0 else kept[::-1]
    return [[float(x), float(y)] for x, y in [*turned, turned[0]]]
