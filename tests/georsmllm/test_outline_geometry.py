"""Areas, overlaps, rotated boxes and simplified outlines, against other ways to work them out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm import shapes
from gmrt.georsmllm.shapes import FloatArray

PROPERTY = settings(max_examples=100, deadline=None)
POSITION = st.floats(0, 1, width=32)


def clipped(subject: FloatArray, clip: FloatArray) -> float:
    """Area of the intersection of two convex outlines, clockwise (Sutherland and Hodgman 1974)."""
    for a, b in zip(clip, np.roll(clip, -1, axis=0), strict=True):
        inside = (b[0] - a[0]) * (subject[:, 1] - a[1]) - (b[1] - a[1]) * (subject[:, 0] - a[0])
        kept = []
        for i, point in enumerate(subject):
            if inside[i] * inside[i - 1] < 0:
                kept.append(subject[i - 1] + (point - subject[i - 1]) * inside[i - 1] / (inside[i - 1] - inside[i]))
            if inside[i] >= 0:
                kept.append(point)
        if len(kept) < 3:
            return 0.0
        subject = np.array(kept)
    return shapes.area(subject)


def turned(points: FloatArray, angle: float) -> FloatArray:
    """Points turned about the middle of the image."""
    cosine, sine = math.cos(angle), math.sin(angle)
    result: FloatArray = (points - 0.5) @ np.array([(cosine, sine), (-sine, cosine)]) + 0.5
    return result


@st.composite
def convex(draw: st.DrawFn) -> FloatArray:
    """A convex outline that is not next to nothing."""
    corners = shapes.hull(np.array(draw(st.lists(st.tuples(POSITION, POSITION), min_size=3, max_size=8))))
    if len(corners) < 3 or shapes.area(corners) < 1e-3:
        corners = shapes.box_outline(0.2, 0.2, 0.6, 0.7)
    return corners


def star(corners: int, inner: float) -> FloatArray:
    """A star about the middle of the image, concave."""
    angles = np.linspace(0, 2 * np.pi, 2 * corners, endpoint=False)
    radii = np.where(np.arange(2 * corners) % 2, inner, 0.4)
    return 0.5 + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]


@PROPERTY
@given(convex(), convex())
def test_overlap_of_convex_outlines(a: FloatArray, b: FloatArray) -> None:
    """Guards against a slab that is missed or counted twice: compared with clipping, an unrelated method."""
    first, second, both = shapes.areas(a, b)
    assert both == pytest.approx(clipped(a, b), abs=1e-6)
    assert (first, second) == pytest.approx((shapes.area(a), shapes.area(b)), abs=1e-6)


@PROPERTY
@given(convex(), st.integers(3, 8), st.floats(0.1, 0.35), st.floats(0, 6))
def test_overlap_with_a_concave_outline(a: FloatArray, corners: int, inner: float, angle: float) -> None:
    """Guards against a method that is right for convex shapes only: the star is the sum of its triangles."""
    b = star(corners, inner)
    middle = np.array([(0.5, 0.5)])
    parts = [np.concatenate([middle, b[[i - 1, i]]]) for i in range(len(b))]
    assert shapes.areas(a, b)[2] == pytest.approx(sum(clipped(part, a) for part in parts), abs=1e-6)
    moved = shapes.areas(turned(a, angle), turned(b, angle))
    assert moved == pytest.approx(shapes.areas(a, b), abs=1e-6)


def test_overlaps_known_by_hand() -> None:
    """Guards against wrong answers where edges coincide, touch, or cross themselves."""
    box = shapes.box_outline(0, 0, 2, 2)
    assert shapes.iou(box, box[::-1]) == 1
    assert shapes.iou(box, shapes.box_outline(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert shapes.iou(box, shapes.box_outline(2, 0, 4, 2)) == 0
    letter = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)], dtype=float)
    assert shapes.areas(letter, box) == pytest.approx((3, 4, 3))
    assert shapes.areas(letter, shapes.box_outline(1, 1, 2, 2))[2] == pytest.approx(0)
    bow_tie = np.array([(0, 0), (2, 2), (2, 0), (0, 2)], dtype=float)
    assert shapes.areas(bow_tie, box) == pytest.approx((2, 4, 2))


def test_outlines_without_area() -> None:
    """Guards against 0 / 0: a line agrees with itself alone."""
    line = np.array([(0.1, 0.1), (0.5, 0.5), (0.3, 0.3)])
    assert shapes.iou(line, line) == 1
    assert shapes.iou(line, line + 0.1) == 0
    assert shapes.iou(line, shapes.box_outline(0, 0, 1, 1)) == 0


@PROPERTY
@given(st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.floats(0, math.pi))
def test_a_rotated_box_is_found_again(width: float, height: float, angle: float) -> None:
    """Guards against a box that is turned the wrong way: its own corners and points inside must give it back."""
    truth = turned(shapes.box_outline(0.5 - width, 0.5 - height, 0.5 + width, 0.5 + height), angle)
    inside = (truth + 0.5) / 2
    found = shapes.minimal_rotated_box(np.concatenate([inside, truth]))
    assert found == pytest.approx(shapes.ordered(truth), abs=1e-6)


@PROPERTY
@given(st.lists(st.tuples(POSITION, POSITION), min_size=1, max_size=12))
def test_a_rotated_box_holds_all_points_and_is_small(points: list[tuple[float, float]]) -> None:
    """Guards against a box that cuts points off, is larger than the upright one, or fails on one point or a line."""
    cloud = np.array(points, dtype=np.float64)
    found = shapes.minimal_rotated_box(cloud)
    assert found.shape == (4, 2)
    upright = np.prod(np.ptp(cloud, axis=0))
    corners = shapes.hull(cloud)
    assert (shapes.area(corners) if len(corners) > 2 else 0) - 1e-9 <= shapes.area(found) <= upright + 1e-9
    sides = np.roll(found, -1, axis=0) - found
    for point in cloud:
        to = point - found
        assert (sides[:, 0] * to[:, 1] - sides[:, 1] * to[:, 0]).min() > -1e-9  # right of every side: inside


@PROPERTY
@given(convex(), st.integers(0, 7), st.booleans())
def test_one_outline_is_written_in_one_way(outline: FloatArray, start: int, backwards: bool) -> None:
    """Guards against an answer that depends on where a labeller began, and in which direction."""
    other = np.roll(outline, start, axis=0)
    assert np.array_equal(shapes.ordered(other[::-1] if backwards else other), shapes.ordered(outline))


def test_order_begins_at_the_top_left_and_goes_clockwise() -> None:
    """Guards against corners that run the other way than the documentation says."""
    corners = shapes.ordered(np.array([(1, 1), (1, 0), (0, 0), (0, 1)], dtype=float))
    assert corners.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("most", [8, 12, 20])
def test_a_circle_is_kept_with_few_corners(most: int) -> None:
    """Guards against a simplification that eats the shape: a regular n-gon in a circle is the best there is."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    circle = 0.5 + 0.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    few = shapes.simplify(circle, most)
    best = most / (2 * np.pi) * math.sin(2 * np.pi / most)
    assert len(few) == most
    assert shapes.iou(few, circle) > best - 0.03


def test_corners_that_say_nothing_go() -> None:
    """Guards against tokens spent on points in the middle of a straight side, and against losing one that matters."""
    square = np.array([(0, 0), (0.5, 0), (1, 0), (1, 1), (0.4, 1), (0, 1)], dtype=float)
    assert shapes.simplify(square, 12).tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    letter = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)], dtype=float)
    assert len(shapes.simplify(letter, 12)) == 6
    assert len(shapes.simplify(letter, 3)) == 3


def test_distance_between_outlines() -> None:
    """Guards against a distance from corner to corner where the nearest point is on a side."""
    wall = shapes.box_outline(0, 0, 1, 10)
    assert shapes.distance(wall, np.array([(3, 5), (6, 4), (6, 6)], dtype=float)) == pytest.approx(2)
    assert shapes.distance(wall, shapes.box_outline(4, 14, 5, 15)) == pytest.approx(5)
    assert shapes.contains(wall, (0.5, 9.5))
    assert not shapes.contains(wall, (1.5, 9.5))
