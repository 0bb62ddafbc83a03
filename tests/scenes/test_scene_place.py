"""Where the pixels lie: transform under reduction, ground sample distance, files that are placed otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.warp import transform as warp

from gmrt.runtime.placement import ground_sample_distance, on_earth
from gmrt.runtime.raster import quiet
from gmrt.runtime.scene import read_scene

Write = Callable[..., Path]
GREY = np.arange(64 * 48, dtype=np.uint16).reshape(1, 48, 64).astype(np.uint8)


def written(tmp_path_factory: pytest.TempPathFactory, width: int, height: int, **profile: Any) -> Path:
    """A grey raster of this size in a folder of its own."""
    path = tmp_path_factory.mktemp("place") / "a.tif"
    bands = np.ones((1, height, width), dtype=np.uint8)
    with quiet(), rasterio.open(path, "w", "GTiff", width, height, 1, dtype="uint8", **profile) as dataset:
        dataset.write(bands)
    return path


def at(transform: Affine, column: float, row: float) -> tuple[float, float]:
    """The map position of a place in the array."""
    a, b, c, d, e, f = transform[:6]
    return a * column + b * row + c, d * column + e * row + f


@settings(deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    max_side=st.integers(1, 100),
    angle=st.floats(0, 6.3),
    scale=st.floats(0.1, 100),
)
def test_reduction_keeps_the_corners(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, max_side: int, angle: float, scale: float
):
    """The four corners of the reduced array lie where those of the file do, rotated or not, for any size."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    transform = Affine(cos, sin, 5e5, sin, -1.5 * cos, 4e6)
    scene = read_scene(
        written(tmp_path_factory, width, height, crs="EPSG:32631", transform=transform), max_side=max_side
    )
    rows, columns = scene.valid.shape
    assert max(rows, columns) <= max(max_side, 1)
    assert (rows, columns) == (height, width) or max(width, height) > max_side
    assert scene.source_size == (width, height)
    assert scene.transform is not None
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        expected = at(transform, x * width, y * height)
        np.testing.assert_allclose(at(scene.transform, x * columns, y * rows), expected, atol=scale * 1e-6)


def test_reduction_averages_and_says_so(write: Write):
    """Nearest-neighbour reduction of a fine pattern shows another pattern."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8)[None]
    scene = read_scene(write("a.tif", board), max_side=16)
    assert scene.rgb.shape == (16, 16, 3)
    np.testing.assert_array_equal(scene.rgb, 100)
    assert scene.notes[-1] == "Reduced from 64 × 64 to 16 × 16 pixels."


@pytest.mark.parametrize("nodata", [0.0, -5.0, math.nan])
def test_reduction_does_not_mix_nodata_in(write: Write, nodata: float):
    """Averaged with -9999, the pixels beside a hole went black."""
    bands = np.full((1, 64, 64), 70.0, dtype=np.float32)
    bands[:, :, 32:] = 90.0
    bands[:, :, :15] = nodata
    scene = read_scene(write("a.tif", bands, nodata=nodata), max_side=16)
    row = scene.rgb[3, :, 0]
    assert not scene.valid[:, :3].any()
    assert scene.valid[:, 4:].all()
    assert set(row[4:8].tolist()) == {0}
    assert set(row[8:].tolist()) == {255}


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32631", Affine(10, 0, 5e5, 0, -10, 5e6), 10.0),
        ("EPSG:32631", Affine(6, 8, 5e5, 8, -6, 5e6), 10.0),  # rotated
        ("EPSG:32631", Affine(5, 0, 5e5, 0, -20, 5e6), 10.0),  # pixels that are not square: same area
        ("EPSG:2263", Affine(1, 0, 1e6, 0, -1, 2e5), 0.3048006),  # US survey feet
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 0.0024), 11.132),  # at the equator
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 60.0024), 11.132 * math.sqrt(0.5)),  # at 60° north
    ],
)
def test_ground_sample_distance(crs: str, transform: Affine, metres: float):
    """Degrees were reported as metres, and feet too."""
    assert ground_sample_distance(transform, CRS.from_string(crs), (48, 48)) == pytest.approx(metres, rel=1e-3)


@given(st.floats(-75, 75), st.floats(0.1, 50))
def test_web_mercator_is_measured_on_the_ground(latitude: float, side: float):
    """A pixel of 0.6 m on a web map is 0.47 m at 38° north."""
    mercator = CRS.from_epsg(3857)
    (x,), (y,) = warp(CRS.from_epsg(4326), mercator, [10.0], [latitude])
    found = ground_sample_distance(Affine(side, 0, x, 0, -side, y), mercator, (0, 0))
    assert found == pytest.approx(side * math.cos(math.radians(latitude)), rel=1e-3)


def test_another_planet(write: Write):
    """A degree on the Moon is 30 km, not 111."""
    moon = 'GEOGCS["Moon 2000",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Zero",0],UNIT["degree",0.0174532925]]'
    scene = read_scene(write("a.tif", GREY, crs=moon, transform=Affine(0.1, 0, 0, 0, -0.1, 2.4)))
    assert scene.gsd == pytest.approx(1737400 * math.radians(0.1), rel=1e-3)


def test_a_place_is_read(write: Write):
    """CRS as its authority's code, the transform that of the file."""
    transform = Affine(10, 0, 5e5, 0, -10, 5e6)
    scene = read_scene(write("a.tif", GREY, crs="EPSG:32631", transform=transform))
    assert (scene.crs, scene.transform, scene.gsd) == ("EPSG:32631", transform, 10.0)


def test_no_place(write: Write):
    """A picture has no CRS, and the identity is not a map; an affine without CRS is kept, without metres."""
    scene = read_scene(write("a.png", GREY))
    assert (scene.crs, scene.transform, scene.gsd) == (None, None, None)
    local = Affine(2, 0, 7, 0, -2, 9)
    scene = read_scene(write("a.tif", GREY, transform=local))
    assert (scene.crs, scene.transform, scene.gsd) == (None, local, None)


@pytest.mark.parametrize("step", [8, 32])
def test_control_points_place_the_pixels(tmp_path: Path, step: int):
    """A file placed by control points was answered in pixels; here they lie on an affine, as a few and as many."""
    known = Affine(0.01, 0.002, 10, 0.001, -0.01, 50)
    points = [GroundControlPoint(r, c, *at(known, c, r)) for r in range(0, 49, step) for c in range(0, 65, step)]
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 1, "dtype": "uint8"}
    with quiet(), rasterio.open(path, "w", **profile, gcps=points, crs="EPSG:4326") as dataset:
        dataset.write(GREY)
    scene = read_scene(path, max_side=32)
    assert (scene.crs, scene.transform) == ("EPSG:4326", None)
    assert any("control points" in note for note in scene.notes)
    assert scene.placement is not None
    for column, row in ((0, 0), (32, 24), (13.5, 7.25)):
        expected = at(known, column * 2, row * 2)
        np.testing.assert_allclose(scene.placement.to_map([[column, row]]), [expected], atol=1e-6)
        np.testing.assert_allclose(scene.placement.to_pixel([expected]), [[column, row]], atol=1e-4)
    assert scene.gsd == pytest.approx(0.01 * math.radians(6378137) * math.sqrt(math.cos(math.radians(49.8))), rel=0.02)


def test_control_points_on_a_line_place_nothing(tmp_path: Path):
    """Three points of one row fit any number of maps: GDAL's refusal came out as a traceback."""
    points = [GroundControlPoint(0, c, 10 + c / 100, 50) for c in (0, 30, 64)]
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 1, "dtype": "uint8"}
    with quiet(), rasterio.open(path, "w", **profile, gcps=points, crs="EPSG:4326") as dataset:
        dataset.write(GREY)
    scene = read_scene(path)
    assert (scene.placement, scene.crs, scene.gsd) == (None, None, None)
    assert any("do not place it" in note for note in scene.notes)


def test_control_points_across_the_antimeridian(tmp_path: Path):
    """Longitudes of 179 and -179 fitted as they stand put the middle of the image in Greenwich."""
    points = [
        GroundControlPoint(r, c, (179.7 + c / 100 + 180) % 360 - 180, 50 - r / 100)
        for r in (0, 24, 48)
        for c in (0, 16, 32, 64)
    ]
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 1, "dtype": "uint8"}
    with quiet(), rasterio.open(path, "w", **profile, gcps=points, crs="EPSG:4326") as dataset:
        dataset.write(GREY)
    placement = read_scene(path).placement
    assert placement is not None
    np.testing.assert_allclose(placement.to_map([[50, 10]]), [[180.2, 49.9]], atol=1e-6)
    np.testing.assert_allclose(placement.to_pixel([[-179.8, 49.9], [180.2, 49.9]]), [[50, 10]] * 2, atol=1e-4)


def test_rational_polynomials_place_the_pixels(tmp_path: Path):
    """The centre of pixel 32 is what the polynomials call 32; half a pixel would go unnoticed."""
    rest = [0.0] * 16
    rpcs = RPC(
        height_off=100, height_scale=500, lat_off=45, lat_scale=0.05, long_off=9, long_scale=0.05,
        line_off=24, line_scale=24, samp_off=32, samp_scale=32, line_num_coeff=[0, 0, -1, 0.01, *rest],
        line_den_coeff=[1, 0, 0, 0, *rest], samp_num_coeff=[0, 1, 0, 0.02, *rest], samp_den_coeff=[1, 0, 0, 0, *rest],
    )  # fmt: skip
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 1, "dtype": "uint8"}
    with quiet(), rasterio.open(path, "w", **profile, rpcs=rpcs) as dataset:
        dataset.write(GREY)
    scene = read_scene(path)
    assert scene.crs == "EPSG:4326"
    assert scene.placement is not None
    np.testing.assert_allclose(scene.placement.to_map([[32.5, 24.5]]), [[9, 45]], atol=1e-7)
    pixels = np.array([[0, 0], [64, 48], [10.5, 40]])
    np.testing.assert_allclose(scene.placement.to_pixel(scene.placement.to_map(pixels)), pixels, atol=1e-4)
    assert any("100 m" in note for note in scene.notes)


@pytest.mark.parametrize(("crs", "ours"), [("EPSG:4326", True), ("EPSG:32631", True), ("EPSG:3857", True)])
def test_on_earth(crs: str, ours: bool):
    """Longitudes of the Moon went out as WGS 84."""
    assert on_earth(crs) is ours
    assert not on_earth("+proj=longlat +R=1737400 +no_defs")
    assert not on_earth("+proj=eqc +R=3396190 +no_defs")
    assert on_earth("+proj=sinu +R=6371007.181 +no_defs")


def test_a_huge_raster_uses_its_overviews(write: Write, convert: Write, monkeypatch: pytest.MonkeyPatch):
    """Every pixel of a 36 000 × 18 000 COG would be decoded to show 4096 of them."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 200).astype(np.uint8)[None]
    cog = convert(write("a.tif", board), "cog.tif", "COG", BLOCKSIZE="128", OVERVIEW_RESAMPLING="NEAREST")
    exact = read_scene(cog, max_side=64)
    np.testing.assert_array_equal(exact.rgb, 100)
    monkeypatch.setattr("gmrt.runtime.raster._EXACT", 1000)
    assert set(np.unique(read_scene(cog, max_side=64).rgb)) <= {0, 200}


def test_two_readers_do_not_disturb_each_other(write: Write):
    """Readers nest (a pair of images), and the options of one must outlive the other."""
    path = write("a.tif", GREY)
    with quiet(), MemoryFile(path.read_bytes()) as memory, memory.open() as outer:
        first = read_scene(path).rgb
        np.testing.assert_array_equal(outer.read(1), first[:, :, 0])
