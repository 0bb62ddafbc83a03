"""Weights in blocks, against a reference that reads the packed bytes as the operator's documentation says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gmrt.calibration.blocks import BLOCK, Blocks, quantise_blocks


def unpack(blocks: Blocks) -> np.ndarray:
    """The weight [N, K] that the packed bytes mean: MatMulNBits' layout, written down independently."""
    scales, rows, count = blocks.scales, blocks.scales.shape[0], blocks.scales.shape[1]
    packed = blocks.packed()
    zeros = np.full((rows, count), 2 ** (blocks.bits - 1))
    if blocks.bits == 8:
        codes = packed
        if blocks.zeros is not None:
            zeros = blocks.packed_zeros()
    else:
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, count, BLOCK)
        if blocks.zeros is not None:
            pairs = blocks.packed_zeros()
            zeros = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(rows, -1)[:, :count]
    values = (codes.astype(np.float32) - zeros[..., None]) * scales[..., None]
    return values.reshape(rows, -1)[:, : blocks.columns]


weights = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 200)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


@settings(max_examples=60, deadline=None)
@given(weight=weights, bits=st.sampled_from([4, 8]))
def test_packed_bytes_mean_the_dequantised_weight(weight: np.ndarray, bits: int) -> None:
    """Guards against nibbles in the wrong order, and against zero points of an odd number of blocks."""
    blocks = quantise_blocks(weight, bits)
    np.testing.assert_allclose(unpack(blocks), blocks.dequantise(), rtol=1e-6)
    assert blocks.dequantise().shape == weight.shape


@settings(max_examples=60, deadline=None)
@given(weight=weights)
def test_eight_bits_are_within_half_a_step(weight: np.ndarray) -> None:
    """Guards against a scale that clips the largest value of a block."""
    blocks = quantise_blocks(weight, 8)
    step = np.repeat(blocks.scales, BLOCK, axis=1)[:, : weight.shape[1]]
    assert (np.abs(blocks.dequantise() - weight) <= step * 0.5001 + 1e-6).all()


def test_a_row_of_zeros_stays_zero() -> None:
    """Guards against a division by a scale of zero."""
    weight = np.zeros((2, 70), np.float32)
    weight[1, 3] = 5
    for bits in (4, 8):
        got = quantise_blocks(weight, bits).dequantise()
        assert np.isfinite(got).all()
        assert (got[0] == 0).all()
        assert got[1, 3] == pytest.approx(5, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(weight=weights)
def test_four_bits_clip_nothing(weight: np.ndarray) -> None:
    """Guards against a range that leaves out the largest weights of a block, and a zero point off the grid."""
    blocks = quantise_blocks(weight, 4)
    step = np.repeat(blocks.scales, BLOCK, axis=1)[:, : weight.shape[1]]
    assert (np.abs(blocks.dequantise() - weight) <= step * 1.001 + 1e-6).all()


def test_what_cannot_be_quantised_is_refused() -> None:
    """Guards against a NaN that becomes a plausible code."""
    with pytest.raises(ValueError, match="not finite"):
        quantise_blocks(np.array([[np.nan]], np.float32), 8)
    with pytest.raises(ValueError, match="4 or 8"):
        quantise_blocks(np.ones((1, 1), np.float32), 3)
