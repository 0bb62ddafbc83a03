"""Asking tile by tile: for objects that are too small when a large image is shrunk to what the model sees.

An image is cut into tiles that overlap by half, so that whatever is no larger than half a tile lies whole in one of
them. The places found are put back on the image's own grid, and of those that two tiles found twice one stays: by the
functions that ``gmrt infer --tiles`` walks a scene with (`gmrt.runtime.tiling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gmrt.runtime import tiling
from gmrt.runtime.places import Frame, Window, places_in
from gmrt.runtime.points import Region


def tiles_of(width: int, height: int, size: int) -> list[Window]:
    """Tiles (column, row, width, height) of ``size`` pixels a side that overlap by half or more and cover the image."""
    return tiling.plan((0, 0, width, height), size, size // 2)


def merge(found: Iterable[tuple[Window, Sequence[Region]]], width: int, height: int) -> list[Region]:
    """The regions of all tiles on the image's grid, without those that another tile found as well.

    Answers in text have no score for each place, so of two that are the same the one stays that no tile border cuts, of
    two such the larger.
    """
    size = (width, height)
    placed = [(tile, places_in(Frame(size, tile), regions, [1.0] * len(regions))) for tile, regions in found]
    whole = Frame(size, (0, 0, *size))
    return [whole.on_grid(place) for place in tiling.merge(placed, whole.window).places]
