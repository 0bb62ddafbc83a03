"""Folders, SAFE directories, Landsat scenes and STAC items as one scene: which bands, which numbers, which grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from gmrt.runtime.errors import GmrtError, SceneError
from gmrt.runtime.products import find_product
from gmrt.runtime.raster import quiet
from gmrt.runtime.scene import open_scene, read_scene

NORTH_UP: dict[str, Any] = {"crs": "EPSG:32631"}


def band(path: Path, value: float | np.ndarray, size: int = 60, metres: float = 10, dtype: str = "uint16") -> Path:
    """Write a square band of 600 m at ``metres`` a pixel, one value or an array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = round(size * 10 / metres)
    values = np.broadcast_to(np.asarray(value, dtype=dtype), (size, size))
    profile = {
        "width": size,
        "height": size,
        "count": 1,
        "dtype": dtype,
        "transform": Affine(metres, 0, 5e5, 0, -metres, 5e6),
    }
    with quiet(), rasterio.open(path, "w", driver="GTiff", **profile, **NORTH_UP) as dataset:
        dataset.write(values[None])
    return path


def sentinel_2(folder: Path, offset: int | None, names: str = "B02 B03 B04 B08") -> Path:
    """A SAFE directory, as GeoTIFF: blue 0.04, green 0.08, red 0.12, near infrared 0.25 of reflectance."""
    values = {"B02": 400, "B03": 800, "B04": 1200, "B08": 2500}
    images = folder / "GRANULE" / "L2A_T31" / "IMG_DATA" / "R10m"
    for name in names.split():
        band(images / f"T31_20230101T101010_{name}_10m.tif", values[name] - (offset or 0))
        band(images.parent / "R20m" / f"T31_20230101T101010_{name}_20m.tif", 1, metres=20)
    band(images.parent / "R20m" / "T31_20230101T101010_B11_20m.tif", 1500 - (offset or 0), metres=20)
    band(images / "T31_20230101T101010_TCI_10m.tif", 1)
    lines = (
        "" if offset is None else "".join(f'<BOA_ADD_OFFSET band_id="{i}">{offset}</BOA_ADD_OFFSET>' for i in range(13))
    )
    quantum = '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
    (folder / "MTD_MSIL2A.xml").write_text(f"<a>{quantum}{lines}</a>")
    return folder


@pytest.mark.parametrize("offset", [None, -1000])
def test_sentinel_2_reflectance(tmp_path: Path, offset: int | None):
    """With baseline 04.00 the same field came out 85 grey levels brighter: its offset lies in the metadata only."""
    folder = sentinel_2(tmp_path / "S2A.SAFE", offset)
    for path in (folder, folder / "MTD_MSIL2A.xml"):
        scene = read_scene(path)
        assert scene.rgb[0, 0].tolist() == [153, 102, 51]  # of 0…0.2
        assert scene.bands == ("B04", "B03", "B02")
        assert scene.wavelengths == (665, 560, 490)
        assert scene.source_size == (60, 60)
        assert scene.crs == "EPSG:32631"
        assert any("Taken as one scene: Sentinel-2 L2A, 5 bands" in note for note in scene.notes)


def test_bands_of_two_resolutions_lie_on_one_grid(tmp_path: Path):
    """The 20 m band next to the 10 m ones was refused, or shifted by half a pixel."""
    folder = tmp_path / "scene"
    ramp = np.repeat(np.arange(30) * 100, 2)
    band(folder / "S2_20170101_B02.tif", np.tile(ramp, (60, 1)).astype(np.uint16))
    band(folder / "S2_20170101_B11.tif", np.tile(ramp[::2], (30, 1)).astype(np.uint16), metres=20)
    scene = read_scene(folder, bands="B02,B11,B11")
    assert scene.rgb.shape == (60, 60, 3)
    difference = scene.rgb[:, 3:-3, 0].astype(int) - scene.rgb[:, 3:-3, 1]
    assert abs(difference).max() <= 3  # bilinear between the steps, and no shift: the mean is nothing
    assert abs(difference.mean()) < 0.1


def test_a_window_of_a_product_is_that_part_of_the_whole(tmp_path: Path):
    """A tile warped by itself was stretched, and shifted, by itself."""
    folder = tmp_path / "scene"
    rng = np.random.default_rng(0)
    for name, metres in (("red", 10), ("green", 20), ("blue", 20)):
        band(folder / f"{name}.tif", rng.integers(0, 9999, (round(600 / metres),) * 2).astype(np.uint16), metres=metres)
    with open_scene(folder) as reader:
        whole, part = reader.read(), reader.read((10, 20, 30, 24))
    np.testing.assert_array_equal(part.rgb, whole.rgb[20:44, 10:40])
    assert part.window == (10, 20, 30, 24)
    assert part.source_size == (60, 60)
    assert part.transform is not None
    assert (part.transform.c, part.transform.f) == (5e5 + 100, 5e6 - 200)


def test_one_stretch_for_all_windows(write: Callable[..., Path]):
    """Stretched tile by tile, neighbours differ in colour along their seam."""
    values = np.linspace(0, 60000, 64 * 64).reshape(1, 64, 64).astype(np.uint16)
    with open_scene(write("a.tif", values)) as reader:
        parts = [reader.read((0, row, 64, 16)) for row in range(0, 64, 16)]
        whole = reader.read()
    np.testing.assert_array_equal(np.concatenate([part.rgb for part in parts]), whole.rgb)
    assert parts[0].notes == whole.notes


def test_a_folder_of_several_dates_is_no_product(tmp_path: Path):
    """Red of one day was laid over green of another."""
    for name in ("a_B02", "a_B03", "a_B04", "b_B02", "b_B03", "b_B04"):
        band(tmp_path / f"{name}.tif", 1)
    assert find_product(str(tmp_path)) is None


@pytest.mark.parametrize("names", [("city", "river"), ("B02",), ("a_red", "holiday"), ()])
def test_an_ordinary_folder_is_no_product(tmp_path: Path, names: tuple[str, ...]):
    """A folder of images was taken for one scene because of one name in it."""
    for name in names:
        band(tmp_path / f"{name}.tif", 1)
    assert find_product(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("level", "values", "metadata", "reflectance"),
    [("L2SP", 12000, "", 12000 * 2.75e-5 - 0.2), ("L1TP", 9000, "SUN_ELEVATION = 30.0", (9000 * 2e-5 - 0.1) / 0.5)],
)
def test_landsat_reflectance(tmp_path: Path, level: str, values: int, metadata: str, reflectance: float):
    """Level 1 is not divided by the sun's elevation in the file, and Level 2 has another scale."""
    stem = f"LC09_{level}_199024_20230101_20230102_02_T1"
    middle = "_SR_" if level == "L2SP" else "_"
    for number in (2, 3, 4, 5):
        band(tmp_path / f"{stem}{middle}B{number}.TIF", values)
    band(tmp_path / f"{stem}_QA_PIXEL.TIF", 21824)
    (tmp_path / f"{stem}_MTL.txt").write_text(
        f"GROUP = A\n  {metadata}\n  REFLECTANCE_MULT_BAND_4 = 2.0000E-05\n  REFLECTANCE_ADD_BAND_4 = -0.100000\nEND\n"
    )
    for path in (tmp_path, tmp_path / f"{stem}_MTL.txt"):
        scene = read_scene(path)
        assert scene.rgb[0, 0].tolist() == [round(reflectance / 0.2 * 255)] * 3
        assert scene.bands[0].endswith("B4")
        assert scene.wavelengths == (655, 561, 482)


def test_the_same_number_is_another_colour_on_landsat_5(tmp_path: Path):
    """Band 4 is red on Landsat 8 and near infrared on Landsat 5."""
    for number, value in ((1, 10), (2, 20), (3, 30), (4, 40)):
        band(tmp_path / f"LT05_L1TP_199024_19850101_20200102_02_T1_B{number}.TIF", value, dtype="uint8")
    assert [name[-1] for name in read_scene(tmp_path).bands] == ["3", "2", "1"]


def test_numbered_bands_of_an_unknown_sensor_are_asked_about(tmp_path: Path):
    """B2, B3, B4 are blue, green, red of one Landsat and green, red, infrared of another."""
    for number in (2, 3, 4):
        band(tmp_path / f"scene_B{number}.tif", number)
    with pytest.raises(SceneError, match="--bands"):
        read_scene(tmp_path)
    assert read_scene(tmp_path, bands="red=B4,green=B3,blue=B2").bands == ("B4", "B3", "B2")


def item(folder: Path, assets: dict[str, Any], **properties: Any) -> Path:
    """A STAC item beside its assets."""
    path = folder / "item.json"
    content = {"type": "Feature", "stac_version": "1.0.0", "id": "one", "properties": properties, "assets": assets}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_stac_item(tmp_path: Path, version: str):
    """Bands are known by the item's words for them, and by its scale and offset."""
    assets: dict[str, Any] = {"preview": {"href": "./preview.jpg", "roles": ["thumbnail"]}}
    for name, centre, value in (
        ("red", 0.665, 2200),
        ("green", 0.56, 1800),
        ("blue", 0.49, 1400),
        ("nir", 0.842, 3000),
    ):
        band(tmp_path / f"x{name}.tif", value)
        if version == "1.0":
            electro = [{"name": f"N{name}", "common_name": name, "center_wavelength": centre}]
            assets[name] = {"eo:bands": electro, "raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]}
        else:
            one = {"name": f"N{name}", "eo:common_name": name, "eo:center_wavelength": centre, "raster:scale": 1e-4}
            assets[name] = {"bands": [{**one, "raster:offset": -0.1, "nodata": 0}]}
        assets[name]["href"] = f"./x{name}.tif"
    scene = read_scene(item(tmp_path, assets, platform="sentinel-2a"))
    assert scene.bands == ("Nred", "Ngreen", "Nblue")
    assert scene.rgb[0, 0].tolist() == [153, 102, 51]
    assert scene.wavelengths == pytest.approx((665, 560, 490))
    applied = item(tmp_path, assets, **{"earthsearch:boa_offset_applied": True})
    np.testing.assert_allclose(read_scene(applied).rgb[0, 0], [255, 229.5, 178.5], atol=0.6)


@pytest.mark.parametrize(
    "href", ["https://127.0.0.1:1/a.tif", "s3://bucket/a.tif", "/vsicurl/https://x/a.tif", "gone.tif"]
)
def test_an_item_does_not_reach_the_network(tmp_path: Path, href: str):
    """Somebody else's item named an address, and reading it told them who reads it, and when."""
    path = item(tmp_path, {"a": {"href": href, "eo:bands": [{"common_name": "red"}]}})
    with pytest.raises(SceneError, match="on this disk"):
        read_scene(path)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "not json", '{"type": "Feature"}', '{"type": "Feature", "stac_version": "1.0.0", "assets": [1]}',
     '{"type":"Feature","stac_version":1,"assets":{"a":{"href":"item.json","eo:bands":[1,{"common_name":[]}]}}}',
     "[" * 100_000],
)  # fmt: skip
def test_json_that_is_no_item(tmp_path: Path, text: str):
    """Any JSON may be given for an image: one sentence, no traceback."""
    path = tmp_path / "item.json"
    path.write_text(text)
    with pytest.raises(GmrtError) as caught:
        read_scene(path)
    assert "\n" not in str(caught.value)


def test_sentinel_1_safe(tmp_path: Path):
    """Amplitudes of two polarisations: decibels, and the fill value 0 is no echo."""
    folder = tmp_path / "S1A.SAFE"
    echoes = np.tile(np.r_[0, np.arange(1, 60) * 10], (60, 1)).astype(np.uint16)
    band(folder / "measurement" / "s1a-iw-grd-vv-1-001.tiff", echoes)
    band(folder / "measurement" / "s1a-iw-grd-vh-1-002.tiff", echoes // 2)
    scene = read_scene(folder)
    assert scene.bands == ("VV", "VH")
    assert "radar pseudo-colour" in scene.composite
    assert not scene.valid[:, 0].any()
    assert scene.valid[:, 1:].all()
    band(folder / "measurement" / "s1a-iw2-slc-vv-2-003.tiff", echoes)
    with pytest.raises(SceneError, match="swaths"):
        read_scene(folder)


def test_bands_without_a_place_and_of_two_sizes(tmp_path: Path, write: Callable[..., Path]):
    """There is nothing to lay them together by."""
    write("red.tif", np.ones((1, 8, 8), np.uint8))
    write("green.tif", np.ones((1, 8, 8), np.uint8))
    write("blue.tif", np.ones((1, 4, 4), np.uint8))
    with pytest.raises(SceneError, match="laid together"):
        read_scene(tmp_path)


def test_a_product_with_a_missing_half(tmp_path: Path):
    """A SAFE directory that was copied without its images."""
    folder = sentinel_2(tmp_path / "S2A.SAFE", None)
    for path in folder.rglob("*.tif"):
        path.unlink()
    with pytest.raises(SceneError, match="copy it again"):
        read_scene(folder)
