"""Fitting the profiles of familiar images: thresholds that hold on unseen images, and the files beside a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.calibration.familiar import (
    MINIMUM,
    Described,
    describe_images,
    fit_familiarity,
    fit_profile,
    load_fitted,
)
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.familiar import PIXEL_FEATURES


def clusters(seed: int, count: int, features: int = 12, groups: int = 4) -> np.ndarray:
    """Descriptions around a few centres, which are the same for every seed; stretched along some directions."""
    fixed = np.random.default_rng(99)
    centres = fixed.normal(size=(groups, features)) * 4
    stretch = fixed.normal(size=(features, features)) * fixed.uniform(0.1, 1, features)
    rng = np.random.default_rng(seed)
    owner = np.arange(count) * groups // count
    return (centres[owner] + rng.normal(size=(count, features)) @ stretch).astype(np.float32)


def described(seed: int, count: int) -> Described:
    """A set of images that were never images."""
    return Described(f"set {seed}", clusters(seed, count, 16), clusters(seed, count, PIXEL_FEATURES))


def test_false_alarms_stay_below_the_share_and_strangers_are_found() -> None:
    """Guards against a threshold from the images that the centres were fitted on, which unseen ones exceed."""
    profile = fit_profile(clusters(0, 400), axes=6)
    alarms = profile.score(clusters(1, 1000)) > profile.threshold
    assert alarms.mean() < 0.03
    strangers = np.random.default_rng(2).normal(size=(200, 12)).astype(np.float32) * 12
    assert (profile.score(strangers) > profile.threshold).mean() > 0.95


@given(count=st.integers(MINIMUM, 120), features=st.integers(2, 90), axes=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_a_small_set_gives_finite_scores(count: int, features: int, axes: int) -> None:
    """Guards against a singular covariance: fewer images than features, and a feature that never moves."""
    values = clusters(count, count, features)
    values[:, 0] = 7
    profile = fit_profile(values, axes)
    assert np.isfinite(profile.threshold)
    assert profile.threshold > 0
    moved = values.copy()
    moved[:, 0] += 1e3
    assert np.isfinite(profile.score(moved)).all()
    assert (profile.score(moved) > profile.threshold).all()


def test_images_that_are_all_the_same_are_no_error() -> None:
    """Guards against a division by zero on a set of copies of one picture."""
    profile = fit_profile(np.ones((MINIMUM, 5), np.float32), axes=3)
    assert np.isfinite(profile.score(np.zeros((1, 5), np.float32))).all()


def test_the_fit_repeats() -> None:
    """Guards against a bundle whose hash changes with every export."""
    one, two = (fit_profile(clusters(3, 100), axes=4) for _ in range(2))
    assert one.threshold == two.threshold
    np.testing.assert_array_equal(one.to_array(), two.to_array())


def test_sets_have_profiles_of_one_size(tmp_path: Path) -> None:
    """Guards against sets that cannot be stacked, and a file that does not come back as it was saved."""
    fitted = fit_familiarity([described(0, MINIMUM), described(1, 200)], checkpoint="abc")
    fitted.save(tmp_path)
    read = load_fitted(tmp_path, 16)
    assert (read.sets, read.images, read.quantile, read.checkpoint) == (
        ("set 0", "set 1"),
        MINIMUM + 200,
        fitted.quantile,
        "abc",
    )
    values = clusters(5, 20, 16)
    for ours, theirs in zip(fitted.familiarity.embeddings, read.familiarity.embeddings, strict=True):
        assert ours.threshold == theirs.threshold
        np.testing.assert_allclose(ours.score(values), theirs.score(values), rtol=1e-4)


def test_the_shipped_size_is_small(tmp_path: Path) -> None:
    """Guards against profiles that outgrow the bundle: four sets of a model of width 256 stay near 100 kB."""
    rng = np.random.default_rng(0)
    sets = [
        Described(str(n), *(rng.normal(size=(60, f)).astype(np.float32) for f in (256, PIXEL_FEATURES)))
        for n in range(4)
    ]
    fit_familiarity(sets, checkpoint="").save(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) < 110_000


def test_too_few_images_and_bad_numbers_are_refused(tmp_path: Path) -> None:
    """Guards against a profile of nothing, and a traceback from a file that is damaged."""
    with pytest.raises(GmrtError, match="needs 48 or more"):
        fit_familiarity([described(0, MINIMUM - 1)], checkpoint="")
    values = clusters(0, 60)
    values[3, 3] = np.nan
    with pytest.raises(GmrtError, match="not finite"):
        fit_profile(values, axes=2)
    with pytest.raises(GmrtError, match="not readable"):
        load_fitted(tmp_path, 16)
    fit_familiarity([described(0, 60)], checkpoint="").save(tmp_path)
    with pytest.raises(GmrtError):
        load_fitted(tmp_path, 17)
    (tmp_path / "familiar.json").write_text('{"version": 9}', encoding="utf-8")
    with pytest.raises(GmrtError, match="version 9"):
        load_fitted(tmp_path, 16)


def test_images_are_described_in_their_order() -> None:
    """Guards against embeddings and pixels of different images side by side."""
    pixels = [np.full((3, 8, 8), n, np.float32) for n in range(3)]
    found = describe_images("x", lambda batch: batch.mean(axis=(2, 3))[:, None, :], pixels)
    np.testing.assert_array_equal(found.embeddings[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(found.pixels[:, 0], [0, 1, 2])
