"""Histograms and channel statistics: streaming equals exact; the four methods against the same search on the values."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gmrt.calibration.observe import (
    BINS,
    METHODS,
    TAIL,
    Histogram,
    choose_range,
    observe,
    observe_channels,
)

VALUES = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-2, 2, width=32) | st.just(0.0),
)


def seen(values: np.ndarray, parts: int = 1) -> Histogram:
    """A histogram of values that came in portions."""
    return reduce(observe, [part for part in np.array_split(values, parts) if part.size], Histogram())


def code_error(values: np.ndarray, low: float, high: float, steps: int = 255) -> float:
    """Mean square error of codes over [low, high], computed on the values themselves."""
    step = (high - low) / steps
    return float(np.square(np.clip(np.round((values - low) / step), 0, steps) * step + low - values).mean())


@given(values=VALUES, parts=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_streaming_is_the_histogram_of_all_values_at_once(values: np.ndarray, parts: int, seed: int) -> None:
    """Guards against a histogram that depends on the order or the portions, or drops what came before it widened."""
    whole = seen(values)
    streamed = seen(np.random.default_rng(seed).permutation(values), parts)
    assert (streamed.low, streamed.high, streamed.zeros) == (values.min(), values.max(), (values == 0).sum())
    assert streamed.exponent == whole.exponent
    np.testing.assert_array_equal(streamed.filled, whole.filled)
    exact, _ = np.histogram(values[values != 0].astype(np.float64), bins=whole.edges)
    np.testing.assert_array_equal(whole.filled, exact)
    assert whole.counts is not None
    assert whole.counts.size == BINS


@given(values=VALUES, symmetric=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_range_holds_zero_and_lies_within_what_was_seen(values: np.ndarray, symmetric: bool) -> None:
    """Guards against a range without zero, which padding and ReLU need exactly, an empty one, and a lopsided one."""
    for method in METHODS:
        low, high = choose_range(seen(values), method, symmetric=symmetric)
        assert low <= 0 <= high
        assert low < high
        if symmetric:
            assert low == -high
        if values.any():
            reach = float(np.abs(values).max())
            assert low >= (-reach if symmetric else min(float(values.min()), 0))
            assert high <= (reach if symmetric else max(float(values.max()), 0))


@pytest.mark.parametrize("symmetric", [False, True])
def test_min_max_is_exact(symmetric: bool) -> None:
    """Guards against extremes that are those of bins."""
    values = np.random.default_rng(0).normal(0.3, 2, 5000).astype(np.float32)
    low, high = choose_range(seen(values, 7), "min-max", symmetric=symmetric)
    reach = np.abs(values).max()
    assert (low, high) == ((-reach, reach) if symmetric else (values.min(), values.max()))


@given(seed=st.integers(0, 50), shift=st.floats(-3, 3), symmetric=st.booleans(), relu=st.booleans())
@settings(max_examples=15, deadline=None)
def test_percentile_is_that_of_the_values(seed: int, shift: float, symmetric: bool, relu: bool) -> None:
    """Guards against a share counted on one side only, or without the zeros: exact quantiles to within a bin."""
    values = np.random.default_rng(seed).standard_t(3, 50_000).astype(np.float32) + np.float32(shift)
    values = np.maximum(values, 0) if relu else values
    histogram = seen(values, 5)
    low, high = choose_range(histogram, "percentile", symmetric=symmetric)
    near = {"abs": 1.01 * histogram.width}
    if symmetric:
        assert high == pytest.approx(np.sort(np.abs(values))[-1 - int(2 * TAIL * values.size)], **near)
        return
    ordered, out = np.sort(values), int(TAIL * values.size)
    assert low == pytest.approx(min(ordered[out], 0), **near)
    assert high == pytest.approx(max(ordered[-1 - out], 0), **near)


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_as_good_as_a_search_on_the_values(symmetric: bool) -> None:
    """Guards against a range chosen on a wrong scale of error: compared with the same search without a histogram."""
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.5, 1, 200_000), [12.0]]).astype(np.float32)
    low, high = choose_range(seen(values, 7), "mse", symmetric=symmetric)
    assert high < 11  # one value in two hundred thousand is not worth a third of the codes
    fractions = np.linspace(0.3, 1, 15)
    pairs = [(-b, b) for b in 12 * fractions] if symmetric else [
        (a, b) for a in values.min() * fractions for b in values.max() * fractions
    ]  # fmt: skip
    steps = 254 if symmetric else 255
    assert code_error(values, low, high, steps) < 1.1 * min(code_error(values, *pair, steps) for pair in pairs)


def divergence(values: np.ndarray, width: float, low: float, high: float) -> float:
    """KL of values from the even spread of their codes, code by code, on bins of ``width`` from zero on."""
    bins, counts = np.unique(np.floor(values / width), return_counts=True)
    centres = (bins + 0.5) * width
    inside = (centres >= low) & (centres <= high)
    codes = np.round((centres[inside] - low) / (high - low) * 255)
    q = counts[inside].astype(float)
    for code in np.unique(codes):
        q[codes == code] = q[codes == code].mean()
    p = counts[inside].astype(float)
    p[0] += counts[centres < low].sum()
    p[-1] += counts[centres > high].sum()
    return float((p / p.sum() * np.log(p / p.sum() * q.sum() / q)).sum())


def test_entropy_weighs_clipping_against_coarseness() -> None:
    """Guards against a divergence that always takes the widest range, or the narrowest: against the values' own."""
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 100_000), rng.uniform(20, 40, 12)]).astype(np.float32)
    histogram = seen(values, 3)
    low, high = choose_range(histogram, "entropy")
    assert -low < 6
    assert 2.5 < high < 20
    chosen = divergence(values, histogram.width, low, high)
    for other in ((values.min(), values.max()), (-4.0, 4.0), (-2.0, 2.0), (-5.0, 15.0)):
        assert chosen < 1.05 * divergence(values, histogram.width, *map(float, other))


def test_values_that_are_not_finite_are_refused() -> None:
    """Guards against an infinity that makes every later bin meaningless, and a range of nothing."""
    for value in (np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            observe(Histogram(), np.array([1.0, value], np.float32))
    with pytest.raises(ValueError, match="no values"):
        observe(Histogram(), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="no values"):
        choose_range(Histogram(), "mse")


@given(images=st.integers(1, 6), axis=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_channel_statistics_are_over_all_images(images: int, axis: int, seed: int) -> None:
    """Guards against statistics of the last image only, along the wrong axis, or of unweighted portions."""
    rng = np.random.default_rng(seed)
    shape = [2, 4, 3, 5]
    parts, channels = [], None
    for _ in range(images):
        shape[(axis + 1) % 4] = int(rng.integers(1, 6))
        parts.append(rng.normal(1, 2, shape).astype(np.float32))
        channels = observe_channels(channels, parts[-1], axis)
    whole = np.concatenate([np.moveaxis(part, axis, 0).reshape(shape[axis], -1) for part in parts], axis=1)
    assert channels is not None
    assert channels.count == whole.shape[1]
    np.testing.assert_array_equal(channels.absmax, np.abs(whole).max(axis=1))
    np.testing.assert_allclose(channels.absmean, np.abs(whole).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(channels.mean, whole.mean(axis=1), rtol=1e-4, atol=1e-6)
