"""Tiny rasters, made by format, dtype, nodata and CRS."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp

from gmrt.runtime.raster import quiet

Write = Callable[..., Path]
DRIVERS = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}
UTM: dict[str, Any] = {"crs": "EPSG:32631", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes bands [C, H, W] as a file in the test's folder and returns its path."""

    def write_file(
        name: str,
        bands: npt.ArrayLike,
        *,
        colours: tuple[str, ...] = (),
        descriptions: tuple[str, ...] = (),
        mask: npt.NDArray[np.bool_] | None = None,
        palette: dict[int, tuple[int, ...]] | None = None,
        **profile: Any,
    ) -> Path:
        values = np.asarray(bands)
        count, height, width = values.shape
        path = tmp_path / name
        shape = {"count": count, "height": height, "width": width, "dtype": profile.pop("dtype", values.dtype.name)}
        with (
            quiet(GDAL_TIFF_INTERNAL_MASK="YES"),
            rasterio.open(path, "w", **{"driver": DRIVERS[path.suffix], **shape, **profile}) as dataset,
        ):
            if colours:
                dataset.colorinterp = [ColorInterp[colour] for colour in colours]
            for index, text in enumerate(descriptions, 1):
                dataset.set_band_description(index, text)
            if palette:
                dataset.write_colormap(1, palette)
            dataset.write(values)
            if mask is not None:
                dataset.write_mask(mask)
        return path

    return write_file


@pytest.fixture
def convert(tmp_path: Path) -> Write:
    """A function that copies a raster into another format in the test's folder and returns the copy's path."""

    def convert_file(source: Path, name: str, driver: str, **options: str) -> Path:
        with quiet(GDAL_TIFF_INTERNAL_MASK="YES"):
            rasterio.shutil.copy(source, tmp_path / name, driver=driver, **options)
        return tmp_path / name

    return convert_file


@pytest.fixture
def noise() -> npt.NDArray[np.uint8]:
    """Three bands of bytes [3, 48, 64] in which every value occurs."""
    return np.random.default_rng(0).integers(0, 256, (3, 48, 64), dtype=np.uint8)


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The folder of real scenes, which is not part of the project: tests that need it are skipped without it."""
    data = Path(os.environ.get("GMRT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (data / "scenes").is_dir():
        pytest.skip(f"no real scenes in {data / 'scenes'} (set GMRT_DATA)")
    return data / "scenes"
