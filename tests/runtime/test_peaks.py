"""From maps to regions: what is drawn into maps comes back, once, in order, and in the form that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.peaks import CORNERS, GEOMETRY, find_regions
from gmrt.runtime.points import KINDS, Kind

SIDE = 32
LOW, HIGH = -9.0, 3.0

Box = tuple[float, float, float, float]


def drawn(boxes: list[Box], score: float = HIGH) -> tuple[np.ndarray, np.ndarray]:
    """Maps [SIDE, SIDE] and [GEOMETRY, SIDE, SIDE] that hold boxes (centre x, y, width, height in 0…1)."""
    maps, shapes = np.full((SIDE, SIDE), LOW, np.float32), np.zeros((GEOMETRY, SIDE, SIDE), np.float32)
    for x, y, wide, high in boxes:
        row, column = int(y * SIDE), int(x * SIDE)
        maps[row, column] = score
        shapes[:, row, column] = [
            x * SIDE - column,
            y * SIDE - row,
            math.log(wide * SIDE),
            math.log(high * SIDE),
            math.log(max(wide, high) * SIDE),
            math.log(min(wide, high) * SIDE),
            1.0 if wide >= high else -1.0,
            0.0,
            -1.0,
        ]
    return maps, shapes


sizes = st.floats(0.05, 0.3)
boxes = st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8), sizes, sizes)


@settings(max_examples=60, deadline=None)
@given(boxes, st.sampled_from(KINDS), st.booleans())
def test_what_is_drawn_is_found(box: Box, kind: Kind, single: bool) -> None:
    """Guards against x and y that change places, and against sizes that are halved or doubled on the way."""
    found = find_regions(*drawn([box]), 1.0 if single else -1.0, kind)
    (region,) = found.regions
    assert region.kind == kind
    x, y, wide, high = box
    x0, y0, x1, y1 = region.bounds
    assert ((x0 + x1) / 2000, (y0 + y1) / 2000) == pytest.approx((x, y), abs=2e-3)
    if kind != "point":
        assert ((x1 - x0) / 1000, (y1 - y0) / 1000) == pytest.approx((wide, high), abs=3e-3)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.floats(0, math.pi))
def test_a_turned_rectangle_keeps_its_angle(x: float, y: float, angle: float) -> None:
    """Guards against an angle that is read with the wrong sign, in rows that grow downwards."""
    maps, shapes = drawn([(x, y, 0.3, 0.3)])
    shapes[4:8, int(y * SIDE), int(x * SIDE)] = [
        math.log(0.3 * SIDE),
        math.log(0.05 * SIDE),
        math.cos(2 * angle),
        math.sin(2 * angle),
    ]
    (region,) = find_regions(maps, shapes, -1.0, "obb").regions
    corners = np.array(region.points) / 1000
    sides = np.roll(corners, -1, axis=0) - corners
    long = sides[int(np.argmax(np.hypot(*sides.T)))]
    between = (math.atan2(long[1], long[0]) - angle) % math.pi
    assert min(between, math.pi - between) < 0.06
    assert np.hypot(*long) == pytest.approx(0.3, abs=5e-3)


def test_a_set_comes_in_reading_order_and_a_double_once() -> None:
    """Guards against answers whose order hangs on scores, and against one thing that is counted twice."""
    apart = [(0.8, 0.1, 0.1, 0.1), (0.2, 0.12, 0.1, 0.1), (0.5, 0.6, 0.2, 0.2)]
    found = find_regions(*drawn([*apart, (0.5, 0.6 + 2 / SIDE, 0.2, 0.22)]), -1.0, "point")
    assert [round(region.points[0][0] / 100) for region in found.regions] == [2, 8, 5]
    assert len(found.scores) == 3


def test_nothing_above_the_threshold_is_none_and_the_one_is_always_there() -> None:
    """Guards against "none" for the X that is surely there, and against a place for what is not."""
    maps, shapes = drawn([(0.4, 0.4, 0.1, 0.1)], score=-2.0)
    empty = find_regions(maps, shapes, -1.0, "box")
    assert empty.regions == ()
    assert 0.8 < empty.confidence < 1
    one = find_regions(maps, shapes, 1.0, "box")
    assert len(one.regions) == 1
    assert 0 < one.confidence <= 1


def test_the_best_are_kept() -> None:
    """Guards against max_regions that keeps the first in reading order instead of the surest."""
    maps, shapes = drawn([(0.2, 0.2, 0.1, 0.1), (0.8, 0.8, 0.1, 0.1)])
    maps[int(0.8 * SIDE), int(0.8 * SIDE)] = HIGH + 1
    (region,) = find_regions(maps, shapes, -1.0, "point", 1).regions
    assert region.points[0][0] > 700


@pytest.mark.parametrize("kind", KINDS)
def test_wild_numbers_still_give_well_formed_regions(kind: Kind) -> None:
    """Guards against a traceback, or corners outside the grid, from a model that is badly trained."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(SIDE, SIDE)).astype(np.float32) * 5
    shapes = rng.normal(size=(GEOMETRY, SIDE, SIDE)).astype(np.float32) * 50
    found = find_regions(maps, shapes, -1.0, kind)
    assert 0 < len(found.regions) <= 100


@settings(max_examples=40, deadline=None)
@given(boxes, st.floats(0, math.pi))
def test_a_round_thing_has_a_round_outline(box: Box, angle: float) -> None:
    """Guards against an ellipse that is turned the other way, or too small by what its corners cut off."""
    maps, shapes = drawn([box])
    x, y, *_ = box
    shapes[4:, int(y * SIDE), int(x * SIDE)] = [
        math.log(0.3 * SIDE),
        math.log(0.2 * SIDE),
        math.cos(2 * angle),
        math.sin(2 * angle),
        1.0,
    ]
    shapes[2:4, int(y * SIDE), int(x * SIDE)] = math.log(SIDE)  # so large that the turned outline saves much
    (region,) = find_regions(maps, shapes, -1.0, "poly").regions
    points = np.array(region.points) / 1000
    assert len(points) == CORNERS
    if ((points > 0.001) & (points < 0.998)).all():
        right, down = points.T
        following_right, following_down = np.roll(right, -1), np.roll(down, -1)
        area = abs((right * following_down - following_right * down).sum()) / 2
        assert area == pytest.approx(math.pi * 0.15 * 0.1, rel=0.03)
        along = (points - points.mean(axis=0)) @ np.array([math.cos(angle), math.sin(angle)])
        assert np.ptp(along) == pytest.approx(0.3, abs=0.01)
    (region,) = find_regions(maps, shapes, -1.0, "obb").regions
    assert len(region.points) == 4
