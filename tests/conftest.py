"""Fixtures that more than one part needs: tiny checkpoints and their bundles, each made once a session.

Nothing here loads torch before a test asks for one of them: the tests of the runtime run without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may look anything up


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve small generated scenes, each named by its kind in one word; read-only."""
    from gmrt.georsmllm.scenes import generate
    from gmrt.runtime.raster import encode_png

    folder = tmp_path_factory.mktemp("pictures")
    kinds = ("tank farm", "river", "parking lot", "sports", "marina")
    for seed in range(12):
        kind = kinds[seed % len(kinds)]
        image = generate(seed, size=64, kind=kind).image
        (folder / f"{kind.replace(' ', '')}-{seed}.png").write_bytes(encode_png(image))
    return folder


@pytest.fixture(scope="session")
def checkpoints(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny preset's name to a checkpoint of it that has learnt a dozen sentences; read-only."""
    pytest.importorskip("torch")
    from teach import teach

    @cache
    def make(preset: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / preset
        teach(preset, pictures, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def exports(
    checkpoints: Callable[[str], Path], pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Any]]:
    """A tiny preset's name, a precision and a target to its bundle and the report of its gate; read-only."""
    from gmrt.export.pipeline import export_bundle

    @cache
    def make(preset: str, precision: str, target: str | None = None) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp("bundles") / f"{preset}-{precision}-{target}"
        report = export_bundle(checkpoints(preset), folder, precision=precision, target=target, calibration=pictures)
        return folder, report

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoints: Callable[[str], Path]) -> Path:
    """The checkpoint of tiny-llama; read-only."""
    return checkpoints("tiny-llama")


@pytest.fixture(scope="session")
def tiny_bundle(exports: Callable[[str, str], tuple[Path, Any]]) -> Path:
    """The fp32 bundle of tiny-llama; read-only."""
    return exports("tiny-llama", "fp32")[0]
