"""Scores of location answers."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.geometry import (
    POINT_REACH,
    count_error,
    count_exact,
    found,
    match,
    mean_iou,
    overlap,
    overlaps,
    read_regions,
    set_f1,
)
from gmrt.georsmllm.evaluation.scores import mean_score
from gmrt.runtime.points import Region

CELL = st.integers(0, 999)


def box(x0: int, y0: int, x1: int, y1: int) -> Region:
    """An upright box."""
    return Region("box", ((x0, y0), (x1, y1)))


@st.composite
def boxes(draw: st.DrawFn) -> Region:
    """A box with an area."""
    x0, y0 = draw(st.integers(0, 900)), draw(st.integers(0, 900))
    return box(x0, y0, x0 + draw(st.integers(1, 99)), y0 + draw(st.integers(1, 99)))


@settings(max_examples=200, deadline=None)
@given(boxes(), boxes())
def test_overlap_of_boxes_is_the_textbook_formula(a: Region, b: Region) -> None:
    """Guards against a general method that is off for the commonest kind, and against kinds that disagree."""
    (ax0, ay0), (ax1, ay1) = a.points
    (bx0, by0), (bx1, by1) = b.points
    both = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - both
    assert overlap(a, b) == pytest.approx(both / union, abs=1e-9)
    as_polygon = Region("poly", ((bx1, by1), (bx0, by1), (bx0, by0), (bx1, by0)))
    assert overlap(a, as_polygon) == pytest.approx(both / union, abs=1e-9)
    assert overlap(a, a) == pytest.approx(1)


def test_points_agree_by_distance() -> None:
    """Guards against points that can never be right, for they have no area."""
    here = Region("point", ((500, 500),))
    assert overlap(here, here) == 1
    assert overlap(here, Region("point", ((500, 500 + POINT_REACH),))) == 0.5
    assert overlap(here, Region("point", ((500, 700),))) == 0
    assert overlap(here, box(400, 400, 600, 600)) == 0


def test_a_referring_answer_is_one_region() -> None:
    """Guards against credit for naming everything in the image, and for no answer at all."""
    truth = (box(100, 100, 200, 200),)
    near, far = box(110, 100, 200, 200), box(500, 500, 600, 600)
    assert found(truth, (near,)) == 1
    assert found(truth, (far,)) == 0
    assert found(truth, (near, far)) == 0
    assert found(truth, ()) == 0
    assert found(truth, None) == 0
    assert mean_iou(truth, (near,)) == pytest.approx(0.9)


def test_f1_of_sets_by_hand() -> None:
    """Guards against a wanted region that is hit twice, and against "none" that is never right."""
    a, b, far = box(0, 0, 100, 100), box(300, 300, 400, 400), box(800, 800, 900, 900)
    assert set_f1((a, b), (b, a)) == 1
    assert set_f1((a, b), (a,)) == pytest.approx(2 / 3)
    assert set_f1((a,), (a, a)) == pytest.approx(2 / 3)
    assert set_f1((a, b), (far,)) == 0
    assert set_f1((), ()) == 1
    assert set_f1((), (far,)) == 0
    assert set_f1((), None) == 0
    assert set_f1((a,), None) == 0
    assert mean_iou((a, b), (a,)) == 0.5


@settings(max_examples=100, deadline=None)
@given(st.lists(boxes(), max_size=4), st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), max_size=4))
def test_greedy_pairing_is_as_good_as_any(wanted: list[Region], shifts: list[tuple[int, int]]) -> None:
    """Guards against a pairing that loses hits: for disjoint truth, greedy must equal the best of all pairings."""
    disjoint: list[Region] = []
    for region in wanted:
        if not overlaps(disjoint, [region]).any():
            disjoint.append(region)
    pairs = zip(disjoint, shifts, strict=False)
    given_ = [box(*np.clip(np.ravel(r.points) + np.tile(s, 2), 0, 999).tolist()) for r, s in pairs]
    table = overlaps(disjoint, given_) > 0.5
    small, large = sorted(table.shape)
    table = table if table.shape[0] == small else table.T
    best = max(sum(table[i, j] for i, j in enumerate(order)) for order in permutations(range(large), small))
    exactly_half = sum(pair == 0.5 for pair in match(disjoint, given_).pairs)
    assert match(disjoint, given_).hits - exactly_half == best


def test_members_give_the_pooled_f1_with_an_interval() -> None:
    """Guards against an average over images where papers report one over all regions."""
    a, b = box(0, 0, 100, 100), box(300, 300, 400, 400)
    items = [match((a, b), (a, b)), match((a,), (b, b)), match((), ())]
    members = [item.members for item in items]
    values = [value for each in members for value in each]
    groups = [number for number, each in enumerate(members) for _ in each]
    score = mean_score(values, groups)
    assert score.value == pytest.approx(2 * 2 / (4 + 3))
    assert score.low < score.value < score.high


def test_what_is_no_location_is_told_from_none() -> None:
    """Guards against a caption in the place of a location that counts as "nothing there"."""
    assert read_regions("none") == ()
    assert read_regions("<box> 1 2 3 4") == (box(1, 2, 3, 4),)
    assert read_regions("a river") is None
    assert read_regions("<box> 1 2 3") is None


def test_counts() -> None:
    """Guards against an answer without a number that is taken for exact."""
    assert (count_error(3, "5"), count_exact(3, "5")) == (2, 0)
    assert (count_error(3, "there are 3 ships"), count_exact(3, "3")) == (0, 1)
    assert (count_error(0, "many"), count_exact(0, "many")) == (0, 0)
    assert (count_error(4, "two ships"), count_exact(2, "Two.")) == (2, 1)
