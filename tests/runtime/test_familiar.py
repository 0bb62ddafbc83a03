"""The flag for images that are unlike those calibrated on: the distance, its file, and what a view makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricate import Fabricated, reseal
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BundleError
from gmrt.runtime.familiar import (
    PIXEL_FEATURES,
    WARNING,
    Profile,
    describe_embeddings,
    describe_pixels,
    open_profiles,
    pack_profiles,
)
from gmrt.runtime.model import load
from gmrt.runtime.scene import Scene


def profile(features: int, axes: int, seed: int = 0, threshold: float = 2.0) -> Profile:
    """A profile with random axes and centres."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(features, features)))[0][:axes]
    parts = (rng.normal(size=features), rng.uniform(0.5, 2, features), basis, rng.uniform(0.2, 2, axes))
    centres = rng.normal(size=(3, features))
    return Profile(*(part.astype(np.float32) for part in (*parts, centres)), rest=0.5, threshold=threshold)


def add_profiles(folder: Path, fabricated: Fabricated, threshold: float, sets: int = 1) -> None:
    """Give a fabricated bundle profiles, one so wide and one so narrow that ``threshold`` alone decides."""
    hidden = fabricated.shape.hidden
    sizes = {"embeddings": hidden, "pixels": PIXEL_FEATURES}
    data = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    entry: dict[str, object] = {"sets": [f"set {n}" for n in range(sets)], "quantile": 0.98, "images": 100}
    for what, features in sizes.items():
        name = f"familiar_{what}.npy"
        np.save(folder / name, pack_profiles([profile(features, 4, seed) for seed in range(sets)]))
        entry[what] = {"file": name, "axes": 4, "thresholds": [threshold] * sets}
    reseal(folder, components=data["components"] | {"familiar": entry})


@given(features=st.integers(2, 12), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_score_is_a_mahalanobis_distance(features: int, seed: int, data: st.DataObject) -> None:
    """Guards against a sign or an axis mixed up: compared with the covariance written out and inverted."""
    axes = data.draw(st.integers(1, features))
    p = profile(features, axes, seed)
    if axes == features:
        covariance = p.axes.T @ np.diag(p.variances) @ p.axes
    else:
        covariance = p.axes.T @ np.diag(p.variances - 0.5) @ p.axes + 0.5 * np.eye(features)
    x = np.random.default_rng(seed + 1).normal(size=(5, features)).astype(np.float32)
    apart = ((x - p.mean) / p.deviation)[:, None] - p.centres
    wanted = np.einsum("nkf,fg,nkg->nk", apart, np.linalg.inv(covariance), apart).min(axis=1) / features
    np.testing.assert_allclose(p.score(x), wanted, rtol=1e-3)


@given(features=st.integers(2, 40), seed=st.integers(0, 99), sets=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_what_is_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, features: int, seed: int, sets: int
) -> None:
    """Guards against a layout that writer and reader see differently; half precision moves a score by a percent."""
    file = tmp_path_factory.mktemp("packed") / "p.npy"
    made = [profile(features, 2, seed + n) for n in range(sets)]
    np.save(file, pack_profiles(made))
    read = open_profiles(file, features=features, axes=2, thresholds=[2.0] * sets)
    x = np.random.default_rng(seed).normal(size=(4, features)).astype(np.float32) * 5
    for ours, theirs in zip(made, read, strict=True):
        np.testing.assert_allclose(theirs.score(x), ours.score(x), rtol=0.02, atol=0.02)


def test_a_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    """Guards against a traceback, or a silent nonsense flag, from a profile of another model or a pickled one."""
    file = tmp_path / "p.npy"
    good = pack_profiles([profile(6, 2)])
    bad = {
        "another width": good[:, :, :-1],
        "another number of sets": np.concatenate([good, good]),
        "another dtype": good.astype(np.float32),
        "no number": np.where(np.arange(7) == 3, np.float16("nan"), good),
        "no deviation": good * np.float16(0),
        "two axes": good[0],
        "objects": np.array([{}], dtype=object),
    }
    for array in bad.values():
        np.save(file, array)
        with pytest.raises(BundleError, match="not the profiles of images"):
            open_profiles(file, features=6, axes=2, thresholds=[1.0])
    np.save(file, good)
    with pytest.raises(BundleError, match="cannot hold 6 axes"):
        open_profiles(file, features=6, axes=6, thresholds=[1.0])


@pytest.mark.parametrize("size", [(256, 256), (33, 47), (8, 8), (2, 2), (1, 3)])
def test_pixels_are_described_at_any_size(size: tuple[int, int]) -> None:
    """Guards against a tower with a small or odd input, and against a flat image, whose logarithms have no number."""
    rng = np.random.default_rng(0)
    for pixels in (rng.normal(size=(3, *size)), np.zeros((3, *size)), np.full((3, *size), 1e3)):
        described = describe_pixels(pixels.astype(np.float32))
        assert described.shape == (PIXEL_FEATURES,)
        assert described.dtype == np.float32
        assert np.isfinite(described).all()


def test_the_order_of_tokens_does_not_matter() -> None:
    """Guards against a profile that remembers where in the image something was."""
    embeds = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    np.testing.assert_allclose(describe_embeddings(embeds), describe_embeddings(embeds[::-1]), rtol=1e-5)


def test_a_strange_image_is_flagged_and_its_answer_says_so(
    altered: Path, fabricated: Fabricated, scenes: list[Scene]
) -> None:
    """Guards against a flag that stays in the view: the note, the answer and its JSON must carry it."""
    add_profiles(altered, fabricated, threshold=1e-6)
    view = load(altered).look(scenes[0])
    assert view.unfamiliar
    assert WARNING in view.notes
    answer = view.ask("describe", max_tokens=2)
    assert answer.unfamiliar
    assert answer.to_dict()["unfamiliar"] is True
    assert answer.strangeness == view.strangeness


def test_a_familiar_image_is_not_flagged(altered: Path, fabricated: Fabricated, scenes: list[Scene]) -> None:
    """Guards against a flag on everything: with a wide threshold, in one of two sets, nothing is said."""
    add_profiles(altered, fabricated, threshold=1e9, sets=2)
    view = load(altered).look(scenes[0])
    assert view.strangeness is not None
    assert not view.unfamiliar
    assert WARNING not in view.notes
    assert view.ask("describe", max_tokens=2).to_dict()["unfamiliar"] is False


def test_one_set_that_knows_the_image_is_enough(altered: Path, fabricated: Fabricated, scenes: list[Scene]) -> None:
    """Guards against thermal images being strange because they are no aerial ones."""
    add_profiles(altered, fabricated, threshold=1e9, sets=2)
    bundle = open_bundle(altered)
    assert bundle.familiar is not None
    model = load(altered)
    narrow = replace(bundle.familiar.pixels[0], threshold=1e-9)
    model.bundle = replace(bundle, familiar=replace(bundle.familiar, pixels=(narrow, bundle.familiar.pixels[1])))
    assert not model.look(scenes[0]).unfamiliar


def test_a_bundle_without_profiles_flags_nothing(fabricated: Fabricated, scenes: list[Scene]) -> None:
    """Guards against older bundles being refused, or against a flag that is made up."""
    view = load(fabricated.path).look(scenes[0])
    assert view.strangeness is None
    assert not view.unfamiliar
    answer = view.ask("describe", max_tokens=2).to_dict()
    assert answer["unfamiliar"] is False
    assert answer["strangeness"] is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("quantile", 2), ("images", 0), ("sets", []), ("pixels", {}), ("embeddings", {"file": "../x"})],
)
def test_a_manifest_that_is_wrong_about_profiles_is_refused(
    altered: Path, fabricated: Fabricated, key: str, value: object
) -> None:
    """Guards against unchecked numbers of an untrusted manifest."""
    add_profiles(altered, fabricated, threshold=1.0)
    data = json.loads((altered / "bundle.json").read_text(encoding="utf-8"))
    data["components"]["familiar"][key] = value
    reseal(altered, components=data["components"])
    with pytest.raises(BundleError):
        open_bundle(altered)


def test_a_profile_must_be_a_file_of_the_bundle(altered: Path, fabricated: Fabricated) -> None:
    """Guards against reading a file that was never hashed."""
    add_profiles(altered, fabricated, threshold=1.0)
    data = json.loads((altered / "bundle.json").read_text(encoding="utf-8"))
    data["components"]["familiar"]["pixels"]["file"] = "elsewhere.npy"
    reseal(altered, components=data["components"])
    with pytest.raises(BundleError, match=r"elsewhere.npy is used but has no entry"):
        open_bundle(altered)


def test_the_manifest_survives_the_round_trip(altered: Path, fabricated: Fabricated) -> None:
    """Guards against a field of the profiles, or of the table of confidence, that is written and not read."""
    add_profiles(altered, fabricated, threshold=1.5, sets=2)
    data = json.loads((altered / "bundle.json").read_text(encoding="utf-8"))
    reseal(altered, confidence=[[0.2, 0.1], [0.9, 0.8]])
    manifest = open_bundle(altered).manifest
    assert manifest.confidence == ((0.2, 0.1), (0.9, 0.8))
    assert manifest.to_dict()["components"]["familiar"] == data["components"]["familiar"]
