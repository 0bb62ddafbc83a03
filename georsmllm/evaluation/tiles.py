"""Asking tile by tile: for objects that are too small when a large image is shrunk to what the model sees.

An image is cut into tiles that overlap by half, so that whatever is no larger than half a tile lies whole in one of
them. The places found are put back on the image's own grid, and of those that two tiles found twice one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gmrt.georsmllm.evaluation.geometry import AGREE, outline, overlap
from gmrt.georsmllm.shapes import area, areas
from gmrt.runtime.points import GRID, Region, from_grid, region

_EDGE = 8
"""Cells from the border of a tile within which a region counts as cut off by it."""
_NEAR = 0.9
"""Two points whose agreement is this high, a hundredth of the image apart, are the same; cars stand closer than
`geometry.POINT_REACH`."""


@dataclass(frozen=True)
class Tile:
    """A part of an image of ``width`` × ``height`` pixels: from (x0, y0) up to before (x1, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    def onto_image(self, found: Region) -> Region:
        """A region on the tile's grid, on the image's grid."""
        points = [
            (
                (self.x0 + from_grid(x) * (self.x1 - self.x0)) / self.width,
                (self.y0 + from_grid(y) * (self.y1 - self.y0)) / self.height,
            )
            for x, y in found.points
        ]
        return region(found.kind, points)

    def cuts(self, found: Region) -> bool:
        """Whether a region on the tile's grid reaches a border of the tile that is none of the image."""
        x0, y0, x1, y1 = found.bounds
        far = GRID - 1 - _EDGE
        return (
            (x0 <= _EDGE and self.x0 > 0)
            or (y0 <= _EDGE and self.y0 > 0)
            or (x1 >= far and self.x1 < self.width)
            or (y1 >= far and self.y1 < self.height)
        )


def tiles_of(width: int, height: int, size: int) -> list[Tile]:
    """Tiles of ``size`` pixels a side that overlap by half or more and cover the image, row by row.

    An image that is smaller than a tile in one direction is not divided in it.
    """
    return [
        Tile(x, y, min(x + size, width), min(y + size, height), width, height)
        for y in _starts(height, size)
        for x in _starts(width, size)
    ]


def _starts(length: int, size: int) -> list[int]:
    if length <= size:
        return [0]
    steps = int(np.ceil((length - size) / max(size // 2, 1)))
    return [round(step * (length - size) / steps) for step in range(steps + 1)]


def merge(found: Iterable[tuple[Tile, Sequence[Region]]]) -> list[Region]:
    """The regions of all tiles on the image's grid, without those that another tile found as well.

    Two regions of different tiles are the same thing when their common area is half of the smaller one, or more; the
    one that no tile border cuts stays, of two such the larger. Regions of one tile are left as they are: the model
    meant them to be different.
    """
    candidates = [
        (tile.cuts(each), -_size(each), number, tile.onto_image(each))
        for number, (tile, regions) in enumerate(found)
        for each in regions
    ]
    kept: list[tuple[int, Region]] = []
    for _, _, number, candidate in sorted(candidates, key=lambda one: one[:2]):
        if not any(other != number and _same(candidate, region_) for other, region_ in kept):
            kept.append((number, candidate))
    return [region_ for _, region_ in kept]


def _size(found: Region) -> float:
    return 0.0 if found.kind == "point" else area(outline(found))


def _same(a: Region, b: Region) -> bool:
    if "point" in (a.kind, b.kind):
        return overlap(a, b) >= _NEAR
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.bounds, b.bounds
    if max(ax0, bx0) >= min(ax1, bx1) or max(ay0, by0) >= min(ay1, by1):
        return a == b
    first, second, both = areas(outline(a), outline(b))
    return both >= AGREE * min(first, second)
