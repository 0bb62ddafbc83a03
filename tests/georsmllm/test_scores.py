"""Scores: known values, intervals that mean something, baselines that do not peek."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.scores import (
    caption_rows,
    caption_scores,
    difference,
    majority_baseline,
    mean_row,
    mean_score,
    normalise,
    r2_row,
    ratio_row,
)

REFERENCES = [
    ["it is a piece of farmland", "there is a piece of cropland"],
    ["many boats docked neatly at the harbor", "lots of boats docked in lines at the harbor"],
    ["a straight runway with some mark lines on it"],
]


def test_a_perfect_caption_scores_full_marks() -> None:
    """Guards against answers and references swapped: BLEU of a reference against itself is 1, ROUGE-L too."""
    scores = caption_scores([texts[0] for texts in REFERENCES], REFERENCES)
    assert scores["BLEU-4"].value == pytest.approx(1, abs=1e-6)
    assert scores["ROUGE-L"].value == pytest.approx(1)
    assert scores["CIDEr"].value > 4


def test_cider_is_on_its_raw_scale_and_falls_with_wrong_captions() -> None:
    """Guards against scores read against the wrong image."""
    right = caption_scores([texts[0] for texts in REFERENCES], REFERENCES)
    wrong = caption_scores([REFERENCES[(i + 1) % 3][0] for i in range(3)], REFERENCES)
    assert 0 <= wrong["CIDEr"].value < 0.2 < right["CIDEr"].value <= 10
    assert right["CIDEr"].low <= right["CIDEr"].value <= right["CIDEr"].high


def test_punctuation_and_case_do_not_count() -> None:
    """Guards against "Two." scored wrong where the reference says "two"."""
    assert normalise("It is, a  Storage-tank!") == "it is a storage tank"
    same = caption_scores(["IT IS A PIECE OF FARMLAND.", *(t[0] for t in REFERENCES[1:])], REFERENCES)
    assert same["BLEU-4"].value == pytest.approx(1, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    """Guards against an interval computed over something else than the score."""
    score = mean_score(values, range(len(values)))
    assert score.low - 1e-9 <= score.value <= score.high + 1e-9


def test_questions_about_one_image_stand_or_fall_together() -> None:
    """Guards against intervals too narrow by counting ten questions about one image as ten images."""
    values = [1.0] * 50 + [0.0] * 50
    clustered = mean_score(values, [i // 50 for i in range(100)])
    independent = mean_score(values, range(100))
    assert clustered.high - clustered.low > 2 * (independent.high - independent.low)


def test_the_baseline_does_not_know_its_own_answer() -> None:
    """Guards against a leave-one-out vote that counts the item itself: unique answers must all be wrong."""
    assert majority_baseline(["q"] * 4, ["a", "b", "c", "d"], [0, 1, 2, 3]) == [0.0] * 4
    assert majority_baseline(["q"] * 4, ["a", "a", "a", "d"], [0, 1, 2, 3]) == [1, 1, 1, 0]
    assert majority_baseline(["q", "q"], ["a", "a"], [7, 7]) == [0, 0]


def test_the_baseline_falls_back_on_questions_that_begin_alike() -> None:
    """Guards against a baseline made weak by questions that nobody else asks, which a model has to beat."""
    keys = ["are there more cars than ships", "are there more roads than parks", "how many cars are there"]
    assert majority_baseline(keys, ["no", "no", "3"], [0, 1, 2]) == [1, 1, 0]
    same = ["is it day", "is it day", "is it day or night"]
    assert majority_baseline(same, ["yes", "yes", "day"], [0, 1, 2]) == [1, 1, 0]


def test_bleu_is_that_of_pycocoevalcap() -> None:
    """Guards against a corpus score from our own sums that is not the one that papers report."""
    from pycocoevalcap.bleu.bleu import Bleu

    answers = ["it is a farmland", "many boats docked at a harbor near the harbor", "a runway with some lines"]
    theirs, _ = Bleu(4).compute_score(dict(enumerate(REFERENCES)), {i: [a] for i, a in enumerate(answers)}, verbose=0)
    ours = [row.score().value for row in caption_rows(answers, REFERENCES, range(3))[:4]]
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_ratio_is_pooled_over_images() -> None:
    """Guards against an average of ratios where the ratio of the sums is meant, and against 0 for nothing to find."""
    assert ratio_row("", [2, 0], [2, 6], [0, 1]).score().value == 0.25
    assert ratio_row("", [0, 0], [0, 0], [0, 1]).score().value == 1


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-1, 1)), min_size=3, max_size=20))
def test_r2_is_the_textbook_formula(pairs: list[tuple[float, float]]) -> None:
    """Guards against sums that lose the mean."""
    targets = np.array([target for target, _ in pairs])
    given_ = targets + np.array([error for _, error in pairs])
    spread = ((targets - targets.mean()) ** 2).sum()
    value = r2_row("", targets.tolist(), given_.tolist(), range(len(pairs))).score().value
    if spread > 1e-6:
        assert value == pytest.approx(1 - ((targets - given_) ** 2).sum() / spread, rel=1e-6, abs=1e-6)
    else:
        assert value <= 1


def test_a_difference_of_equal_models_is_nothing() -> None:
    """Guards against pairing by position lost in a sort."""
    values = np.random.default_rng(0).random(40).tolist()
    row = mean_row("", values, range(40))
    score = difference(row, row)
    assert (score.value, score.low, score.high) == (0, 0, 0)


def test_a_difference_is_paired() -> None:
    """Guards against two intervals side by side where items that are hard for both models should cancel out."""
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    first, second = mean_row("", hard, range(200)), mean_row("", hard - 0.05, range(200))
    gap = difference(first, second)
    assert gap.low == pytest.approx(0.05)
    assert gap.high == pytest.approx(0.05)
    assert first.score().low < second.score().high


def test_images_that_one_row_lacks_count_nothing_for_it() -> None:
    """Guards against a difference that shifts all images behind a missing one."""
    first, second = mean_row("", [1, 0, 1], [0, 4, 9]), mean_row("", [0, 1], [4, 9])
    assert difference(first, second).value == pytest.approx(2 / 3 - 1 / 2)
