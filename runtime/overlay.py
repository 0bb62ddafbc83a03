"""Regions drawn over a picture: an outline in a colour of its own for each group, in numpy alone.

Lines are antialiased and lie on a dark casing, so that a light one shows on sand and a dark one on water. What a region
encloses keeps its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gmrt.runtime.errors import SceneError
from gmrt.runtime.image import ByteArray, FloatArray
from gmrt.runtime.points import Region, from_grid

COLOURS: dict[str, tuple[int, int, int]] = {
    "yellow": (255, 225, 25),
    "cyan": (70, 225, 255),
    "magenta": (255, 60, 230),
    "orange": (255, 140, 0),
    "lime": (150, 255, 60),
    "white": (255, 255, 255),
    "red": (255, 50, 50),
    "blue": (70, 110, 255),
}
"""The colours of groups in their order, by name; after the last they begin again."""

_CASING: tuple[int, int, int] = (0, 0, 0)
_CASING_OPACITY = 0.6
_CASING_WIDTH = 2.0  # of the line's
_THINNEST = 1.5  # pixels
_SHARE = 1 / 250  # of the longer side
_POINT = 2.5  # a point is a dot of so many line widths
_PIECE = 64  # pixels: a longer line is drawn in pieces, so that a slanted one does not touch a whole picture

Segment = tuple[float, float, float, float]


def colour_name(group: int) -> str:
    """The name of the colour of a group, counted from 0."""
    return list(COLOURS)[group % len(COLOURS)]


def line_width(height: int, width: int) -> float:
    """How wide lines are on a picture of this size, in pixels: they look alike when pictures are shown alike."""
    return max(_THINNEST, max(height, width) * _SHARE)


def annotate(rgb: ByteArray, groups: Sequence[Iterable[Region]]) -> ByteArray:
    """Draw groups of regions over a copy of uint8 [H, W, 3], each group in its own of `COLOURS`, the first below.

    A point is a dot, everything else the outline of its corners; what leaves the picture is cut off at its edge.
    Raises `SceneError` for an array of another shape or dtype.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise SceneError(f"an image must be uint8 [height, width, 3], got {rgb.dtype} {list(rgb.shape)}")
    height, width, _ = rgb.shape
    thick = line_width(height, width)
    drawn = np.array(rgb)
    for group, regions in enumerate(groups):
        strokes = [stroke for region in regions for stroke in _strokes(region, height, width, thick)]
        if strokes:
            beyond = (_CASING_WIDTH - 1) * thick / 2
            _blend(drawn, _CASING_OPACITY * _coverage(strokes, height, width, beyond), _CASING)
            _blend(drawn, _coverage(strokes, height, width), COLOURS[colour_name(group)])
    return drawn


def _strokes(region: Region, height: int, width: int, thick: float) -> list[tuple[Segment, float]]:
    """The lines of a region in pixels, each with half its width; pixel (row, column) has its centre at half numbers."""
    corners = [(from_grid(x) * width, from_grid(y) * height) for x, y in region.points]
    if region.kind == "point":
        return [((*corners[0], *corners[0]), _POINT * thick / 2)]
    if region.kind == "box":
        (x0, y0), (x1, y1) = corners
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return [
        (piece, thick / 2)
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True)
        for piece in _pieces((*start, *end))
    ]


def _pieces(segment: Segment) -> list[Segment]:
    x0, y0, x1, y1 = segment
    count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / _PIECE))
    steps = [(x0 + (x1 - x0) * step / count, y0 + (y1 - y0) * step / count) for step in range(count + 1)]
    return [(*start, *end) for start, end in pairwise(steps)]


def _coverage(strokes: Iterable[tuple[Segment, float]], height: int, width: int, beyond: float = 0.0) -> FloatArray:
    """How much of each pixel lies within any stroke, widened by ``beyond`` on either side: float32 [H, W] in 0…1."""
    covered = np.zeros((height, width), np.float32)
    for (x0, y0, x1, y1), half in strokes:
        reach = half + beyond + 1
        left, right = max(0, math.floor(min(x0, x1) - reach)), min(width, math.ceil(max(x0, x1) + reach))
        top, bottom = max(0, math.floor(min(y0, y1) - reach)), min(height, math.ceil(max(y0, y1) + reach))
        x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - x0)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - y0)
        along_x, along_y = np.float32(x1 - x0), np.float32(y1 - y0)
        length = max(float(along_x**2 + along_y**2), 1e-12)
        nearest = np.clip((x * along_x + y * along_y) / np.float32(length), 0, 1)
        distance = np.hypot(x - nearest * along_x, y - nearest * along_y)
        window = covered[top:bottom, left:right]
        np.maximum(window, np.clip(np.float32(half + beyond + 0.5) - distance, 0, 1), out=window)
    return covered


def _blend(pixels: ByteArray, opacity: FloatArray, colour: tuple[int, int, int]) -> None:
    """Mix a colour into the pixels [H, W, 3], in place."""
    touched = opacity > 0
    share = opacity[touched][:, None]
    pixels[touched] = np.rint(pixels[touched] * (1 - share) + np.array(colour, np.float32) * share).astype(np.uint8)
