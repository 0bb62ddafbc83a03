"""The task score: what two answers share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmrt.export.gate import QUESTIONS
from gmrt.export.score import Scores, region_f1, word_f1
from gmrt.runtime.points import region

BOXES = [region("box", [(x / 10, 0.1), (x / 10 + 0.1, 0.3)]) for x in range(9)]


def test_captions_share_words_and_classes_are_the_same_or_not() -> None:
    """Guards against a class of three words that counts as two thirds right when it names another thing."""
    scores = Scores()
    scores.add_text(QUESTIONS[0], "two ships in a harbour", "two ships in the harbour")
    scores.add_text(QUESTIONS[1], "sparse residential area", "dense residential area")
    scores.add_text(QUESTIONS[3], "no", "no")
    rows = {row.task: row.agreement for row in scores.rows()}
    assert rows == {"caption": 0.8, "class": 0.0, "yes or no": 1.0}
    assert abs(scores.mean - 0.6) < 1e-9


def test_nothing_compared_is_no_agreement() -> None:
    """Guards against a gate without pictures that passes."""
    assert Scores().mean == 0


def test_places_are_paired_once() -> None:
    """Guards against one region that is found in many: each counts for one."""
    assert region_f1(BOXES[:2], BOXES[:2]) == 1
    assert region_f1(BOXES[:2], [BOXES[0], BOXES[0]]) == 0.5
    assert region_f1(BOXES[:1], []) == 0
    assert region_f1([], []) == 1


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_word_f1_is_symmetric_and_bounded(a: list[str], b: list[str]) -> None:
    """Guards against a score above 1 where a word is repeated."""
    first, second = " ".join(a), " ".join(b)
    assert 0 <= word_f1(first, second) == word_f1(second, first) <= 1
    assert word_f1(first, first) == 1
