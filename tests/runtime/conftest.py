"""Fixtures of the runtime's tests: bundles made by hand, which need no torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricate import Fabricated, Shape, make_bundle

from gmrt.runtime.model import Model, load
from gmrt.runtime.scene import Scene, scene_from_array


@pytest.fixture(scope="session")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Fabricated:
    """A bundle of the default shape; read-only, use `altered` to change one."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "plain")


@pytest.fixture(scope="session")
def fabricated_standard(tmp_path_factory: pytest.TempPathFactory) -> Fabricated:
    """The same model in the ``standard`` dialect; read-only."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "standard", Shape(standard=True))


@pytest.fixture
def altered(fabricated: Fabricated, tmp_path: Path) -> Path:
    """A copy of the fabricated bundle that a test may change."""
    return Path(shutil.copytree(fabricated.path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def fabricate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Fabricated]:
    """Make a bundle of another shape."""

    def make(shape: Shape, **options: object) -> Fabricated:
        return make_bundle(tmp_path_factory.mktemp("bundles") / "made", shape, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def model(fabricated: Fabricated) -> Model:
    """The fabricated bundle, loaded, nothing asked yet."""
    return load(fabricated.path)


def scene(seed: int) -> Scene:
    """A scene of noise."""
    return scene_from_array(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


@pytest.fixture
def scenes() -> list[Scene]:
    """Three different scenes."""
    return [scene(seed) for seed in range(3)]
