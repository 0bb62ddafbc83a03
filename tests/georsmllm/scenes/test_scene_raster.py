"""Polygons to pixels: areas, shadows and clipping agree with geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.scenes.raster import STRIPS, area_of, clip, coverage, edges_of, fill, frame, mask_patch, swept
from gmrt.georsmllm.scenes.shapes import disc, rectangle, turned

SIZE = 64
boxes = st.tuples(
    st.floats(20, 44), st.floats(20, 44), st.floats(2, 24), st.floats(2, 24), st.floats(0, math.pi, exclude_max=True)
)


def box(x: float, y: float, length: float, width: float, angle: float) -> np.ndarray:
    """A turned box."""
    return turned(rectangle(length, width), angle) + np.array([x, y])


@given(boxes)
@example((32.4, 30.3, 20.0, 0.05, math.pi / 2))
@settings(max_examples=40, deadline=None)
def test_coverage_has_the_polygons_area(shape):
    """Guards against antialiasing that loses or invents area, and against a wrong half-pixel."""
    points = box(*shape)
    patch = coverage(points, SIZE, SIZE)
    assert patch.planes.sum() == pytest.approx(area_of(points), rel=1e-4)
    rows, columns = np.mgrid[patch.rows, patch.columns] + 0.5
    total = patch.planes[0].sum()
    assert (columns * patch.planes[0]).sum() / total == pytest.approx(shape[0], abs=0.2)
    assert (rows * patch.planes[0]).sum() / total == pytest.approx(shape[1], abs=0.2)


@given(boxes, st.booleans())
@settings(max_examples=25, deadline=None)
def test_turning_a_polygon_round_changes_nothing(shape, backwards):
    """Guards against coverage that depends on the order in which the corners come."""
    points = box(*shape)
    there, back = coverage(points, SIZE, SIZE), coverage(points[::-1] if backwards else points, SIZE, SIZE)
    assert np.allclose(there.planes, back.planes, atol=1e-5)


@given(boxes)
@settings(max_examples=25, deadline=None)
def test_mask_and_coverage_agree(shape):
    """Guards against a place that is kept free by one rule and painted by another."""
    points = box(*shape)
    painted = np.zeros((SIZE, SIZE))
    patch = coverage(points, SIZE, SIZE)
    painted[patch.rows, patch.columns] = patch.planes[0]
    rows, columns, inside = mask_patch(points, SIZE, SIZE)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = inside
    # A right angle on a pixel's centre covers a quarter, a straight edge through it a half; a steep edge is drawn in
    # steps that are wrong by at most half a strip.
    step = 0.5 / STRIPS
    assert (painted[mask] > 0.25 - step - 1e-4).all()
    assert (painted[~mask] < 0.5 + step + 1e-4).all()


def test_a_polygon_over_everything_fills_everything():
    """Guards against edges far outside the picture that are dropped together with what they enclose."""
    assert (coverage(rectangle(900, 700, 30, 20), 48, 64).planes == 1).all()
    rows, columns, inside = mask_patch(rectangle(900, 700, 30, 20), 48, 64)
    assert inside.shape == (48, 64) == (rows.stop, columns.stop)
    assert inside.all()


def test_a_batch_keeps_its_weights_apart():
    """Guards against weights that leak from one polygon of a batch to another."""
    points = np.concatenate([rectangle(10, 10, 10, 10), rectangle(10, 10, 30, 30)[::-1]])
    patch = fill(edges_of(points, np.array([4, 4])), np.array([[1.0, 7.0], [0.5, 3.0]]), SIZE, SIZE)
    sums = patch.planes.sum(axis=(1, 2))
    assert sums == pytest.approx([100 + 50, 700 + 300], rel=1e-4)


def hull(points: np.ndarray) -> np.ndarray:
    """Convex hull (Andrew 1979)."""
    ordered = sorted(map(tuple, points.tolist()))

    def chain(path: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in path:
            while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (y - kept[-2][1]) <= (
                (kept[-1][1] - kept[-2][1]) * (x - kept[-2][0])
            ):
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


@given(boxes, st.floats(-12, 12), st.floats(-12, 12))
@example((20.0, 20.0, 2.78125, 2.0, 0.0), 0.0, 5.0)
@example((20.0, 20.0, 24.0, 24.0, 1.109375), -10.0, -12.0)
@settings(max_examples=40, deadline=None)
def test_sweep_of_a_box_is_its_hull(shape, dx, dy):
    """Guards against a shadow with holes in it, or one that points the wrong way."""
    points = box(*shape) + SIZE / 2  # the whole sweep is in the picture
    patch = fill(swept(points, np.array([4]), np.array([[dx, dy]])), np.ones((1, 1)), 2 * SIZE, 2 * SIZE)
    whole = hull(np.concatenate([points, points + np.array([dx, dy])]))
    assert np.minimum(patch.planes, 1).sum() == pytest.approx(area_of(whole), rel=1e-4)


@given(st.floats(-10, 74), st.floats(-10, 74), st.floats(3, 30))
@settings(max_examples=40, deadline=None)
def test_clip_keeps_what_is_inside(x, y, radius):
    """Guards against an outline that leaves the picture, or loses a part that is in it."""
    points = disc(radius, x, y, count=24)
    inside = clip(points, frame(SIZE, SIZE))
    patch = coverage(points, SIZE, SIZE)
    if len(inside):
        assert inside.min() >= -1e-9
        assert inside.max() <= SIZE + 1e-9
        # Each of two edges that the frame cuts within a strip may be off by an eighth of what it rises there.
        edge = 2 * radius * math.sin(math.pi / 24) * 1.01
        assert area_of(inside) == pytest.approx(patch.planes.sum(), rel=1e-4, abs=2 * edge / STRIPS / 8 + 1e-3)
    else:
        assert patch.planes.sum() < 1e-3
