"""Rasters and pictures in, `Scene` out: dtypes, masks, formats, damage."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gmrt.runtime import reader
from gmrt.runtime.drawing import stretch
from gmrt.runtime.errors import GmrtError, SceneError, SceneNotFoundError, SceneReadError
from gmrt.runtime.raster import quiet
from gmrt.runtime.scene import Scene, decode_image, read_scene, scene_from_array, scene_hash

Bytes = npt.NDArray[np.uint8]
Write = Callable[..., Path]
RGB = ("red", "green", "blue")


def test_bytes_are_taken_as_they_are(write: Write, noise: Bytes):
    """A stretch of eight-bit pictures made the same place look different in every tile."""
    scene = read_scene(write("a.tif", noise))
    np.testing.assert_array_equal(scene.rgb, noise.transpose(1, 2, 0))
    assert scene.valid.all()
    assert scene.notes == ()
    assert scene.bands == RGB
    assert scene.source_size == (64, 48)


def test_the_arrays_are_sealed(write: Write, noise: Bytes):
    """A scene is shared by questions and keyed by its pixels: writing into it would answer from another image."""
    scene = read_scene(write("a.tif", noise))
    with pytest.raises(ValueError, match="read-only"):
        scene.rgb[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        scene.valid[0, 0] = False


@pytest.mark.parametrize("max_side", [4096, 24])
def test_every_format_gives_the_same_pixels(write: Write, convert: Write, noise: Bytes, max_side: int):
    """Reduced by its nearest-neighbour overviews, a COG answered differently from the same pixels as PNG."""
    source = write("a.tif", noise)
    copies = [
        convert(source, "a.png", "PNG"),
        convert(source, "cog.tif", "COG", BLOCKSIZE="128", OVERVIEW_RESAMPLING="NEAREST", OVERVIEW_COUNT="2"),
        convert(source, "a.vrt", "VRT"),
        write("tiled.tif", noise, tiled=True, blockxsize=16, blockysize=16, interleave="band"),
    ]
    with quiet(), rasterio.open(copies[1]) as cog:
        assert cog.overviews(1)
    expected = read_scene(source, max_side=max_side)
    for copy in copies:
        scene = read_scene(copy, max_side=max_side)
        np.testing.assert_array_equal(scene.rgb, expected.rgb, err_msg=str(copy))
        assert scene_hash(scene) == scene_hash(expected)


def test_a_mask_means_the_same_in_every_format(write: Write, convert: Write, noise: Bytes):
    """What lies under a mask differs between formats, so equal scenes had different hashes and shared no prefix."""
    mask = np.random.default_rng(1).random(noise.shape[1:]) < 0.7
    internal = write("mask.tif", noise, mask=mask)
    hidden = np.where(mask, noise, 77)
    alpha = np.concatenate([hidden, np.where(mask, 255, 0)[None]]).astype(np.uint8)
    files = [
        internal,
        convert(internal, "mask.vrt", "VRT"),
        convert(internal, "cog.tif", "COG"),
        write("alpha.png", alpha),
        write("alpha.tif", alpha, colours=(*RGB, "alpha")),
        write("nodata.tif", np.where(mask, noise, 0) + (noise == 0) * mask, nodata=0),
    ]
    scenes = [read_scene(file) for file in files]
    for scene, file in zip(scenes, files, strict=True):
        np.testing.assert_array_equal(scene.valid, mask, err_msg=str(file))
        assert not scene.rgb[~mask].any()
    assert len({scene_hash(scene) for scene in scenes[:-1]}) == 1


def test_a_dark_pixel_is_not_nodata(write: Write):
    """With nodata 0, deep water (0, 0, 9) became a hole when one band sufficed."""
    bands = np.zeros((3, 2, 2), dtype=np.uint8)
    bands[:, 0, 0] = 0, 0, 9
    np.testing.assert_array_equal(read_scene(write("a.tif", bands, nodata=0)).valid, [[True, False], [False, False]])


def test_a_missing_band_is_nodata(write: Write):
    """With nodata -9999 in one band of three the pixel was drawn, in a colour that is not there."""
    bands = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2)
    bands[1, 0, 0] = -9999
    scene = read_scene(write("a.tif", bands, nodata=-9999, colours=RGB))
    np.testing.assert_array_equal(scene.valid, [[False, True], [True, True]])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_other_dtypes_are_stretched_once_and_say_so(write: Write, dtype: str):
    """One pair of limits for all bands: a limit for each of them turned forest grey."""
    rng = np.random.default_rng(0)
    limit = 127 if dtype == "int8" else 4000
    bands = (rng.random((3, 40, 40)) * limit * np.array([1.0, 0.6, 0.3])[:, None, None]).astype(dtype)
    scene = read_scene(write("a.tif", bands, colours=RGB))
    low, high = np.percentile(bands, (2, 98))
    np.testing.assert_array_equal(scene.rgb, stretch(bands, low, high).transpose(1, 2, 0))
    red, green, blue = scene.rgb.reshape(-1, 3).mean(axis=0)
    assert red > green > blue
    assert len(scene.notes) == 1
    assert dtype in scene.notes[0]
    assert "stretched" in scene.notes[0]


def test_the_stretch_ignores_what_is_not_data(write: Write):
    """A border of zeros or of -3e38 took the whole range, and the scene came out flat."""
    bands = np.random.default_rng(0).uniform(100, 200, (1, 40, 40)).astype(np.float32)
    bands[:, :20] = -3.4e38
    bands[:, 20] = np.nan
    bands[:, 21] = np.inf
    scene = read_scene(write("a.tif", bands, nodata=-3.4e38))
    np.testing.assert_array_equal(scene.valid[:, 0], [False] * 22 + [True] * 18)
    inside = scene.rgb[22:]
    assert inside.min() == 0
    assert inside.max() == 255
    assert 110 < inside.mean() < 145


def test_the_few_valid_pixels_of_an_empty_scene_are_found(write: Write, monkeypatch: pytest.MonkeyPatch):
    """The sample of a stretch fell between them, and a percentile of nothing is an IndexError."""
    monkeypatch.setattr(reader, "_SAMPLES", 16)
    bands = np.full((1, 64, 64), np.nan, dtype=np.float32)
    bands[0, 13, 17:19] = 1, 2
    scene = read_scene(write("a.tif", bands))
    assert scene.rgb[13, 17:19, 0].tolist() == [0, 255]


@pytest.mark.parametrize(("rare", "expected"), [(5.0, 255), (3.0, 128)])
def test_a_flat_scene(write: Write, rare: float, expected: int):
    """Equal percentiles divided by zero; what differs from the one value is the picture."""
    bands = np.full((1, 20, 20), 3.0, dtype=np.float32)
    bands[0, 0, 0] = rare
    scene = read_scene(write("a.tif", bands))
    assert scene.rgb[0, 0, 0] == expected


def test_a_grey_band_is_repeated(write: Write, noise: Bytes):
    """A tower of three channels takes no single band."""
    scene = read_scene(write("a.tif", noise[:1]))
    np.testing.assert_array_equal(scene.rgb, np.repeat(noise[0][:, :, None], 3, axis=2))
    assert scene.composite == "grey"
    assert any("grey" in note for note in scene.notes)


def test_grey_with_alpha(write: Write, noise: Bytes):
    """A grey PNG with alpha has two bands, and only one of them is a picture."""
    alpha = np.where(noise[1] > 99, 255, 0).astype(np.uint8)
    scene = read_scene(write("a.png", np.stack([noise[0], alpha])))
    np.testing.assert_array_equal(scene.valid, alpha > 0)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_palette_is_looked_up(write: Write, suffix: str):
    """Palette indexes were drawn as shades of grey."""
    colours = {0: (255, 0, 0, 255), 1: (0, 99, 0, 255), 2: (9, 8, 7, 255)}
    scene = read_scene(write(f"a{suffix}", [[[0, 1], [2, 1]]], dtype="uint8", palette=colours))
    assert scene.rgb.tolist() == [[[255, 0, 0], [0, 99, 0]], [[9, 8, 7], [0, 99, 0]]]


def test_a_reduced_palette_keeps_its_colours(write: Write):
    """Red and blue were averaged to the palette's purple, a class that is nowhere in the image."""
    colours = {0: (255, 0, 0, 255), 1: (128, 0, 128, 255), 2: (0, 0, 255, 255)}
    stripes = np.tile(np.array([0, 2], dtype=np.uint8), (1, 16, 8))
    scene = read_scene(write("a.tif", stripes, palette=colours), max_side=4)
    assert not (scene.rgb[:, :, 0] == 128).any()


def test_a_transparent_palette_entry_is_masked(write: Write):
    """A PNG palette with a transparent entry showed its hidden colour."""
    colours = {0: (255, 0, 0, 255), 1: (0, 99, 0, 0)}
    scene = read_scene(write("a.png", [[[0, 1]]], dtype="uint8", palette=colours))
    assert scene.valid.tolist() == [[True, False]]


def test_a_one_bit_picture_is_not_black(write: Write):
    """Its values are 0 and 1 of a byte."""
    scene = read_scene(write("a.png", [[[0, 1]]], dtype="uint8", nbits=1))
    assert scene.rgb[0, :, 0].tolist() == [0, 255]


def test_sixteen_bit_png(write: Write, noise: Bytes):
    """Pillow cannot read one; here it is a raster like any other."""
    scene = read_scene(write("a.png", noise.astype(np.uint16) * 200))
    assert scene.rgb.dtype == np.uint8
    assert scene.rgb.max() == 255
    assert len(scene.notes) == 1


def test_chosen_bands_are_drawn(write: Write):
    """``bands`` counts from 1 and reaches the pixels, not only the names."""
    bands = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint8)
    path = write("a.tif", bands, photometric="minisblack", descriptions=("blue", "green", "red", "nir"))
    assert read_scene(path).rgb[0, 0].tolist() == [2, 1, 0]
    assert read_scene(path, bands="nir,red,green").rgb[0, 0].tolist() == [3, 2, 1]
    assert read_scene(path, bands=[1, 1, 4]).rgb[0, 0].tolist() == [0, 0, 3]
    assert read_scene(path, bands="nir").rgb[0, 0].tolist() == [3, 3, 3]


def test_unnamed_bands_are_asked_about(write: Write, noise: Bytes):
    """Naming file, bands and option is what lets the caller answer."""
    path = write("city.tif", np.concatenate([noise, noise]))
    with pytest.raises(SceneError, match=r"city\.tif: has 6 bands .*--bands"):
        read_scene(path)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("missing.tif", None, SceneNotFoundError),
        ("text.tif", b"these are not pixels", SceneError),
        ("empty.tif", b"", SceneError),
        ("header.tif", b"II*\0", SceneError),
        ("zero.vrt", b'<VRTDataset rasterXSize="4" rasterYSize="4"></VRTDataset>', SceneError),
    ],
)
def test_what_is_no_raster(tmp_path: Path, name: str, content: bytes | None, error: type[GmrtError]):
    """One sentence with the path, whatever GDAL says."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        read_scene(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_pipe(tmp_path: Path):
    """GDAL waits for a pipe for ever."""
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(SceneError, match="folder"):
        read_scene(tmp_path)
    with pytest.raises(SceneError, match="not a regular file"):
        read_scene(tmp_path / "pipe.tif")


@pytest.mark.parametrize("name", ["a\0b.tif", "x" * 5000])
def test_impossible_names(name: str):
    """The name of a file comes from a command line, where a prompt may stand in its place."""
    with pytest.raises((SceneNotFoundError, SceneReadError)):
        read_scene(name)


def test_complex_values(write: Write):
    """The real part alone is not a picture of the radar's amplitude, and its mean over many pixels is nothing."""
    values = np.array([[1, 1j], [-10, 10j]], dtype=np.complex64).repeat(8, axis=0).repeat(8, axis=1)[None]
    scene = read_scene(write("a.tif", values))
    assert scene.rgb[[0, 0, 15, 15], [0, 15, 0, 15], 0].tolist() == [0, 0, 255, 255]
    assert any("complex64" in note and "decibels" in note for note in scene.notes)
    assert read_scene(write("a.tif", values), max_side=4).rgb[0, 0, 0] == 0


@pytest.mark.parametrize("value", [0, np.nan])
def test_nothing_but_nodata(write: Write, value: float):
    """An empty tile was answered with a description of black."""
    with pytest.raises(SceneError, match="no data"):
        read_scene(write("a.tif", np.full((1, 8, 8), value, dtype=np.float32), nodata=0))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_half_a_file(write: Write, noise: Bytes, suffix: str):
    """GDAL's fast path for whole PNG files returned uninitialised memory for the missing half, and no error."""
    path = write(f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneReadError) as caught:
        read_scene(path)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value, OSError)
    if suffix != ".tif":
        with pytest.raises(SceneReadError):
            decode_image(path.read_bytes())


def test_nothing_is_printed(write: Write, noise: Bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """GDAL and rasterio wrote warnings between the answer's lines."""
    damaged = write("damaged.png", noise)
    damaged.write_bytes(damaged.read_bytes()[:3000])
    (tmp_path / "text.tif").write_text("text")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_scene(write("a.png", noise))
        decode_image((tmp_path / "a.png").read_bytes())
    for path in (damaged, tmp_path / "text.tif"):
        with pytest.raises(GmrtError):
            read_scene(path)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[bytes]]]:
    """A port on this machine, and what was asked of it."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(64))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


@pytest.mark.parametrize("address", ["/vsicurl/http://127.0.0.1:{port}/a.tif", "http://127.0.0.1:{port}/a.tif"])
def test_a_local_file_cannot_reach_the_network(tmp_path: Path, server: tuple[int, list[bytes]], address: str):
    """A VRT from somebody else names sources anywhere: reading it told them who reads it, and when."""
    port, asked = server
    source = f'<SourceFilename relativeToVRT="0">{address.format(port=port)}</SourceFilename><SourceBand>1</SourceBand>'
    band = f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{band}</VRTDataset>')
    with pytest.raises(GmrtError):
        read_scene(path)
    assert asked == []


def test_an_address_that_the_caller_gives_is_fetched(server: tuple[int, list[bytes]]):
    """The guard of the test above must not be what makes it pass: an address given on purpose goes out."""
    port, asked = server
    with pytest.raises(SceneError):
        read_scene(f"http://127.0.0.1:{port}/a.tif")
    assert asked


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_decoding_bytes_equals_reading_the_file(write: Write, noise: Bytes, suffix: str):
    """Training decodes bytes and the field reads files: another decoder would shift every pixel a little."""
    path = write(f"a{suffix}", noise)
    scene = decode_image(path.read_bytes())
    np.testing.assert_array_equal(scene.rgb, read_scene(path).rgb)
    assert scene.path is None


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0"])
def test_bytes_that_are_no_image(data: bytes):
    """GDAL offered the bytes to every driver that it has, network ones included."""
    with pytest.raises(SceneError, match=r"JPEG|PNG"):
        decode_image(data)


def test_scene_from_array_copies_and_checks(noise: Bytes):
    """A view of the caller's array changed under the cache key."""
    rgb = noise.transpose(1, 2, 0).copy()
    valid = rgb[:, :, 0] > 9
    scene = scene_from_array(rgb, valid)
    before = scene_hash(scene)
    rgb[:], valid[:] = 0, False
    assert scene_hash(scene) == before
    assert scene.source_size == (64, 48)
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(SceneError):
            scene_from_array(wrong)
    with pytest.raises(SceneError, match="mask"):
        scene_from_array(np.zeros((4, 4, 3), np.uint8), np.ones((4, 5), bool))


def test_the_hash_sees_pixels_mask_and_shape(write: Write, noise: Bytes):
    """Two scenes with one key would answer for each other; the path must not matter."""
    rgb = noise.transpose(1, 2, 0)
    base = scene_from_array(rgb)
    mask = np.ones(rgb.shape[:2], dtype=bool)
    mask[0, 0] = False
    black = np.zeros((2, 6, 3), dtype=np.uint8)
    others = [
        scene_from_array(rgb ^ 1),
        scene_from_array(rgb, mask),
        scene_from_array(black),
        scene_from_array(black.reshape(3, 4, 3)),
        scene_from_array(black.reshape(6, 2, 3)),
    ]
    assert len({scene_hash(scene) for scene in [base, *others]}) == 6
    assert scene_hash(read_scene(write("a.png", noise))) == scene_hash(base)


def test_max_side_must_be_positive(write: Write, noise: Bytes):
    """Zero pixels a side divided by zero."""
    with pytest.raises(SceneError, match="max_side"):
        read_scene(write("a.png", noise), max_side=0)


def test_importing_scene_does_not_import_rasterio():
    """Importing rasterio takes longer than the rest of the runtime together, and `import gmrt.runtime` pays for it."""
    code = "import sys, gmrt.runtime.scene; sys.exit('rasterio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


finite = st.floats(-1e6, 1e6, width=32)


@given(
    hnp.arrays(np.float32, st.integers(2, 50), elements=st.floats(width=32, allow_nan=True)),
    finite,
    finite.filter(lambda span: span > 1e-3),
)
def test_stretch_is_monotonic(values: npt.NDArray[np.float32], low: float, span: float):
    """A brighter pixel may never come out darker, whatever the values; NaN and infinities included."""
    result = stretch(values, low, low + span)
    order = np.argsort(np.nan_to_num(values, nan=-np.inf), kind="stable")
    assert result.dtype == np.uint8
    assert (np.diff(result[order].astype(int)) >= 0).all()


@given(st.integers(0, 65000), st.integers(1, 535))
def test_stretch_meets_its_limits(low: int, span: int):
    """The limits themselves become 0 and 255, and what lies beyond them is clipped."""
    values = np.array([0, low, low + span, 65535], dtype=np.uint16)
    assert stretch(values, low, low + span).tolist()[1:3] == [0, 255]
    assert stretch(values, low, low + span).tolist()[3] == 255


def test_a_scene_keeps_what_it_was_made_of(write: Write, noise: Bytes):
    """The answer names file, size, bands and composite from here."""
    path = write("a.tif", noise)
    scene = read_scene(path)
    assert isinstance(scene, Scene)
    assert scene.path == str(path)
    assert scene.composite == "red, green and blue, by the colour interpretation"
