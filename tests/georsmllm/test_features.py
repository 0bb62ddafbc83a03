"""Views of images, and the cache of a frozen tower's features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training import pair, scene

from gmrt.georsmllm import features
from gmrt.georsmllm.features import augment, cache_features, encode, pixels_of, recoloured, turned
from gmrt.runtime.image import ImageSpec

SPEC = ImageSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=4)
EXAMPLES = [scene(0), pair(1), scene(2)]
VIEWS = [3, 1, 2]


class Tower(torch.nn.Module):
    """Patches of 16 pixels, as they are: [B, 3, 32, 32] → [B, 4, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Cut into patches."""
        return torch.nn.functional.unfold(pixels, 16, stride=16).transpose(1, 2) * self.gain


def test_views_are_the_eight_symmetries_and_the_first_is_the_image() -> None:
    """Guards against an augmentation that changes the canonical view, or two views that are the same turn."""
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(augment(rgb, 0, np.random.default_rng(0)), rgb)
    assert len({turned(rgb, turn).tobytes() for turn in range(8)}) == 8


def test_another_light_keeps_the_picture() -> None:
    """Guards against colours that wrap round, or an order of brightness that is turned over."""
    rgb = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for seed in range(20):
        lit = recoloured(rgb, np.random.default_rng(seed)).astype(int)
        assert (np.diff(lit, axis=0) >= 0).all()


def test_every_view_has_its_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against rows that are off by one where pairs and single images, or batches, follow each other."""
    monkeypatch.setattr(features, "BATCH", 3)
    cache = cache_features(tmp_path / "f.npy", Tower(), EXAMPLES, VIEWS, SPEC, seed=5)
    assert cache.rows.shape == (3 + 2 + 2, 4, 768)
    assert [cache.views(index) for index in range(3)] == VIEWS
    for index, count in enumerate(VIEWS):
        for view in range(count):
            pixels = pixels_of(EXAMPLES[index], view, (5, index, view), SPEC)
            assert len(pixels) == 1 + (EXAMPLES[index].after is not None)
            np.testing.assert_array_equal(cache.of(index, view), encode(Tower(), pixels).astype(np.float32))
    assert not np.array_equal(cache.of(0, 0), cache.of(0, 1))


def test_a_cache_is_reused_only_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against features of an older tower, set or seed taken for the new one's."""
    path, made = tmp_path / "deep" / "f.npy", []
    original = features._compute
    monkeypatch.setattr(features, "_compute", lambda *given: (made.append(1), original(*given)))

    def computed(tower: Tower, examples: list = EXAMPLES, views: list = VIEWS, seed: int = 0) -> int:
        before = len(made)
        cache_features(path, tower, examples, views, SPEC, seed=seed)
        return len(made) - before

    other = Tower()
    torch.nn.init.constant_(other.gain, 2.0)
    assert computed(Tower()) == 1
    assert computed(Tower()) == 0
    assert computed(other) == 1
    assert computed(other, views=[2, 1, 2]) == 1
    assert computed(other, EXAMPLES[:2], [2, 1]) == 1
    assert computed(other, [EXAMPLES[0], replace(EXAMPLES[1], after=EXAMPLES[0].image)], [2, 1]) == 1
    assert computed(other, seed=1) == 1
    assert computed(other, seed=1) == 0


def test_a_cut_computation_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a half-written cache taken for a whole one after a power cut."""
    path = tmp_path / "f.npy"
    cache_features(path, Tower(), EXAMPLES, VIEWS, SPEC, seed=0)
    before = path.read_bytes()

    def cut(tower: Tower, pixels: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(features, "encode", cut)
        with pytest.raises(KeyboardInterrupt):
            cache_features(path, Tower(), EXAMPLES, VIEWS, SPEC, seed=1)
    assert not path.with_suffix(".json").exists()
    cache_features(path, Tower(), EXAMPLES, VIEWS, SPEC, seed=1)
    assert json.loads(path.with_suffix(".json").read_text())["key"]
    assert path.read_bytes() != before
