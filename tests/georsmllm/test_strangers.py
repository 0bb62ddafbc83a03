"""Pictures of something else: drawn alike for the same seed, different otherwise, and counted by family."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gmrt.georsmllm.evaluation.strangers import FAMILIES, draw_stranger, flag_shares, strangers
from gmrt.runtime.scene import Scene


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_repeats_and_varies(family: str) -> None:
    """Guards against a flag rate that changes from run to run, or that is measured on one picture fifty times."""
    first = draw_stranger(family, 5, size=64)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw_stranger(family, 5, size=64))
    pictures = {draw_stranger(family, seed, size=64).tobytes() for seed in range(6)}
    assert len(pictures) == 6


def test_the_families_are_not_each_other() -> None:
    """Guards against one seed giving every family the same numbers."""
    means = {family: draw_stranger(family, 0, size=64).std(axis=(0, 1)).tolist() for family in FAMILIES}
    assert len({tuple(m) for m in means.values()}) == len(FAMILIES)


def test_pages_are_light_and_noise_is_not_flat() -> None:
    """Guards against a drawing that went wrong: blank pages, black pictures."""
    for seed in range(4):
        page = draw_stranger("documents", seed, size=128)
        assert np.median(page) > 180
        assert page.std() > 15
        assert draw_stranger("noise", seed, size=64).std() > 10


def test_shares_count_flags_and_false_alarms() -> None:
    """Guards against shares that are swapped or not normalised."""

    def look(scene: Scene) -> Any:
        return SimpleNamespace(unfamiliar=bool(scene.rgb.mean() > 150))

    light, dark = (next(strangers(family, 1)) for family in ("documents", "noise"))
    shares = flag_shares(SimpleNamespace(look=look), [light, dark, dark, dark], count=2)  # type: ignore[arg-type]
    assert shares.flagged["documents"] == 1.0
    assert shares.false_alarms == 0.25
    assert (shares.strangers, shares.known) == (2 * len(FAMILIES), 4)
