"""The command as a test calls it, and scenes to call it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fabricate import make_bundle

from gmrt.cli import main
from gmrt.georsmllm.scenes import generate, write_scene
from gmrt.runtime.raster import encode_png


@dataclass(frozen=True)
class Run:
    """What a call of the command left behind."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def gmrt(capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run ``gmrt`` with the given words in this process."""

    def run(*words: object) -> Run:
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Run(status, out, err)

    return run


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made by hand, which needs no torch; it answers nonsense, as a bundle of random weights must."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "plain").path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A georeferenced scene."""
    path = tmp_path_factory.mktemp("scene") / "tanks.tif"
    write_scene(generate(0, size=64, kind="tank farm"), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three scenes and a file that is none."""
    place = tmp_path / "images"
    place.mkdir()
    for seed, name in enumerate(("a.tif", "b.png", "c.tif")):
        drawn = generate(seed, size=64, kind="river")
        if name.endswith(".png"):
            (place / name).write_bytes(encode_png(drawn.image))
        else:
            write_scene(drawn, place / name)
    (place / "notes.txt").write_text("not an image")
    return place
