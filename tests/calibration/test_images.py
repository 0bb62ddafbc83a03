"""Calibration sets from a folder, a parquet file, a raster and from nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio

from gmrt.calibration.images import ImageSet, Picture, generated_images, open_images
from gmrt.georsmllm.scenes import generate
from gmrt.runtime.errors import GmrtError, SceneError, SceneReadError
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import read_scene

SPEC = ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures, one of them in a sub-folder, and a file that is none."""
    (tmp_path / "more").mkdir()
    for seed in range(9):
        write_picture(tmp_path / ("more" if seed == 4 else "") / f"{seed}.png", seed)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def write_picture(path: Path, seed: int) -> None:
    """A small generated scene as PNG."""
    path.write_bytes(encode_png(generate(seed, size=64, kind="river").image))


def write_raster(path: Path, side: int, valid_rows: int) -> None:
    """A georeferenced RGB of noise with nodata 0 below ``valid_rows``."""
    pixels = np.random.default_rng(0).integers(1, 255, (3, side, side), dtype=np.uint8)
    pixels[:, valid_rows:] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", nodata=0, photometric="rgb",
        crs="EPSG:32633", transform=rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


def test_folder_gives_what_the_field_would_see(folder: Path) -> None:
    """Guards against a second image pipeline: the pixels are those of read_scene and prepare."""
    images = open_images(folder, SPEC)
    assert len(images.pictures) == 9
    scene = read_scene(folder / "0.png")
    np.testing.assert_array_equal(next(images.pixels(SPEC)), prepare(scene.rgb, SPEC, scene.valid))


def test_parquet_gives_the_pixels_of_the_files(folder: Path, tmp_path: Path) -> None:
    """Guards against a decoder of its own for encoded images."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    files = sorted(folder.rglob("*.png"))
    rows = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    table = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": rows}), table)
    images = open_images(table, SPEC)
    scene = read_scene(files[0])
    np.testing.assert_array_equal(next(images.pixels(SPEC)), prepare(scene.rgb, SPEC, scene.valid))


def test_raster_is_cut_into_tiles_with_data(tmp_path: Path) -> None:
    """Guards against tiles of nodata, which would calibrate on the mean colour."""
    path = tmp_path / "scene.tif"
    write_raster(path, 512, 300)
    pictures = [picture() for picture in open_images(path, ImageSpec(128, 128, (0.5,) * 3, (0.5,) * 3, 4)).pictures]
    assert len(pictures) >= 8
    assert all(scene.rgb.shape == (128, 128, 3) for scene in pictures)
    assert min(scene.valid.mean() for scene in pictures) > 0.5


@pytest.mark.parametrize("kind", ["empty folder", "two images", "small raster", "no file"])
def test_too_little_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    """Guards against a calibration on nothing, and against a traceback."""
    path = tmp_path / "set"
    if kind == "small raster":
        write_raster(path := tmp_path / "small.tif", 80, 80)
    elif kind != "no file":
        path.mkdir()
        for seed in range(0 if kind == "empty folder" else 2):
            write_picture(path / f"{seed}.png", seed)
    with pytest.raises(GmrtError) as caught:
        open_images(path, SPEC)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def write_bands(path: Path, dtype: str, count: int, *, nodata: float | None = None, side: int = 64) -> None:
    """A georeferenced raster of 10 m pixels; all of it ``nodata`` when that is given."""
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(1).uniform(1, 200, (count, side, side))
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=count, dtype=dtype, nodata=nodata,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000),
        **({"photometric": "rgb"} if count == 3 else {}),
    ) as dataset:  # fmt: skip
        dataset.write((values if nodata is None else np.full_like(values, nodata)).astype(dtype))


def test_few_pictures_of_a_sensor_are_not_drowned(tmp_path: Path) -> None:
    """Guards against a draw of 64 with one radar image among a hundred of another sensor."""
    for number in range(70):
        write_bands(tmp_path / "s2" / f"{number}.tif", "uint16", 3)
    for number in range(20):
        write_bands(tmp_path / "s1" / f"{number}.tif", "float32", 1)
    images = open_images(tmp_path, SPEC)
    assert images.sensors == {"colour uint16, about 10 m a pixel": 70, "grey band 1 float32, about 10 m a pixel": 20}
    calibrate, gate = images.split(0)
    assert calibrate.sensors == {"colour uint16, about 10 m a pixel": 52, "grey band 1 float32, about 10 m a pixel": 12}
    assert list(gate.sensors.values()) == [8, 8]
    assert not set(map(id, calibrate.pictures)) & set(map(id, gate.pictures))


def test_files_without_data_are_left_out(tmp_path: Path) -> None:
    """Guards against tiles of nodata in a folder, which would calibrate on the mean colour or stop it half-way."""
    for number in range(9):
        write_bands(tmp_path / f"{number}.tif", "uint8", 3)
        write_bands(tmp_path / f"empty-{number}.tif", "uint8", 3, nodata=0)
    images = open_images(tmp_path, SPEC)
    assert len(images.pictures) == 9
    assert all(picture().valid.all() for picture in images.pictures)


def test_large_scenes_of_a_folder_are_cut(tmp_path: Path) -> None:
    """Guards against a scene of a thousand pixels that is squeezed into one picture, and one that fills the set."""
    write_raster(tmp_path / "large.tif", 600, 300)
    for number in range(8):
        write_bands(tmp_path / f"{number}.tif", "uint8", 3, side=50)
    images = open_images(tmp_path, SPEC)
    tiles = [picture() for picture in images.pictures if picture.sensor == "colour uint8, about 1 m a pixel"]
    assert len(tiles) == 32
    assert {scene.rgb.shape for scene in tiles} == {(64, 64, 3)}
    assert min(scene.valid.mean() for scene in tiles) > 0.4


def test_other_bands_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Guards against a folder whose 65th file stops a calibration: five bands without names, found by the header."""
    for number in range(9):
        write_bands(tmp_path / f"{number}.tif", "uint8", 3)
    write_bands(tmp_path / "five.tif", "uint8", 5)
    with pytest.raises(SceneError, match=r"five\.tif.* 5 bands"):
        open_images(tmp_path, SPEC)


def test_broken_row_of_a_parquet_file_is_named(folder: Path, tmp_path: Path) -> None:
    """Guards against an error about an image that nobody can find, and questions that are lost on the way."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    files = sorted(folder.rglob("*.png"))
    rows = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    rows[7]["bytes"] = rows[7]["bytes"][:50]
    asked = [[{"question": f"how many {i}?", "answer": "1"}] for i in range(len(rows))]
    pq.write_table(pa.table({"image": rows, "qa": asked}), tmp_path / "images.parquet")
    images = open_images(tmp_path / "images.parquet", SPEC)
    assert [picture.questions() for picture in images.pictures[:2]] == [("how many 0?",), ("how many 1?",)]
    with pytest.raises(SceneReadError, match=r"images\.parquet, row 7"):
        list(images.pixels(SPEC))
    np.testing.assert_array_equal(images.pictures[2]().rgb, read_scene(files[2]).rgb)  # backwards works too


def test_unreadable_picture_is_named(folder: Path) -> None:
    """Guards against a set that silently leaves out what it cannot read."""
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(SceneError, match=r"broken\.png"):
        list(open_images(folder, SPEC).pixels(SPEC))


def test_split_is_disjoint_and_depends_on_the_seed_alone() -> None:
    """Guards against a gate that is passed on the images that were calibrated on."""
    whole = ImageSet("numbers", tuple(Picture(partial(int, i)) for i in range(100)))
    first, held = whole.split(0)
    calibrated, gated = ({int(picture()) for picture in part.pictures} for part in (first, held))
    assert (len(calibrated), len(gated)) == (64, 16)
    assert not calibrated & gated
    assert whole.split(0) == (first, held)
    assert whole.split(1) != (first, held)


def test_generated_scenes_are_the_same_for_the_same_seed() -> None:
    """Guards against a default set that differs from run to run: the bundle would have another id each time."""
    first, again, other = (generated_images(seed) for seed in (0, 0, 7))
    assert [len(part.pictures) for part in first.split(0)] == [24, 16]
    np.testing.assert_array_equal(first.pictures[3]().rgb, again.pictures[3]().rgb)
    assert (first.pictures[3]().rgb != other.pictures[3]().rgb).any()
