"""GPTQ against rounding to nearest, on products whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from gmrt.calibration.blocks import quantise_blocks
from gmrt.calibration.gptq import gptq

RNG = np.random.default_rng(0)


def correlated(rows: int, columns: int) -> np.ndarray:
    """Inputs [rows, columns] as a decoder's are: some channels large, and many that go together."""
    mix = RNG.standard_normal((columns // 4, columns))
    x = RNG.standard_normal((rows, columns // 4)) @ mix + 0.3 * RNG.standard_normal((rows, columns))
    return (x * np.exp(RNG.standard_normal(columns))).astype(np.float32)


def loss(weight: np.ndarray, made: np.ndarray, x: np.ndarray) -> float:
    """Mean square of the products' error over that of the products."""
    return float(np.square(x @ (made - weight).T).mean() / np.square(x @ weight.T).mean())


@pytest.mark.parametrize("columns", [64, 176, 256])
def test_the_product_is_closer_than_rounding_to_nearest(columns: int) -> None:
    """Guards against errors handed on with the wrong sign, order or weight: on inputs it has not seen."""
    weight = RNG.standard_normal((40, columns)).astype(np.float32)
    x = correlated(4000, columns)
    seen, held = x[:3000], x[3000:]
    made = gptq(weight, seen.T @ seen / len(seen), 4)
    assert loss(weight, made.dequantise(), held) < 0.6 * loss(weight, quantise_blocks(weight, 4).dequantise(), held)


def test_columns_that_have_nothing_to_do_with_each_other_are_rounded_to_nearest() -> None:
    """Guards against an order of columns that is not undone: with a diagonal Hessian every code is the nearest."""
    weight = RNG.standard_normal((8, 128)).astype(np.float32)
    made = gptq(weight, np.diag(np.full(128, 3.0)), 4)
    np.testing.assert_array_equal(made.codes, quantise_blocks(weight, 4).codes)
    shuffled = gptq(weight, np.diag(RNG.uniform(1, 2, 128)), 4)
    step = np.repeat(shuffled.scales, 64, axis=1)
    assert (np.abs(shuffled.dequantise() - weight) <= step * 1.001).all()


def test_codes_are_what_the_kernel_reads() -> None:
    """Guards against codes out of range, and a padded block whose last codes are not the code of zero."""
    weight = RNG.standard_normal((5, 100)).astype(np.float32)
    x = correlated(500, 100)
    made = gptq(weight, x.T @ x / 500, 4)
    assert made.codes.shape == (5, 2, 64)
    assert made.codes.max() <= 15
    assert made.zeros is not None
    np.testing.assert_array_equal(made.codes[:, 1, 36:], np.repeat(made.zeros[:, 1:], 28, axis=1))
    assert made.packed().shape == (5, 2, 32)
    assert made.dequantise().shape == weight.shape


def test_a_channel_that_was_never_seen_costs_no_division_by_zero() -> None:
    """Guards against a Hessian that cannot be inverted: dead channels, fewer samples than channels, none at all."""
    weight = RNG.standard_normal((6, 96)).astype(np.float32)
    x = correlated(20, 96)
    x[:, 5] = 0
    for hessian in (x.T @ x / 20, np.zeros((96, 96))):
        made = gptq(weight, hessian, 4).dequantise()
        assert np.isfinite(made).all()
        assert np.abs(made[:, 5] - weight[:, 5]).max() < 0.4


def test_what_does_not_fit_is_refused() -> None:
    """Guards against a Hessian of another product, and a NaN that becomes a code."""
    with pytest.raises(ValueError, match="Hessian of 64"):
        gptq(np.ones((2, 64), np.float32), np.eye(32), 4)
    with pytest.raises(ValueError, match="not finite"):
        gptq(np.full((2, 64), np.nan, np.float32), np.eye(64), 4)
