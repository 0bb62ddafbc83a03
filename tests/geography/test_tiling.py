"""Tiles that cover a scene, and one list of places from all of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.outlines import iou
from gmrt.runtime.places import Place, Window
from gmrt.runtime.tiling import Merged, merge, plan

SIDE = st.integers(1, 900)
SIZE = 100


def box(x: float, y: float, width: float, height: float, score: float = 0.5) -> Place:
    """A place with a box for its outline."""
    return Place("box", ((x, y), (x + width, y), (x + width, y + height), (x, y + height)), score)


def point(x: float, y: float) -> Place:
    """A place that is a point."""
    return Place("point", ((x, y),), 0.5)


@settings(max_examples=80, deadline=None)
@given(SIDE, SIDE, st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 300), st.data())
def test_tiles_cover_every_pixel_as_planned(
    width: int, height: int, column: int, row: int, size: int, data: st.DataObject
) -> None:
    """Guards against a strip that no tile sees, tiles that leave the window, and less overlap than was said."""
    overlap = data.draw(st.integers(0, size - 1))
    tiles = plan((column, row, width, height), size, overlap)
    seen = np.zeros((height, width), bool)
    for x, y, across, down in tiles:
        assert (across, down) == (min(size, width), min(size, height))
        assert column <= x
        assert row <= y
        assert x + across <= column + width
        assert y + down <= row + height
        seen[y - row : y - row + down, x - column : x - column + across] = True
    assert seen.all()
    assert len(set(tiles)) == len(tiles)
    columns = sorted({tile[0] for tile in tiles})
    assert all(0 < b - a <= size - overlap for a, b in pairwise(columns))
    fewest = -(-(width - overlap) // (size - overlap)) if width > size else 1
    assert len(columns) == fewest


@st.composite
def objects(draw: st.DrawFn) -> list[Place]:
    """Boxes of up to half a tile that lie apart, so that which is which is certain."""
    cells = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=12, unique=True))
    sizes = st.integers(6, SIZE // 2 - 2)
    return [box(60 * x + 5, 60 * y + 5, draw(sizes), draw(sizes), draw(st.floats(0.4, 1))) for x, y in cells]


def detect(things: list[Place], whole: Window, tiles: list[Window]) -> Merged:
    """What a perfect detector says of each tile: things of which it sees two thirds, cut at its border."""
    found = []
    for tile in tiles:
        x, y, across, down = tile
        places = []
        for thing in things:
            x0, y0, x1, y1 = thing.bounds
            u0, v0, u1, v1 = max(x0, x), max(y0, y), min(x1, x + across), min(y1, y + down)
            if u1 > u0 and v1 > v0 and (u1 - u0) * (v1 - v0) > 2 / 3 * (x1 - x0) * (y1 - y0):
                places.append(box(u0, v0, u1 - u0, v1 - v0, thing.confidence))
        found.append((tile, places))
    return merge(found, whole)


@settings(max_examples=40, deadline=None)
@given(objects(), st.integers(0, 60), st.integers(0, 60), st.randoms(use_true_random=False))
def test_where_tiles_begin_does_not_matter(things: list[Place], left: int, top: int, random: object) -> None:
    """Guards against counts that depend on the tile grid's origin: all are found once, and none moves (IoU ≥ 0.99)."""
    whole = (-left, -top, 500 + left, 500 + top)
    tiles = plan(whole, SIZE, SIZE // 2)
    random.shuffle(tiles)  # type: ignore[attr-defined]
    merged = detect(things, whole, tiles).places
    assert len(merged) == len(things)
    for place, thing in zip(merged, sorted(things, key=lambda one: one.bounds[1::-1]), strict=True):
        assert iou(np.array(place.corners), np.array(thing.corners)) >= 0.99


def test_the_better_of_two_stays() -> None:
    """Guards against the half of a thing in the place of the whole, and a poor score in the place of a good one."""
    left, right, whole = (0, 0, 100, 100), (50, 0, 100, 100), (0, 0, 150, 100)
    half, full, poor = box(90, 40, 10, 20, 0.9), box(90, 40, 20, 20, 0.6), box(91, 41, 20, 20, 0.5)
    for found in ([(left, [half]), (right, [full])], [(right, [full]), (left, [half])]):
        assert merge(found, whole) == Merged((full,), 1)
    assert merge([((60, 0, 80, 100), [poor]), (right, [full])], whole).places == (full,)


def test_what_one_tile_tells_apart_stays_two() -> None:
    """Guards against merging what the model itself told apart."""
    assert merge([((0, 0, 100, 100), [box(10, 10, 20, 10), box(12, 10, 20, 10)])], (0, 0, 200, 100)).dropped == 0


def test_points_merge_by_distance() -> None:
    """Guards against a merge that knows outlines only."""
    left, right, whole = (0, 0, 100, 100), (50, 0, 100, 100), (0, 0, 150, 100)
    assert merge([(left, [point(75, 50)]), (right, [point(76, 50)])], whole).dropped == 1
    assert merge([(left, [point(75, 50)]), (right, [point(80, 50)])], whole).dropped == 0
    assert merge([(left, [point(75, 50)]), (right, [box(70, 45, 10, 10)])], whole).dropped == 0
    assert merge([], whole) == Merged((), 0)
