"""Asking tile by tile."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.geometry import overlap
from gmrt.georsmllm.evaluation.tiles import Tile, merge, tiles_of
from gmrt.runtime.points import Region, region

SIDE = st.integers(40, 900)


@settings(max_examples=100, deadline=None)
@given(SIDE, SIDE, st.integers(32, 300), st.floats(0, 1), st.floats(0, 1))
def test_whatever_is_half_a_tile_lies_whole_in_one(width: int, height: int, size: int, u: float, v: float) -> None:
    """Guards against an object on the border of every tile that could see it, and against tiles outside the image."""
    tiles = tiles_of(width, height, size)
    side_x, side_y = min(size // 2, width), min(size // 2, height)
    x, y = int(u * (width - side_x)), int(v * (height - side_y))
    assert any(t.x0 <= x and t.y0 <= y and x + side_x <= t.x1 and y + side_y <= t.y1 for t in tiles)
    assert all(0 <= t.x0 < t.x1 <= width and 0 <= t.y0 < t.y1 <= height for t in tiles)
    assert all(t.x1 - t.x0 == min(size, width) and t.y1 - t.y0 == min(size, height) for t in tiles)


def test_a_small_image_is_one_tile() -> None:
    """Guards against tiles of nothing."""
    assert tiles_of(100, 80, 256) == [Tile(0, 0, 100, 80, 100, 80)]
    assert len(tiles_of(640, 512, 256)) == 4 * 3


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 900), st.integers(0, 900), st.integers(20, 90), st.integers(20, 90))
def test_a_box_seen_by_many_tiles_is_one_box(x: int, y: int, width: int, height: int) -> None:
    """Guards against the same car counted by every tile that sees it, and against coordinates of another frame."""
    x, y = min(x, 1000 - width - 1), min(y, 1000 - height - 1)
    found = []
    for tile in tiles_of(1000, 1000, 400):
        corners = np.array([[x, y], [x + width, y + height]], float)
        inside = np.clip((corners - [tile.x0, tile.y0]) / [tile.x1 - tile.x0, tile.y1 - tile.y0], 0, 0.9999)
        # A tile tells of what it sees at least two thirds of, as the model is taught to.
        share = np.prod((inside[1] - inside[0]) * 400) / (width * height)
        found.append((tile, [region("box", inside)] if share > 2 / 3 else []))
    (merged,) = merge(found)
    assert overlap(merged, region("box", [(x / 1000, y / 1000), ((x + width) / 1000, (y + height) / 1000)])) > 0.75


def test_neighbours_in_one_tile_stay_two() -> None:
    """Guards against merging what the model itself told apart."""
    tile = Tile(0, 0, 100, 100, 200, 100)
    cars = [Region("box", ((100, 100), (300, 200))), Region("box", ((120, 100), (320, 200)))]
    assert len(merge([(tile, cars)])) == 2


def test_the_whole_one_stays_not_the_cut_one() -> None:
    """Guards against a car's half, seen at the border of one tile, in the place of the car."""
    left, right = Tile(0, 0, 100, 100, 150, 100), Tile(50, 0, 150, 100, 150, 100)
    half = Region("box", ((900, 400), (999, 600)))  # from 90 to 100 of the image
    whole = Region("box", ((400, 400), (600, 600)))  # from 90 to 110
    for found in ([(left, [half]), (right, [whole])], [(right, [whole]), (left, [half])]):
        assert merge(found) == [right.onto_image(whole)]


def test_points_and_polygons_merge_too() -> None:
    """Guards against a merge that knows boxes only."""
    left, right = Tile(0, 0, 100, 100, 150, 100), Tile(50, 0, 150, 100, 150, 100)
    same = [(left, [Region("point", ((750, 500),))]), (right, [Region("point", ((250, 500),))])]
    assert len(merge(same)) == 1
    apart = [(left, [Region("point", ((750, 500),))]), (right, [Region("point", ((300, 500),))])]
    assert len(merge(apart)) == 2
    triangle = Region("poly", ((700, 400), (800, 400), (700, 600)))
    moved = Region("poly", ((200, 400), (300, 400), (200, 600)))
    assert len(merge([(left, [triangle]), (right, [moved])])) == 1
