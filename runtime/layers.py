"""The bands that are drawn, read on one grid: where they lie in files, what the files say of them.

Importing this module imports rasterio: import it lazily.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from gmrt.runtime.bands import Band
from gmrt.runtime.raster import Source
from gmrt.runtime.sensors import BAND_FILE, band_table, sentinel_2_offset

BoolArray = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """One band to draw: ``index`` in ``source``, values times ``scale`` plus ``offset``, ``nodata`` if it says none."""

    source: Source
    index: int
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    @property
    def dtype(self) -> str:
        """The dtype as stored."""
        return str(self.source.dataset.dtypes[self.index - 1])


def read_layers(
    layers: Sequence[Layer],
    grid: DatasetReader,
    window: tuple[int, int, int, int],
    shape: tuple[int, int],
    resampling: Resampling,
) -> tuple[Values, BoolArray]:
    """Stored values [C, *shape] of ``layers`` in their common dtype, and where the files have data.

    ``window`` is (column, row, width, height) of ``grid``; a layer on another grid is warped to it. Raises rasterio's
    errors for what cannot be read.
    """
    if len({layer.source.name for layer in layers}) == 1 and same_grid(layers[0].source.dataset, grid):
        return _read(layers[0].source, [layer.index for layer in layers], window, shape, resampling)
    parts = [_warped(layer, grid, window, shape, resampling) for layer in layers]
    dtype = np.result_type(*(values.dtype for values, _ in parts))
    values = np.concatenate([values.astype(dtype, copy=False) for values, _ in parts])
    return values, np.concatenate([present for _, present in parts])


def _warped(
    layer: Layer,
    grid: DatasetReader,
    window: tuple[int, int, int, int],
    shape: tuple[int, int],
    resampling: Resampling,
) -> tuple[Values, BoolArray]:
    """One band [1, H, W] on the common grid, warped to it where its own is another."""
    dataset = layer.source.dataset
    if same_grid(dataset, grid):
        return _read(layer.source, [layer.index], window, shape, resampling)
    column, row, across, down = window
    a, b, c, d, e, f = grid.transform[:6]
    x, y = across / shape[1], down / shape[0]
    transform = Affine(a * x, b * y, a * column + b * row + c, d * x, e * y, d * column + e * row + f)
    finer = abs(dataset.transform.determinant) < 0.99 * abs(transform.determinant)
    if resampling is Resampling.average and not finer:
        resampling = Resampling.bilinear
    nodata = dataset.nodatavals[layer.index - 1]
    nodata = layer.nodata if nodata is None else nodata
    with WarpedVRT(
        layer.source.reducible(), crs=grid.crs, transform=transform, width=shape[1], height=shape[0],
        resampling=resampling, src_nodata=nodata, nodata=nodata, add_alpha=nodata is None,
    ) as warped:  # fmt: skip
        values = warped.read([layer.index])
        return values, warped.dataset_mask()[None] > 0


def _read(
    source: Source, indexes: list[int], window: tuple[int, int, int, int], shape: tuple[int, int], how: Resampling
) -> tuple[Values, BoolArray]:
    full = shape == (window[3], window[2])
    dataset = source.dataset if full else source.reducible()
    options: dict[str, Any] = {
        "indexes": indexes,
        "window": Window(*window),
        "out_shape": (len(indexes), *shape),
        "resampling": how,
    }
    kinds = [dataset.dtypes[index - 1] for index in indexes]
    values = dataset.read(**options, out_dtype=_common(kinds))
    if all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums):
        return values, np.ones(values.shape, dtype=np.bool_)
    return values, np.asarray(dataset.read_masks(**options), dtype=np.bool_)


def _common(kinds: list[str]) -> np.dtype[Any]:
    """The dtype that holds all of GDAL's; its complex integers become complex numbers."""
    return np.result_type(*("complex64" if kind.startswith("complex_int") else kind for kind in kinds))


def same_grid(dataset: DatasetReader, grid: DatasetReader) -> bool:
    """Whether the pixels of two rasters are the same places."""
    if dataset is grid:
        return True
    same = (dataset.width, dataset.height, dataset.crs) == (grid.width, grid.height, grid.crs)
    return same and bool(np.allclose(dataset.transform[:6], grid.transform[:6], rtol=1e-9, atol=1e-9))


def is_radar(dataset: DatasetReader, stem: str) -> bool:
    """Whether a file is one of Sentinel-1's, by its own description or by the name of the product."""
    told = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
    return told.startswith("Sentinel-1") or re.match(r"s1[abcd][-_]", stem.lower()) is not None


def described_bands(dataset: DatasetReader, stem: str) -> list[Band]:
    """What a file says of its bands; a single one may be named by the file's own name (``…_B04``, ``…_VV``)."""
    descriptions = dataset.descriptions
    if len(descriptions) == 1 and not descriptions[0] and (found := BAND_FILE.fullmatch(stem)):
        descriptions = (found["band"],)
    described = zip(dataset.colorinterp, descriptions, strict=True)
    return [Band(i, colour.name, text, _wavelength(dataset, i)) for i, (colour, text) in enumerate(described, 1)]


def _wavelength(dataset: DatasetReader, index: int) -> float | None:
    """A band's centre in nanometres, by GDAL's IMAGERY domain or by ENVI's header."""
    tags = dataset.tags(index)
    unit = tags.get("wavelength_units", tags.get("WAVELENGTH_UNITS", "")).lower()
    centre, per = dataset.tags(index, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM"), 1000.0
    if centre is None:
        centre = tags.get("wavelength", tags.get("WAVELENGTH"))
        per = 1.0 if unit.startswith("nano") else 1000.0 if unit.startswith("micro") else 0.0
    try:
        value = float(centre) if centre is not None else 0.0
    except ValueError:
        return None
    return value * (per or (1000.0 if value < 30 else 1.0)) or None


def reflectance_scaling(dataset: DatasetReader, bands: Sequence[Band], stem: str) -> tuple[float, float] | None:
    """Scale and offset to reflectance that a product is known to be stored with; None where the file says its own."""
    if any(kind not in ("uint16", "int16") for kind in dataset.dtypes):
        return None
    if set(dataset.scales) != {1.0} or set(dataset.offsets) != {0.0}:
        return None
    names = [band.description or "" for band in bands]
    sensor, table = band_table(names, stem)
    if sensor == "Sentinel-2" and len(table) >= 3 and (offset := sentinel_2_offset(stem)) is not None:
        return 1e-4, offset * 1e-4
    if sensor.startswith("Landsat") and all(name.upper().startswith("SR_") for name in table):
        return 2.75e-5, -0.2  # Collection 2 Level-2
    return (1e-4, 0.0) if "analyticms_sr" in stem.lower() else None
