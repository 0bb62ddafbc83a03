"""Samplers draw what they say they draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.sampling import greedy, make_sampler

ROW = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))


def frequencies(draws: int = 1500, **options: float) -> np.ndarray:
    """How often each of four tokens is drawn from `ROW`."""
    sampler = make_sampler(seed=1, **options)  # type: ignore[arg-type]
    return np.bincount([sampler(ROW) for _ in range(draws)], minlength=4) / draws


def test_greedy_takes_the_likeliest() -> None:
    """Guards against a temperature of 0 that divides by zero or draws."""
    assert make_sampler(temperature=0) is greedy
    assert greedy(np.array([1, 3, 3, 2], np.float32)) == 1


def test_temperature_one_draws_the_models_own_distribution() -> None:
    """Guards against a bias in the cumulative draw, such as never taking the last token."""
    np.testing.assert_allclose(frequencies(temperature=1), np.exp(ROW), atol=0.05)


def test_temperature_sharpens_and_flattens() -> None:
    """Guards against a temperature that works the wrong way round."""
    assert frequencies(temperature=0.2)[0] > 0.9
    assert frequencies(temperature=100)[0] < 0.3
    assert frequencies(temperature=1e-9)[0] == 1


def test_top_k_and_top_p_keep_the_fewest() -> None:
    """Guards against a nucleus that leaves out the token that reaches the share, or takes one more."""
    np.testing.assert_allclose(frequencies(temperature=1, top_k=2), [2 / 3, 1 / 3, 0, 0], atol=0.05)
    np.testing.assert_allclose(frequencies(temperature=1, top_p=0.6), [2 / 3, 1 / 3, 0, 0], atol=0.05)
    np.testing.assert_allclose(frequencies(temperature=1, top_p=0.4), [1, 0, 0, 0], atol=0)
    # The share counts among the tokens that top_k left: 0.5 / 0.9 + 0.25 / 0.9 does not reach 0.9.
    np.testing.assert_allclose(frequencies(temperature=1, top_k=3, top_p=0.9), [5 / 9, 2.5 / 9, 1.5 / 9, 0], atol=0.05)


def test_same_seed_same_tokens() -> None:
    """Guards against a hidden global state: a run must be repeatable, and another seed another run."""
    runs = [[sampler(ROW) for _ in range(50)] for sampler in (make_sampler(temperature=1, seed=s) for s in (7, 7, 8))]
    assert runs[0] == runs[1] != runs[2]


@settings(max_examples=40, deadline=None)
@given(
    row=st.lists(st.floats(-50, 50, width=32) | st.just(-np.inf), min_size=2, max_size=30),
    temperature=st.floats(0, 10),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 5),
)
def test_never_draws_what_is_not_allowed(row: list[float], temperature: float, top_p: float, top_k: int) -> None:
    """Guards against a constraint that sampling walks around, and against touching the row."""
    logits = np.array([*row, 0], np.float32)
    before = logits.copy()
    sampler = make_sampler(temperature=temperature, top_p=top_p, top_k=top_k)
    for _ in range(5):
        assert np.isfinite(logits[sampler(logits)])
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}, {"seed": -1}],
)
def test_numbers_out_of_range(options: dict[str, float]) -> None:
    """Guards against a sampler that fails, or quietly does something else, at the tenth token."""
    with pytest.raises(ConstraintError, match="expected a temperature"):
        make_sampler(**options)  # type: ignore[arg-type]
