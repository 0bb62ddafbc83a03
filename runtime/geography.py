"""From pixels to longitude and latitude and back: outlines on a map as rings on the WGS 84 ellipsoid.

A `Placement` (`gmrt.runtime.placement`) takes pixels to its map; rasterio's PROJ takes the map to WGS 84, the datum and
the axis order (longitude first) of RFC 7946. Importing this module imports rasterio: import it lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.warp import transform

from gmrt.runtime.geodesy import geocentric, unwrap
from gmrt.runtime.raster import quiet

if TYPE_CHECKING:
    from gmrt.runtime.placement import Placement

FloatArray = npt.NDArray[np.float64]

WGS84 = "EPSG:4326"
CURVE = 0.1
"""A side is divided until its middle lies within this share of a pixel of where the map has it."""
FINE = 0.05
"""No side is divided for less than so many metres: seven digits of a degree are a centimetre."""
_ROUNDS = 16  # a side has at most 2^16 pieces, and so many only where it passes a pole within metres


def to_lonlat(placement: Placement, pixels: FloatArray) -> FloatArray:
    """WGS 84 longitude and latitude in degrees [N, 2] of pixels [N, 2]; not finite where the map has no answer.

    Longitudes are those that PROJ gives, usually within ±180; rings are made continuous by `ring`.
    """
    return _reproject(placement.to_map(np.asarray(pixels, np.float64)), placement.crs, WGS84)


def to_pixels(placement: Placement, lonlat: FloatArray) -> FloatArray:
    """Pixels [N, 2] of WGS 84 longitudes and latitudes [N, 2] in degrees; not finite where there is none."""
    points = _reproject(np.asarray(lonlat, np.float64), WGS84, placement.crs)
    finite = np.isfinite(points).all(axis=1)
    pixels = np.full(points.shape, np.nan)
    if finite.any():
        pixels[finite] = placement.to_pixel(points[finite])
    return pixels


def rings(placement: Placement, outlines: Sequence[FloatArray], *, closed: bool = True) -> list[FloatArray | None]:
    """Each outline of pixels [N, 2] as longitudes and latitudes [M, 2], in the same order and not closed.

    Corners are where the map has them, and sides get more of them where a straight line in pixels is none in degrees.
    Longitudes are continuous, so they may exceed ±180. None where a corner is outside of what the CRS can express.
    """
    pixels = [np.asarray(each, np.float64) for each in outlines]
    if closed:
        pixels = [np.concatenate([each, each[:1]]) if len(each) > 1 else each for each in pixels]
    lonlats = _split(to_lonlat(placement, np.concatenate(pixels)), pixels) if pixels else []
    open_sides = [np.ones(max(len(each) - 1, 0), dtype=np.bool_) for each in pixels]
    for _ in range(_ROUNDS):
        middles = [(each[:-1] + each[1:])[sides] / 2 for each, sides in zip(pixels, open_sides, strict=True)]
        if not sum(map(len, middles)):
            break
        for index, new in enumerate(_split(to_lonlat(placement, np.concatenate(middles)), middles)):
            if len(new):
                pixels[index], lonlats[index], open_sides[index] = _divided(
                    pixels[index], unwrap(lonlats[index]), open_sides[index], middles[index], new
                )
    whole = [unwrap(each) if np.isfinite(each).all() else None for each in lonlats]
    return [each[:-1] if closed and each is not None and len(each) > 1 else each for each in whole]


def _divided(
    pixels: FloatArray, lonlat: FloatArray, sides: npt.NDArray[np.bool_], middles: FloatArray, new: FloatArray
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Put those middles into a line that lie off the straight way; returns the line and which sides are still open."""
    at = np.flatnonzero(sides)
    start, end = lonlat[at], lonlat[at + 1]
    ends = np.linalg.norm(geocentric(end) - geocentric(start), axis=1)
    off = np.linalg.norm(geocentric((start + end) / 2) - geocentric(new), axis=1)
    across = np.linalg.norm(pixels[at + 1] - pixels[at], axis=1)
    bent = (off > FINE) & (off * across > CURVE * np.maximum(ends, FINE))
    still = np.zeros(len(pixels) - 1, dtype=np.bool_)
    still[at[bent]] = True
    places = at[bent] + 1
    opened = np.insert(still, places, True)
    return np.insert(pixels, places, middles[bent], axis=0), np.insert(lonlat, places, new[bent], axis=0), opened


def _split(points: FloatArray, like: Sequence[FloatArray]) -> list[FloatArray]:
    return np.split(points, np.cumsum([len(each) for each in like])[:-1])


def _reproject(points: FloatArray, source: str | None, target: str | None) -> FloatArray:
    """Take points [N, 2] from one CRS to another; those that cannot be taken become NaN."""
    if source == target or not len(points):
        return points
    finite = np.isfinite(points).all(axis=1)
    taken = np.full(points.shape, np.nan)
    with quiet():
        _reproject_into(taken, points, np.flatnonzero(finite), source, target)
    taken[~np.isfinite(taken).all(axis=1)] = np.nan
    return taken


def _reproject_into(
    taken: FloatArray, points: FloatArray, which: npt.NDArray[np.int64], source: str | None, target: str | None
) -> None:
    """GDAL refuses a batch for one point outside of a projection: the batch is halved until the rest is through."""
    if not len(which):
        return
    try:
        x, y = transform(source, target, points[which, 0].tolist(), points[which, 1].tolist())
    except (RasterioError, CPLE_BaseError):
        if len(which) > 1:
            half = len(which) // 2
            _reproject_into(taken, points, which[:half], source, target)
            _reproject_into(taken, points, which[half:], source, target)
        return
    taken[which] = np.stack([x, y], axis=1)
