"""Weights whose products fit 16 bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gmrt.export.fitting import PAIR, TOP, fitting_codes, fitting_weights

WEIGHTS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.floats(-300, 300, width=32)
)


def pair_sums(codes: np.ndarray) -> np.ndarray:
    """The largest sum that a pair can reach: of its positive codes, or of its negative ones."""
    padded = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2))).reshape(len(codes), -1, 2)
    return np.maximum(np.maximum(padded, 0).sum(axis=-1), np.maximum(-padded, 0).sum(axis=-1))


@given(WEIGHTS)
def test_no_pair_overflows(values: np.ndarray) -> None:
    """Guards against one pair in a million, which is a wrong feature in the field and in no test."""
    codes = fitting_codes(values)
    assert codes.shape == values.shape
    assert np.abs(codes).max() <= TOP
    assert (codes == np.round(codes)).all()
    assert pair_sums(codes).max() <= PAIR
    assert (codes * np.clip(np.round(values), -TOP, TOP) >= 0).all()  # no code turns its sign


@given(WEIGHTS)
def test_what_fits_is_left_alone(values: np.ndarray) -> None:
    """Guards against a loss where there is nothing to fit."""
    small = np.clip(values, -PAIR // 2, PAIR // 2)
    np.testing.assert_array_equal(fitting_codes(small), np.round(small))


def test_fitting_loses_little() -> None:
    """Guards against seven bits by another name: under twice the noise of 8 bits, where 7 have four times."""
    weight = np.random.default_rng(0).normal(size=(32, 192)).astype(np.float32)
    values, scales = fitting_weights(weight)
    codes = values / scales[:, None]
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
    assert pair_sums(np.round(codes)).max() <= PAIR
    plain = np.abs(weight).max(axis=1, keepdims=True) / TOP
    noise = np.square(np.round(weight / plain) * plain - weight).sum()
    assert np.square(values - weight).sum() < 2 * noise


def test_a_channel_of_zeros_stays() -> None:
    """Guards against a division by zero in a pruned channel."""
    values, scales = fitting_weights(np.zeros((2, 4), np.float32))
    assert not values.any()
    assert (scales > 0).all()
