"""The observer: bounded memory, exact extremes and means, a range of little error."""

from __future__ import annotations

import numpy as np
import pytest

from gmrt.calibration.observe import Observer


def code_error(values: np.ndarray, low: float, high: float) -> float:
    """Mean square error of 256 codes over [low, high], computed on the values themselves."""
    step = (high - low) / 255
    return float(np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values).mean())


def test_growing_values_lose_no_count() -> None:
    """Guards against a histogram that drops what it saw before its bound doubled."""
    rng = np.random.default_rng(0)
    observer, total = Observer(), 0
    for scale in (0.1, 1.0, 37.0, 5.0):
        values = rng.normal(0, scale, 5000).astype(np.float32)
        observer.add(values)
        total += len(values)
    assert observer.counts.sum() == total
    assert observer.counts.size == 2048
    centres = (np.arange(2048) + 0.5) / 1024 * observer.bound - observer.bound
    assert observer.low >= -observer.bound
    assert centres[observer.counts > 0].max() == pytest.approx(observer.high, abs=observer.bound / 512)


def test_range_is_as_good_as_a_search_on_the_values() -> None:
    """Guards against a range chosen on a wrong scale of error: compared with the same search without a histogram."""
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.5, 1, 200_000), [12.0]]).astype(np.float32)
    observer = Observer()
    for part in np.array_split(values, 7):
        observer.add(part)
    low, high = observer.range()
    assert high < 11  # one value in two hundred thousand is not worth a third of the codes
    best = min(
        code_error(values, a, b)
        for a in values.min() * np.linspace(0.3, 1, 15)
        for b in values.max() * np.linspace(0.3, 1, 15)
    )
    assert code_error(values, low, high) < 1.1 * best


def test_one_sided_values_keep_their_zero() -> None:
    """Guards against a range that leaves zero, which padding and ReLU need exactly."""
    observer = Observer()
    observer.add(np.linspace(0, 6, 1000, dtype=np.float32))
    low, high = observer.range()
    assert low == 0
    assert 5.5 < high <= 6
    dead = Observer()
    dead.add(np.zeros(10, np.float32))
    assert dead.range() == (0.0, 1.0)


def test_channel_means_are_over_all_images() -> None:
    """Guards against means of the last image only, or along the wrong axis."""
    rng = np.random.default_rng(2)
    images = rng.normal(3, 1, (5, 1, 4, 6, 7)).astype(np.float32)
    observer = Observer(channel_axis=1)
    for image in images:
        observer.add(image)
    np.testing.assert_allclose(observer.mean, images.mean(axis=(0, 1, 3, 4)), rtol=1e-5)


def test_values_that_are_not_finite_are_refused() -> None:
    """Guards against an infinity that makes every later bin meaningless."""
    for value in (np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            Observer().add(np.array([1.0, value], np.float32))
