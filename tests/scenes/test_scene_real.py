"""Real rasters, where they are at hand: every one gives a scene or one clear sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from gmrt.runtime.errors import GmrtError, SceneError, SceneReadError
from gmrt.runtime.scene import read_scene

READ = {
    # name: size, bands, CRS, metres per pixel, share of valid pixels
    "RGB.byte.tif": ((791, 718), ("red", "green", "blue"), "EPSG:32618", 300.04, 0.675),
    "RGBA.uint16.tif": ((634, 411), ("red", "green", "blue"), "EPSG:32612", 1.38, 0.489),
    "naip_20090818.tif": ((934, 724), ("red", "green", "blue"), "EPSG:26914", 5.0, 1.0),
    "naip_20140720.tif": ((934, 723), ("red", "green", "blue"), "EPSG:26914", 5.0, 1.0),
    "naip_20200831.tif": ((934, 723), ("red", "green", "blue"), "EPSG:26914", 5.0, 1.0),
    "rapideye_rgbn_20160101.tif": ((515, 403), ("red", "green", "blue"), "EPSG:32618", 5.0, 1.0),
    "worldview_pan_uint16.tif": ((900, 900), ("band 1",), "EPSG:32616", 0.5, 1.0),
    "cog_rgb_mask.tif": ((383, 232), ("red", "green", "blue"), "EPSG:26913", 0.15, 0.969),
    "cog_gcps.tif": ((1280, 837), ("band 1",), "EPSG:4326", 202.44, 0.980),
    "cog_dateline.tif": ((2325, 2355), ("band 1",), "EPSG:32660", 100.01, 1.0),
    "cog_nodata_nan.tif": ((549, 549), ("Gamma0_VV",), "EPSG:32610", 200.0, 0.489),
    "cogeo.tif": ((1024, 1024), ("red", "green", "blue"), "EPSG:3857", 0.4727, 1.0),
    "float_nan.tif": ((3, 2), ("band 1",), None, None, 5 / 6),
    "rotated.tif": ((10, 15), ("band 1",), None, None, 1.0),
    "landsat8/l8_B4.tif": ((627, 603), ("B4",), "EPSG:32616", 30.0, 1.0),
}
REFUSED = {
    "all-nodata.tif": (SceneError, "no data"),
    "corrupt.tif": (SceneReadError, "cannot be read"),
    "landsat_1985.tif": (SceneError, "--bands"),
    "landsat_2020.tif": (SceneError, "--bands"),
}


@pytest.mark.parametrize("name", READ)
def test_real_scene(scenes: Path, name: str):
    """What GDAL says of these files, and what they are, differ: NAIP is tagged grey, one RGBA is stored BGRA."""
    size, bands, crs, gsd, valid = READ[name]
    scene = read_scene(scenes / name)
    assert scene.source_size == size
    assert scene.bands == bands
    assert scene.crs == crs
    assert scene.gsd == (None if gsd is None else pytest.approx(gsd, rel=1e-3))
    assert scene.valid.mean() == pytest.approx(valid, abs=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_real_refusal(scenes: Path, name: str):
    """An empty, a damaged and an unlabelled raster: one sentence each, with what to do."""
    kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        read_scene(scenes / name)
    assert "\n" not in str(caught.value)


def test_landsat_with_bands_named(scenes: Path):
    """By their values these are short-wave infrared, near infrared, red, green: there is no blue to draw."""
    scene = read_scene(scenes / "landsat_2020.tif", bands="1,2,3")
    assert scene.gsd == pytest.approx(90.0, rel=0.01)
    red, green, blue = scene.rgb.reshape(-1, 3).mean(axis=0)
    assert green > red > blue


def test_every_file_is_a_scene_or_a_sentence(scenes: Path, capfd: pytest.CaptureFixture[str]):
    """No traceback, no warning, nothing on stderr, for any file that lies there."""
    read = []
    sentences = []
    for path in sorted(path for path in scenes.rglob("*") if path.is_file()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read.append(read_scene(path, max_side=512))
            except GmrtError as error:
                sentences.append(str(error))
    assert len(read) > 40
    assert not any("\n" in sentence for sentence in sentences)
    for scene in read:
        assert scene.rgb.dtype == np.uint8
        assert max(scene.rgb.shape) <= 512
        assert scene.rgb[scene.valid].std() > 0 or scene.notes
    assert capfd.readouterr() == ("", "")
