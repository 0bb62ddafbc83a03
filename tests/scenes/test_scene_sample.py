"""Generated scenes: deterministic, placed, complete or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from gmrt.runtime.errors import SceneError
from gmrt.runtime.sample import KINDS, render, write_sample
from gmrt.runtime.scene import read_scene, scene_hash


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 200])
def test_the_same_arguments_give_the_same_scene(kind: str, size: int):
    """`make demo` and the tests look at the same scene; another seed is another one."""
    first = render(kind, seed=3, size=size)
    np.testing.assert_array_equal(first, render(kind, seed=3, size=size))
    assert first.shape == (size, size, 3)
    assert first.dtype == np.uint8
    assert (first != render(kind, seed=4, size=size)).mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_looks_like_one(kind: str):
    """A painter that runs off its canvas, or saturates, leaves a flat picture."""
    rgb = render(kind, size=200).astype(float)
    assert 20 < rgb.mean() < 220
    assert rgb.std() > 20
    assert (np.abs(np.diff(rgb, axis=1)).mean(axis=(1, 2)) > 0.5).all()
    assert ((rgb == 0) | (rgb == 255)).mean() < 0.2


def test_storage_tanks_cast_shadows_away_from_the_sun():
    """Shadows that fall towards the sun, or lie on top of their tank, make it a hole in the ground."""
    grey = render(size=512).mean(axis=2)
    white, dark = grey > 200, grey < 60
    assert 0.15 < white.mean() < 0.4
    assert 0.03 < dark.mean() < 0.2
    half = (slice(0, 230), slice(0, 256))  # the first of the four tanks
    for axis in (0, 1):
        assert np.nonzero(dark[half])[axis].mean() < np.nonzero(white[half])[axis].mean() - 10


def test_the_tiff_is_placed_and_the_png_has_the_same_pixels(tmp_path: Path):
    """The sample shows GeoJSON in the right place as well; no side-car file is left beside it."""
    write_sample(tmp_path / "a.tif", size=128)
    write_sample(tmp_path / "a.png", size=128)
    scene = read_scene(tmp_path / "a.tif")
    assert scene.crs == "EPSG:32611"
    assert scene.gsd == pytest.approx(0.3)
    assert scene_hash(scene) == scene_hash(read_scene(tmp_path / "a.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.tif"]
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert "generated" in dataset.tags()["TIFFTAG_IMAGEDESCRIPTION"]


def test_writing_twice_gives_the_same_file(tmp_path: Path):
    """A file that differs from run to run cannot be compared or cached; an existing one is replaced."""
    path = tmp_path / "a.tif"
    path.write_text("old")
    write_sample(path, size=64)
    first = path.read_bytes()
    write_sample(path, size=64)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.jpg", {}),
        ("a", {}),
        ("nowhere/a.tif", {}),
        ("folder.tif", {}),
        ("a.tif", {"kind": "castle"}),
        ("a.tif", {"size": 8}),
        ("a.tif", {"size": 100_000}),
        ("a.tif", {"seed": -1}),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path: Path, name: str, arguments: dict[str, object]):
    """A misspelt ending or folder ended in a traceback of GDAL's."""
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(SceneError):
        write_sample(tmp_path / name, **arguments)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.tif"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk left half a GeoTIFF under the name that was asked for."""
    path = tmp_path / "a.tif"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SceneError, match="No space left"):
        write_sample(path, size=64)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
