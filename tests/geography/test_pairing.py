"""Two images of one place, on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from gmrt.runtime.errors import SceneError
from gmrt.runtime.pairing import align, counterpart
from gmrt.runtime.placement import by_affine
from gmrt.runtime.places import Frame, frame_of
from gmrt.runtime.scene import Scene, read_scene, scene_from_array

UTM = Affine(2, 0, 500_000, 0, -2, 5_000_000)


def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the ground looks like at map positions: smooth, so that resampling keeps it."""
    return np.stack([128 + 100 * np.sin(x / 60), 128 + 100 * np.cos(y / 80), 128 + 100 * np.sin((x + y) / 90)], axis=-1)


def taken(path: Path, transform: Affine, crs: str, size: tuple[int, int]) -> Scene:
    """A scene of the same ground from another grid of the same map, written and read."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    east, north = transform * (x, y)
    pixels = ground(east, north).round().astype(np.uint8).transpose(2, 0, 1)
    profile = {"driver": "GTiff", "width": size[0], "height": size[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as dataset:
        dataset.write(pixels)
    return read_scene(path)


def test_one_grid_stays_as_it_is(tmp_path: Path) -> None:
    """Guards against resampling what needs none."""
    scene = taken(tmp_path / "a.tif", UTM, "EPSG:32633", (80, 60))
    before, after = align(scene, scene)
    assert before is scene
    assert after is scene


@pytest.mark.parametrize("scale", [1, 2.5, 0.5])
def test_the_second_comes_onto_the_first(tmp_path: Path, scale: float) -> None:
    """Guards against a pair that is off by a pixel, and a part of the ground that only one of the two shows."""
    first = taken(tmp_path / "a.tif", UTM, "EPSG:32633", (120, 100))
    moved = Affine(2 * scale, 0, 500_060.6, 0, -2 * scale, 4_999_951.2)
    second = taken(tmp_path / "b.tif", moved, "EPSG:32633", (int(200 / scale), int(200 / scale)))
    before, after = align(first, second)
    frame = frame_of(before)
    assert frame.window[:2] == pytest.approx((30, 24), abs=3)
    assert (before.valid.shape, frame_of(after).window) == (after.valid.shape, frame.window)
    assert after.transform == before.transform
    inner = after.valid.copy()
    inner[:8] = inner[:, :8] = inner[-8:] = inner[:, -8:] = False
    off = np.abs(before.rgb.astype(float) - after.rgb)[inner]
    assert inner.sum() > 2000
    assert off.mean() < 3
    assert "Reprojected onto" in after.notes[-1]


def test_what_does_not_lie_together_is_refused(tmp_path: Path) -> None:
    """Guards against a change that is none: another place, another scale, another size without a georeference."""
    first = taken(tmp_path / "a.tif", UTM, "EPSG:32633", (100, 100))
    far = taken(tmp_path / "b.tif", UTM * Affine.translation(95, 95), "EPSG:32633", (100, 100))
    coarse = taken(tmp_path / "c.tif", UTM * Affine.scale(5), "EPSG:32633", (20, 20))
    plain = scene_from_array(np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(SceneError, match="must overlap by 10%"):
        align(first, far)
    with pytest.raises(SceneError, match="factor of 4"):
        align(first, coarse)
    with pytest.raises(SceneError, match="40 × 50"):
        align(first, plain)
    assert "pixel by pixel" in align(plain, plain)[1].notes[-1]


def test_a_part_has_its_counterpart() -> None:
    """Guards against comparing the part of one image with the same pixels of another grid."""
    first = Frame((500, 500), (0, 0, 500, 500), by_affine(UTM, "EPSG:32633"))
    finer = Frame((900, 900), (0, 0, 900, 900), by_affine(UTM * Affine.scale(0.5), "EPSG:32633"))
    assert counterpart(first, (100, 50, 40, 40), finer) == pytest.approx((196, 96, 88, 88), abs=1)
    plain = Frame((500, 500), (0, 0, 500, 500))
    assert counterpart(plain, (100, 50, 40, 40), plain) == (100, 50, 40, 40)
