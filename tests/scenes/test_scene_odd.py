"""Rasters from elsewhere: other planets, thin, damaged, hyperspectral, radar; each gives a scene or a sentence."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from gmrt.runtime.bands import Band, choose
from gmrt.runtime.drawing import decibels, vegetation_colours, vegetation_index
from gmrt.runtime.errors import GmrtError, NoDataError, SceneError, SceneReadError
from gmrt.runtime.raster import plain_path, quiet
from gmrt.runtime.scene import open_scene, read_scene

Write = Callable[..., Path]
RAMP = (np.add.outer(np.arange(48), np.arange(64)) * 2 % 256).astype(np.uint8)[None]


def test_another_planet_is_said(write: Write):
    """Longitudes of Mars were given out as WGS 84."""
    scene = read_scene(write("a.tif", RAMP, crs="+proj=eqc +R=3396190", transform=Affine(9, 0, 0, 0, -9, 0)))
    assert any("not WGS 84" in note for note in scene.notes)
    assert scene.gsd == pytest.approx(9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_thin_rasters(write: Write, shape: tuple[int, int]):
    """One pixel wide, and reduced to none."""
    scene = read_scene(write("a.tif", np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(1, *shape)), max_side=64)
    assert max(scene.valid.shape) <= 64
    assert min(scene.valid.shape) == 1


@pytest.mark.parametrize("transform", [Affine(0, 0, 5, 0, 0, 5), Affine(float("nan"), 0, 0, 0, 1, 0)])
def test_a_broken_georeference(write: Write, transform: Affine):
    """A singular affine ended in numpy's traceback."""
    scene = read_scene(write("a.tif", RAMP, crs="EPSG:32631", transform=transform))
    assert scene.placement is None
    assert any("georeference" in note for note in scene.notes)


def test_a_palette_of_sixteen_bits(write: Write):
    """Its indexes lie beyond a table of 256."""
    colours = {index: (index % 256, 7, 9, 255) for index in range(700)}
    scene = read_scene(write("a.tif", [[[699, 300]]], dtype="uint16", palette=colours))
    assert scene.rgb[0, :, 0].tolist() == [699 % 256, 300 % 256]
    assert "palette" in scene.composite


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("zero.tif", b"", "0 bytes"),
        ("text.tif", b"hello\n" * 99, "not an image"),
        ("noise.tif", b"II*\0" + b"x" * 99, "opened"),
    ],
)
def test_what_is_no_raster(tmp_path: Path, name: str, content: bytes, words: str):
    """A sentence that says what is the matter."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match=words):
        read_scene(tmp_path / name)


def test_a_tiff_under_a_wrong_name(write: Write, noise: Any):
    """What a file is stands in it, not in its name."""
    path = write("a.tif", noise)
    other = path.rename(path.with_name("b.png"))
    np.testing.assert_array_equal(read_scene(other).rgb, noise.transpose(1, 2, 0))


def test_a_truncated_raster_in_a_window(write: Write):
    """The first windows of a truncated file can be read, and the others fail by name."""
    path = write("a.tif", np.random.default_rng(0).integers(0, 255, (1, 512, 512), dtype=np.uint8), tiled=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_scene(path) as reader:
        assert reader.read((0, 0, 100, 100)).valid.all()
        with pytest.raises(SceneReadError):
            reader.read((300, 300, 200, 200))


def test_an_empty_window(write: Write):
    """A tile without data is told apart from one that failed."""
    values = np.zeros((1, 64, 64), dtype=np.uint16)
    values[:, 32:] = np.arange(64)[None] + 1
    with open_scene(write("a.tif", values, nodata=0)) as reader:
        with pytest.raises(NoDataError):
            reader.read((0, 0, 64, 32))
        assert reader.read((0, 30, 64, 4)).valid.mean() == 0.5
        with pytest.raises(SceneError, match="leaves"):
            reader.read((60, 0, 10, 10))


def test_a_zip_is_opened_on_the_way_to_its_file(write: Write, noise: Any):
    """An archive is not looked through by itself, and its files are rasters like any other."""
    path = write("a.tif", noise)
    with zipfile.ZipFile(path.with_name("z.zip"), "w") as archive:
        archive.write(path, "in/a.tif")
    with pytest.raises(SceneError, match="/vsizip/"):
        read_scene(path.with_name("z.zip"))
    scene = read_scene(Path(f"/vsizip/{path.with_name('z.zip')}/in/a.tif"))
    np.testing.assert_array_equal(scene.rgb, noise.transpose(1, 2, 0))


def test_an_address_survives_pathlib():
    """Path("https://host/a.tif") has one slash, and GDAL looked for a folder https:."""
    assert plain_path(Path("https://host/a.tif")) == "https://host/a.tif"
    assert plain_path(Path("/vsicurl/https://host/a.tif")) == "/vsicurl/https://host/a.tif"
    assert plain_path("s3://bucket/a.tif") == "s3://bucket/a.tif"
    assert plain_path(Path("a/b.tif")) == "a/b.tif"


def test_bands_by_wavelength(tmp_path: Path):
    """A hyperspectral cube has no colours, and a centre for each band."""
    centres = [400 + 20 * i for i in range(40)]
    path = tmp_path / "cube.tif"
    values = np.repeat(np.arange(40, dtype=np.uint8)[:, None, None], 4, axis=1).repeat(4, axis=2)
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 40, "dtype": "uint8", "photometric": "minisblack"}
    with quiet(), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
        for index, centre in enumerate(centres, 1):
            dataset.update_tags(index, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(centre / 1000))
    scene = read_scene(path)
    assert scene.wavelengths == pytest.approx((660, 560, 480))
    assert scene.composite == "true colour, by the wavelengths of the bands"
    assert read_scene(path, composite="false-color").wavelengths[0] == pytest.approx(840)


@pytest.mark.parametrize(
    ("asked", "composite", "indexes"),
    [
        ("red=3,nir=4", "ndvi", (4, 3)),
        ("red=3,green=2,nir=4", None, (4, 3, 2)),
        ("red=3,green=2,nir=4", "false-color", (4, 3, 2)),
        ("vv=1,vh=2", None, (1, 2)),
        ("swir16=1,nir=2,red=3", "swir", (1, 2, 3)),
    ],
)
def test_the_caller_says_which_band_is_which(asked: str, composite: str | None, indexes: tuple[int, ...]):
    """Unnamed bands could be drawn as red, green, blue only."""
    bands = [Band(index) for index in range(1, 5)]
    assert choose(bands, asked=asked, composite=composite).indexes == indexes


@pytest.mark.parametrize("asked", ["red=3", "red=3,purple=4", "red=3,nir=3,nir=4", "red=3,4"])
def test_half_a_word_on_the_bands(asked: str):
    """What was not said is not guessed."""
    with pytest.raises(SceneError):
        choose([Band(index) for index in range(1, 5)], asked=asked)


@pytest.mark.parametrize("composite", ["ndvi", "sar", "swir", "false-color", "sepia"])
def test_a_composite_that_the_bands_do_not_give(write: Write, noise: Any, composite: str):
    """A picture has no near infrared: the sentence names what is missing."""
    with pytest.raises(SceneError, match=f"--composite {composite}"):
        read_scene(write("a.tif", noise), composite=composite)


def test_numbered_bands_by_what_only_one_sensor_has():
    """B2, B3, B4 alone are open; beside B8A they are Sentinel-2's, beside B10 and B11 Landsat's."""
    sentinel = [Band(i, description=name) for i, name in enumerate(("B2", "B3", "B4", "B8A"), 1)]
    landsat = [Band(i, description=name) for i, name in enumerate(("B2", "B3", "B4", "B10", "B11"), 1)]
    assert choose(sentinel).wavelengths == (665, 560, 490)
    assert choose(landsat).wavelengths == (655, 561, 482)


def test_radar_is_shown_in_decibels(write: Write):
    """Linear power is a few bright points on black; decibels stored as they are were logged again."""
    power = np.logspace(-3, 0, 64 * 48, dtype=np.float32).reshape(1, 48, 64)
    linear = read_scene(write("a.tif", power, descriptions=("Gamma0_VV",)))
    logged = read_scene(write("b.tif", 10 * np.log10(power) - 0.001, descriptions=("Gamma0_VV",)))
    assert abs(linear.rgb.astype(int) - logged.rgb).max() <= 1
    assert 110 < linear.rgb.mean() < 145
    assert any("became decibels" in note for note in linear.notes)


def test_bytes_of_a_radar_are_taken_as_they_are(write: Write):
    """A picture of eight bits is in decibels already, as are those that the model was trained on."""
    np.testing.assert_array_equal(read_scene(write("a.tif", RAMP, descriptions=("vv",))).rgb[:, :, 0], RAMP[0])


def test_radar_pseudo_colour(write: Write):
    """VV, VH and VV - VH in decibels, each over its published range."""
    level = np.full((2, 4, 4), -10, dtype=np.float32)
    level[1] = -17
    scene = read_scene(write("a.tif", level, descriptions=("VV", "VH")))
    np.testing.assert_allclose(scene.rgb[0, 0], 127.5, atol=0.6)
    assert scene.bands == ("VV", "VH")
    swapped = read_scene(write("b.tif", level[::-1], descriptions=("VH", "VV")), composite="sar")
    np.testing.assert_array_equal(swapped.rgb, scene.rgb)


def test_decibels():
    """Amplitudes were taken for powers: half of the decibels."""
    for values, stored in ((np.array([0.01]), "power"), (np.array([10]), "amplitude"), (np.array([6 + 8j]), "complex")):
        assert decibels(values, stored)[0] == pytest.approx(-20 if stored == "power" else 20)
    assert decibels(np.array([0.0]), "power")[0] == -np.inf


def test_vegetation_index_and_its_colours():
    """Division by nothing, and unsigned numbers that wrap below zero."""
    index = vegetation_index(np.array([[[3000, 0, 100]], [[1000, 0, 300]]], dtype=np.uint16))
    np.testing.assert_allclose(index, [[0.5, np.nan, -0.5]])
    leaf, _, water = vegetation_colours(index)[0].astype(int)
    assert leaf[1] > leaf[0] > leaf[2]
    assert water[2] == max(water)
    assert water[1] < leaf[1]


def test_scale_tags_count_in_an_index(write: Write):
    """The offset of a product was left out of its vegetation index."""
    values = np.full((2, 4, 4), 2000, dtype=np.uint16)
    values[0] = 4000
    path = write("a.tif", values, descriptions=("nir", "red"))
    with quiet(), rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4, 1e-4), (-0.1, -0.1)
    expected = vegetation_colours(np.array([[(0.3 - 0.1) / (0.3 + 0.1)]], dtype=np.float32))[0, 0]
    np.testing.assert_allclose(read_scene(path, composite="ndvi").rgb[0, 0], expected, atol=1)


def test_where_a_camera_was(write: Write, noise: Any):
    """A drone's JPEG has the position of its camera, which is not that of its pixels."""
    path = write("a.jpg", noise)
    tags = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x88\x25\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0"
    entries = b"\0\x04\0\x01\0\x02\0\0\0\x02S\0\0\0\0\x02\0\x05\0\0\0\x03\0\0\0\x50"
    entries += b"\0\x03\0\x02\0\0\0\x02E\0\0\0\0\x04\0\x05\0\0\0\x03\0\0\0\x68\0\0\0\0"
    rationals = b"".join(n.to_bytes(4, "big") + b"\0\0\0\x01" for n in (33, 30, 0, 151, 15, 36))
    exif = tags + entries + rationals
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert any("latitude -33.500000, longitude 151.260000" in note for note in read_scene(path).notes)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes(write: Write, noise: Any, seed: int):
    """A header with a few wrong bytes: a scene or one sentence, whatever GDAL makes of it."""
    path = write("a.tif", noise, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, 400 if seed % 2 else len(data), 12):
        data[place] = rng.integers(256)
    path.write_bytes(bytes(data))
    sentences = []
    try:
        read_scene(path)
    except GmrtError as error:
        sentences = [str(error)]
    assert not any("\n" in sentence for sentence in sentences)
