"""The table of confidence: fitted so that it means what it says, read so that nothing wrong passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.calibration.confidence import fit_confidence, load_confidence, save_confidence
from gmrt.runtime.confidence import apply_knots, read_knots
from gmrt.runtime.errors import GmrtError


def overconfident(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Certainties, and answers that are right as often as the square of the certainty."""
    rng = np.random.default_rng(seed)
    certainties = rng.uniform(0.3, 1, count)
    return certainties, (rng.random(count) < certainties**2).astype(float)


def test_the_table_means_what_it_says_on_new_answers() -> None:
    """Guards against a table fitted upside down or to noise: the calibration error of new answers must fall."""
    knots = fit_confidence(*overconfident(0, 2000))
    certainties, right = overconfident(1, 2000)
    said = np.array([apply_knots(float(c), knots) for c in certainties])
    assert np.abs(said - certainties**2).mean() < 0.04
    assert abs(said.mean() - right.mean()) < 0.03


@given(seed=st.integers(0, 999), count=st.integers(100, 400), levels=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_fitted_table_is_one_that_is_read(seed: int, count: int, levels: int) -> None:
    """Guards against ties, falling shares and sets of all right or all wrong answers making a table that is refused."""
    rng = np.random.default_rng(seed)
    certainties = rng.integers(0, levels + 1, count) / levels
    knots = fit_confidence(certainties, (rng.random(count) < rng.random()).astype(float))
    assert read_knots([list(knot) for knot in knots]) == knots
    said = [apply_knots(float(c), knots) for c in np.linspace(0, 1, 50)]
    assert all(0 < share < 1 for share in said)
    assert said == sorted(said)


def test_without_a_table_the_certainty_stays() -> None:
    """Guards against bundles without a table saying something else than before."""
    assert apply_knots(0.37, ()) == 0.37


@pytest.mark.parametrize(
    "data",
    [
        "text",
        {"a": 1},
        [[0.1]],
        [[0.1, 0.2, 0.3]],
        [[0.1, 2]],
        [[0.1, True]],
        [[float("nan"), 0.5]],
        [[0.5, 0.1], [0.5, 0.2]],
        [[0.1, 0.5], [0.2, 0.4]],
        [[n / 100, 0.5] for n in range(70)],
    ],
)
def test_a_table_that_is_none_is_refused(data: object) -> None:
    """Guards against an untrusted manifest turning confidence into anything."""
    with pytest.raises((ValueError, TypeError)):
        read_knots(data)


def test_the_table_is_used_with_its_own_weights_only(tmp_path: Path) -> None:
    """Guards against a table that outlives the training it was fitted after."""
    assert load_confidence(tmp_path, "abc") == ()
    knots = ((0.2, 0.1), (0.9, 0.8))
    save_confidence(tmp_path, knots, answers=200, source="validation", checkpoint="abc")
    assert load_confidence(tmp_path, "abc") == knots
    assert load_confidence(tmp_path, "other") == ()
    (tmp_path / "confidence.json").write_text("[", encoding="utf-8")
    with pytest.raises(GmrtError, match="fit it again"):
        load_confidence(tmp_path, "abc")


def test_too_few_answers_are_refused() -> None:
    """Guards against a table from a handful of answers, or from lists that do not belong together."""
    with pytest.raises(GmrtError, match="100 or more"):
        fit_confidence([0.5] * 50, [1.0] * 50)
    with pytest.raises(GmrtError, match="100 or more"):
        fit_confidence([0.5] * 200, [1.0] * 199)
    with pytest.raises(GmrtError, match="from 0 to 1"):
        fit_confidence([1.5] * 200, [1.0] * 200)
