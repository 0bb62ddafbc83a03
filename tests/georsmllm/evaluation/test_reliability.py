"""Calibration of confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.evaluation.reliability import reliability_rows, reliability_table


def scores(confidences, right):
    """ECE and AUROC by name."""
    rows = reliability_rows(confidences, right, range(len(right)))
    return {row.name: row.score().value for row in rows}


def test_known_values() -> None:
    """Guards against gaps that cancel each other, and a bin's edge that falls out of all bins."""
    assert scores([1.0, 1.0], [1, 1]) == {"ECE": 0.0}
    both = scores([0.95, 0.95, 0.05, 0.05], [1, 1, 0, 0])
    assert both == {"ECE": pytest.approx(0.05), "AUROC": 1.0}
    turned = scores([0.95, 0.95, 0.05, 0.05], [0, 0, 1, 1])
    assert turned == {"ECE": pytest.approx(0.95), "AUROC": 0.0}
    assert scores([0.5, 0.5], [0, 1])["AUROC"] == 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=60))
def test_auroc_is_the_share_of_pairs_in_order(items: list[tuple[int, bool]]) -> None:
    """Guards against ties counted as a win."""
    sure = [level / 30 for level, _ in items]
    outcome = [float(right) for _, right in items]
    judged = list(zip(sure, outcome, strict=True))
    pairs = [np.sign(a - b) / 2 + 0.5 for a, r in judged for b, w in judged if r and not w]
    if pairs:
        assert scores(sure, outcome)["AUROC"] == pytest.approx(np.mean(pairs))
    else:
        assert "AUROC" not in scores(sure, outcome)


def test_many_confidences_are_ranked_closely_enough() -> None:
    """Guards against ranks so coarse that they move the score."""
    rng = np.random.default_rng(0)
    sure = rng.random(3000)
    outcome = (rng.random(3000) < sure).astype(float)
    right, wrong = sure[outcome == 1], np.sort(sure[outcome == 0])
    exact = np.searchsorted(wrong, right).mean() / len(wrong)
    assert scores(sure, outcome)["AUROC"] == pytest.approx(exact, abs=0.003)
    assert scores(sure, outcome)["ECE"] < 0.06


def test_the_table_holds_every_answer_once() -> None:
    """Guards against a confidence of exactly 1 that is in no bin."""
    table = reliability_table([0.0, 0.1, 0.55, 1.0], [0, 1, 1, 1])
    assert [(row["low"], row["items"]) for row in table] == [(0.0, 1), (0.1, 1), (0.5, 1), (0.9, 1)]
    assert table[2]["confidence"] == 0.55
