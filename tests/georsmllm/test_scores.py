"""Scores: known values, intervals that mean something, baselines that do not peek."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.scores import (
    caption_scores,
    majority_baseline,
    mean_score,
    normalise,
    paired_difference,
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


def test_a_paired_difference_of_equal_models_is_nothing() -> None:
    """Guards against pairing by position lost in a sort."""
    values = np.random.default_rng(0).random(40).tolist()
    score = paired_difference(values, values, range(40))
    assert (score.value, score.low, score.high) == (0, 0, 0)
