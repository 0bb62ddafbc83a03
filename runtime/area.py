"""The part of a scene that a question is about: pixels, longitude and latitude, an outline in a file, or one spot.

Each way of naming a place ends as a window in pixels of the scene's file. Importing this module imports rasterio.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.answer import Answer
from gmrt.runtime.errors import SceneError, SceneNotFoundError
from gmrt.runtime.geography import rings, to_lonlat, to_pixels
from gmrt.runtime.outlines import contains
from gmrt.runtime.placement import on_earth
from gmrt.runtime.places import Frame, Window
from gmrt.runtime.points import format_regions

FloatArray = npt.NDArray[np.float64]

_STEPS = 64  # a side in degrees is followed in so many steps: it is no straight line in most maps
_WGS84_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326")


def pixel_window(frame: Frame, x0: float, y0: float, x1: float, y1: float) -> Window:
    """The window from (x0, y0) up to before (x1, y1), clipped to the scene; raises `SceneError` for an empty one."""
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        x0 = y0 = x1 = y1 = -1.0
    left, top = max(math.floor(min(x0, x1)), 0), max(math.floor(min(y0, y1)), 0)
    right, below = min(math.ceil(max(x0, x1)), frame.size[0]), min(math.ceil(max(y0, y1)), frame.size[1])
    if left >= right or top >= below:
        raise SceneError(
            f"the region {x0:g},{y0:g},{x1:g},{y1:g} holds no pixel of {frame.source or 'the image'}, "
            f"which is {frame.size[0]} × {frame.size[1]} pixels"
        )
    return left, top, right - left, below - top


def bbox_ring(west: float, south: float, east: float, north: float) -> FloatArray:
    """The sides of a box in degrees as a ring [N, 2]; with west > east it crosses the antimeridian (RFC 7946, 5.2).

    Raises `SceneError` for numbers that are no longitude and latitude, or an empty box.
    """
    if not all(-180 <= value <= 180 for value in (west, east)) or not -90 <= south < north <= 90 or west == east:
        raise SceneError(
            f"{west:g},{south:g},{east:g},{north:g} is no box of longitude and latitude: give west,south,east,north "
            "in degrees"
        )
    return np.array(
        [(west, south), (east + 360 * (west > east), south), (east + 360 * (west > east), north), (west, north)]
    )


def read_rings(path: Path) -> list[FloatArray]:
    """The rings of all polygons of a GeoJSON file, in degrees; holes are rings as well.

    Raises `SceneNotFoundError` or `SceneError` for a file that is not there, is no GeoJSON, is in another CRS than
    WGS 84, or holds no polygon.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SceneNotFoundError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise SceneError(f"{path}: is not a GeoJSON file ({error})") from None
    name = data.get("crs") if isinstance(data, dict) else None
    if name is not None and not any(known in json.dumps(name) for known in _WGS84_NAMES):
        raise SceneError(f"{path}: is in another CRS than WGS 84, and GeoJSON has no other: reproject it to EPSG:4326")
    try:
        found = [np.array(ring, np.float64)[:, :2] for ring in _polygon_rings(data)]
    except (TypeError, ValueError, KeyError, IndexError):
        raise SceneError(f"{path}: its polygons are not those of GeoJSON") from None
    if not found:
        raise SceneError(f"{path}: holds no polygon, and the area to ask about is one")
    positions = np.concatenate(found)
    if not np.isfinite(positions).all() or np.abs(positions[:, 0]).max() > 360 or np.abs(positions[:, 1]).max() > 90:
        raise SceneError(f"{path}: its coordinates are not longitude and latitude: reproject it to EPSG:4326")
    return found


def outlines_of(frame: Frame, lonlat_rings: Iterable[FloatArray]) -> list[FloatArray]:
    """Rings in degrees as outlines [N, 2] in pixels of the scene; raises `SceneError` without a georeference.

    Parts that the scene's CRS cannot express are left out.
    """
    placement = frame.placement
    if placement is None or placement.crs is None or not on_earth(placement.crs):
        raise SceneError(
            f"{frame.source or 'the image'} has no georeference on Earth, so no longitude and latitude lies in it: "
            "give the region in pixels"
        )
    found = []
    for ring in lonlat_rings:
        dense = _followed(ring)
        turns = [to_pixels(placement, dense + np.array([360.0 * turn, 0])) for turn in (0, 1, -1)]
        pixels = max(turns, key=lambda each: _overlap(frame, each))
        found.append(pixels[np.isfinite(pixels).all(axis=1)])
    return found


def outline_window(frame: Frame, outlines: Sequence[FloatArray]) -> Window:
    """The smallest window that holds outlines, clipped to the scene; raises `SceneError` where they lie beside it."""
    corners = np.concatenate([each for each in outlines if len(each) > 2] or [np.zeros((0, 2))])
    if not len(corners) or max(_overlap(frame, each) for each in outlines) <= 0:
        raise SceneError(f"the area lies outside of {frame.source or 'the image'}, which {extent_of(frame)}")
    (x0, y0), (x1, y1) = corners.min(axis=0) + 1e-6, corners.max(axis=0) - 1e-6  # a border on a pixel's edge is on it
    return pixel_window(frame, x0, y0, max(x1, x0), max(y1, y0))


def spot_window(frame: Frame, longitude: float, latitude: float, side: int) -> Window:
    """The window of ``side`` pixels a side round a spot, moved inward at the scene's borders; raises `SceneError`."""
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise SceneError(f"{longitude:g},{latitude:g} is no longitude and latitude in degrees")
    around = np.array([[longitude, latitude]] * 3)
    (spot,) = (each[0] for each in outlines_of(frame, [around]))
    width, height = frame.size
    if not (0 <= spot[0] <= width and 0 <= spot[1] <= height):
        raise SceneError(
            f"{longitude:g},{latitude:g} lies outside of {frame.source or 'the image'}, which {extent_of(frame)}"
        )
    across, down = min(side, width), min(side, height)
    column = min(max(round(spot[0] - across / 2), 0), width - across)
    row = min(max(round(spot[1] - down / 2), 0), height - down)
    return column, row, across, down


def extent_of(frame: Frame) -> str:
    """Words for where a scene lies: from which to which longitude and latitude."""
    assert frame.placement is not None  # it has been asked for a longitude and latitude
    (ring,) = rings(frame.placement, [Frame(frame.size, (0, 0, *frame.size)).outline()])
    if ring is None:
        ring = to_lonlat(frame.placement, np.array([frame.size], np.float64) / 2)
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    return f"reaches from {west:.5f},{south:.5f} to {east:.5f},{north:.5f}"


def within(answer: Answer, outlines: Sequence[FloatArray]) -> Answer:
    """An answer without the places whose centre lies outside of outlines in pixels (even-odd rule); a count follows."""
    if answer.frame is None or not answer.places:
        return answer
    kept = tuple(
        place
        for place in answer.places
        if sum(contains(each, _centre(place.corners)) for each in outlines if len(each) > 2) % 2
    )
    if len(kept) == len(answer.places):
        return answer
    if answer.is_location:
        return replace(answer, text=format_regions(map(answer.frame.on_grid, kept)), found=kept)
    return replace(answer, text=str(len(kept)), value=float(len(kept)), found=kept)


def _centre(corners: Sequence[tuple[float, float]]) -> tuple[float, float]:
    x, y = np.array(corners).mean(axis=0)
    return float(x), float(y)


def _followed(ring: FloatArray) -> FloatArray:
    """A ring with more corners along its sides."""
    if np.array_equal(ring[0], ring[-1]):
        ring = ring[:-1]
    share = (np.arange(_STEPS) / _STEPS)[None, :, None]
    sides = ring[:, None] * (1 - share) + np.roll(ring, -1, axis=0)[:, None] * share
    dense: FloatArray = sides.reshape(-1, 2)
    return dense


def _overlap(frame: Frame, pixels: FloatArray) -> float:
    """Pixels of the scene inside the box round an outline; below 0 where they do not meet."""
    finite = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(finite):
        return -math.inf
    low = np.maximum(finite.min(axis=0), 0)
    high = np.minimum(finite.max(axis=0), frame.size)
    across, down = (float(value) for value in high - low)
    return across * down if across > 0 and down > 0 else min(across, down)


def _polygon_rings(data: Any) -> list[Any]:
    kind = data["type"]
    if kind == "FeatureCollection":
        return [ring for feature in data["features"] for ring in _polygon_rings(feature)]
    if kind == "Feature":
        return [] if data["geometry"] is None else _polygon_rings(data["geometry"])
    if kind == "GeometryCollection":
        return [ring for geometry in data["geometries"] for ring in _polygon_rings(geometry)]
    if kind == "Polygon":
        return list(data["coordinates"])
    if kind == "MultiPolygon":
        return [ring for part in data["coordinates"] for ring in part]
    return []
