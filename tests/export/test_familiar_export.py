"""Profiles of familiar images on their way into a bundle: from images, or from beside the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmrt.calibration.confidence import save_confidence
from gmrt.export.pipeline import export_bundle, fit_familiar
from gmrt.georsmllm.evaluation.strangers import strangers
from gmrt.georsmllm.scenes import generate
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.model import load
from gmrt.runtime.raster import encode_png


@pytest.fixture(scope="module")
def rivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 64 small generated rivers."""
    folder = tmp_path_factory.mktemp("pictures") / "rivers"
    folder.mkdir()
    for seed in range(64):
        (folder / f"{seed:02d}.png").write_bytes(encode_png(generate(seed, size=64, kind="river").image))
    return folder


@pytest.fixture(scope="module")
def profiled(tiny_checkpoint: Path, rivers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with profiles and a table of confidence beside it."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("profiled") / "checkpoint"))
    fitted = fit_familiar(folder, [rivers])
    fitted.save(folder)
    save_confidence(folder, ((0.1, 0.2), (0.9, 0.6)), answers=100, source="x", checkpoint=fitted.checkpoint)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_lies_beside_the_checkpoint_comes_along(
    profiled: Path, rivers: Path, tmp_path: Path, precision: Any
) -> None:
    """Guards against an export without images that loses the flag, and against an 8-bit tower that sets it off."""
    export_bundle(profiled, tmp_path / "bundle", precision=precision)
    model = load(tmp_path / "bundle")
    manifest = model.bundle.manifest
    assert manifest.familiar is not None
    assert (manifest.familiar.sets, manifest.familiar.images) == (("rivers",), 64)
    assert manifest.confidence == ((0.1, 0.2), (0.9, 0.6))
    known = [model.look(picture).unfamiliar for picture in sorted(rivers.iterdir())[:20]]
    assert sum(known) <= 2
    assert sum(model.look(scene).unfamiliar for scene in strangers("noise", 6)) >= 5


def test_given_images_make_profiles_of_their_own(tiny_checkpoint: Path, rivers: Path, tmp_path: Path) -> None:
    """Guards against images that calibrate the ranges and leave the bundle without a flag."""
    export_bundle(tiny_checkpoint, tmp_path / "bundle", precision="fp32", calibration=rivers)
    familiar = open_bundle(tmp_path / "bundle").manifest.familiar
    assert familiar is not None
    assert (familiar.sets, familiar.images) == (("rivers",), 64)


def test_profiles_of_other_weights_stay_behind(profiled: Path, tmp_path: Path) -> None:
    """Guards against a retrained tower with the profiles, and the confidence, of the one before."""
    folder = Path(shutil.copytree(profiled, tmp_path / "checkpoint"))
    for name in ("familiar.json", "confidence.json"):
        facts = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(facts | {"checkpoint": "0" * 64}), encoding="utf-8")
    export_bundle(folder, tmp_path / "bundle", precision="fp32")
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.familiar is None
    assert manifest.confidence == ()


def test_a_dozen_images_make_no_profile(exports: Callable[[str, str], tuple[Path, Any]]) -> None:
    """Guards against a threshold from twelve pictures."""
    assert open_bundle(exports("tiny-llama", "fp32")[0]).manifest.familiar is None
