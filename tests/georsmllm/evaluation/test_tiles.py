"""Asking tile by tile: the desk's regions through the field's merge."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.geometry import overlap
from gmrt.georsmllm.evaluation.tiles import merge, tiles_of
from gmrt.runtime.points import Region, region


def test_a_small_image_is_one_tile() -> None:
    """Guards against tiles of nothing."""
    assert tiles_of(100, 80, 256) == [(0, 0, 100, 80)]
    assert len(tiles_of(640, 512, 256)) == 4 * 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 900), st.integers(0, 900), st.integers(20, 90), st.integers(20, 90))
def test_a_box_seen_by_many_tiles_is_one_box(x: int, y: int, width: int, height: int) -> None:
    """Guards against the same car counted by every tile that sees it, and against coordinates of another frame."""
    x, y = min(x, 1000 - width - 1), min(y, 1000 - height - 1)
    found = []
    for tile in tiles_of(1000, 1000, 400):
        corners = np.array([[x, y], [x + width, y + height]], float)
        inside = np.clip((corners - tile[:2]) / tile[2:], 0, 0.9999)
        # A tile tells of what it sees at least two thirds of, as the model is taught to.
        share = np.prod((inside[1] - inside[0]) * 400) / (width * height)
        found.append((tile, [region("box", inside)] if share > 2 / 3 else []))
    (merged,) = merge(found, 1000, 1000)
    assert overlap(merged, region("box", [(x / 1000, y / 1000), ((x + width) / 1000, (y + height) / 1000)])) > 0.75


def test_points_and_polygons_merge_too() -> None:
    """Guards against a merge that knows boxes only."""
    left, right = (0, 0, 100, 100), (50, 0, 100, 100)
    same = [(left, [Region("point", ((750, 500),))]), (right, [Region("point", ((250, 500),))])]
    assert merge(same, 150, 100) == [Region("point", ((500, 500),))]
    triangle = Region("poly", ((700, 400), (800, 400), (700, 600)))
    moved = Region("poly", ((200, 400), (300, 400), (200, 600)))
    assert len(merge([(left, [triangle]), (right, [moved])], 150, 100)) == 1
