"""From an open raster or product to `Scene`: bands read on one grid, and drawn with one stretch for the whole scene.

Pixels depend on nothing but pixels: the same values as PNG, GeoTIFF, COG or VRT give the identical array. Values of
eight bits are taken as they are, reflectances are drawn over a fixed range, and all others are stretched linearly, once
for the whole scene and with one pair of limits for its three bands, so that neither a tile nor a band changes colour
against its neighbours.

Importing this module imports rasterio, which takes longer than the rest of the runtime together: import it lazily.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError

from gmrt.runtime.bands import Band, Choice, choose
from gmrt.runtime.drawing import (
    SAR_RANGES,
    decibels,
    limits,
    radar_planes,
    stretch,
    vegetation_colours,
    vegetation_index,
)
from gmrt.runtime.errors import NoDataError, SceneError, SceneReadError
from gmrt.runtime.layers import Layer, described_bands, is_radar, read_layers, reflectance_scaling, same_grid
from gmrt.runtime.placement import on_earth, pixel_size, place
from gmrt.runtime.products import Product, find_product
from gmrt.runtime.raster import Source, open_source, reason, taken_at
from gmrt.runtime.scene import Scene
from gmrt.runtime.sensors import band_table

ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

_SAMPLES = 1 << 20  # pixels that the limits of a stretch are measured on
# Reflectance drawn as 255 where all bands are visible ones, as in ESA's true-colour images of Sentinel-2 (its user
# guide, "Definitions"): clouds and bright sand are above it.
_VISIBLE = 0.2
_INFRARED = 0.5  # and where one is not: leaves reflect half of it


@contextmanager
def open_reader(
    path: str, *, bands: str | Sequence[int | str] | None = None, composite: str | None = None
) -> Iterator[SceneReader]:
    """Open a raster or a product for reading; see `gmrt.runtime.scene.open_scene`."""
    product = find_product(path)
    with ExitStack() as stack:
        if product is None:
            source = stack.enter_context(open_source(path))
            yield SceneReader.of_file(source, path, bands, composite)
        else:
            opened = {name: stack.enter_context(open_source(name)) for name in {band.path for band in product.bands}}
            yield SceneReader.of_product(product, opened, bands, composite)


class SceneReader:
    """An open raster or product, read as `Scene` whole or window by window, all with one composite and one stretch.

    Make one with `gmrt.runtime.scene.open_scene`. ``size`` is (width, height) of its grid, of a product the finest of
    its bands; ``bands``, ``composite``, ``wavelengths``, ``placement``, ``crs`` and ``gsd`` are those of its scenes.
    Reading takes about three times the window's pixels in the bands drawn. For one thread at a time.
    """

    def __init__(
        self,
        path: str | None,
        source: str,
        grid: Source,
        layers: Sequence[Layer],
        choice: Choice,
        *,
        reflectance: bool,
        notes: Sequence[str],
    ) -> None:
        self.path = path
        self.size: tuple[int, int] = (grid.dataset.width, grid.dataset.height)
        self.bands = choice.names
        self.wavelengths = choice.wavelengths
        self.placement, placed = place(grid.dataset)
        self.crs = self.placement.crs if self.placement else None
        self.gsd = pixel_size(self.placement, self.size) if self.placement else None
        self._name = source
        self._grid = grid.dataset
        self._layers = tuple(layers)
        self._drawing = choice.drawing
        known = all(wavelength is not None and wavelength < 3000 for wavelength in choice.wavelengths)
        self._reflectance = reflectance and known
        echoes = any("complex" in layer.dtype for layer in layers) or is_radar(grid.dataset, Path(source).stem)
        if echoes and choice.drawing == "grey":
            self._drawing = "echo"
        if choice.drawing == "ndvi" and not self._reflectance:
            notes = (*notes, "The index is of the stored numbers: nothing says how they become reflectance.")
        if self.crs is not None and not on_earth(self.crs):
            placed = (*placed, "Its coordinates are of another body or a local system: they are not WGS 84.")
        self.composite = choice.composite if self._palette is None else "the colours of its palette"
        camera = taken_at(grid.dataset)
        said = () if choice.name in ("true-color", "grey", "bands") else (f"Drawn as {choice.composite}.",)
        self.notes = (*notes, *said, *placed, *((camera,) if camera else ()))

    @classmethod
    def of_file(
        cls, source: Source, path: str | None, asked: str | Sequence[int | str] | None, composite: str | None
    ) -> SceneReader:
        """A reader of one file; raises `SceneError` for a file without bands, and as `gmrt.runtime.bands.choose`."""
        dataset, name = source.dataset, path or "image"
        bands = described_bands(dataset, Path(name).stem)
        if not bands:
            parts = dataset.subdatasets
            inside = f"; it holds {', '.join(parts[:4])}: name one of them" if parts else ""
            raise SceneError(f"{name}: has no bands{inside}")
        stem = Path(name).stem
        choice = choose(bands, asked=asked, composite=composite, stem=stem, source=name)
        scaling = reflectance_scaling(dataset, bands, stem)
        layers = [
            Layer(source, i, *(scaling or (dataset.scales[i - 1], dataset.offsets[i - 1]))) for i in choice.indexes
        ]
        sensor, _ = band_table([band.description or "" for band in bands], stem)
        tagged = bool(sensor) and all((layer.scale, layer.offset) != (1.0, 0.0) for layer in layers)
        return cls(path, name, source, layers, choice, reflectance=scaling is not None or tagged, notes=())

    @classmethod
    def of_product(
        cls,
        product: Product,
        opened: dict[str, Source],
        asked: str | Sequence[int | str] | None,
        composite: str | None,
    ) -> SceneReader:
        """A reader of a product whose files are ``opened``, by their paths."""
        files = product.bands
        for band in files:
            if band.index > opened[band.path].dataset.count:
                raise SceneError(f"{product.path}: {band.path} has no band {band.index}: its metadata are wrong")
        bands = [Band(i, "undefined", b.name, b.wavelength, b.role) for i, b in enumerate(files, 1)]
        choice = choose(bands, asked=asked, composite=composite, stem=Path(product.path).stem, source=product.path)
        # A panchromatic band has a finer grid of its own, and is not drawn with the others.
        fine = [opened[band.path] for band in files if band.role != "pan"] or list(opened.values())
        grid = max(fine, key=lambda source: source.dataset.width * source.dataset.height)
        drawn = [files[i - 1] for i in choice.indexes]
        layers = [Layer(opened[b.path], b.index, b.scale, b.offset, b.nodata) for b in drawn]
        listed = ", ".join(band.name for band in files[:16]) + (", …" if len(files) > 16 else "")
        taken = f"Taken as one scene: {product.words}, {len(files)} bands ({listed})."
        reader = cls(
            product.path, product.path, grid, layers, choice,
            reflectance=product.reflectance, notes=(taken, *product.notes),
        )  # fmt: skip
        odd = [layer.source for layer in layers if not same_grid(layer.source.dataset, grid.dataset)]
        if any(not source.dataset.crs for source in (*odd, *([grid] if odd else ()))):
            raise SceneError(
                f"{product.path}: its bands differ in size and have no map position to be laid together by"
            )
        return reader

    def read(self, window: tuple[int, int, int, int] | None = None, shape: tuple[int, int] | None = None) -> Scene:
        """Read a window (column, row, width, height), by default all, as a scene of ``shape`` (rows, columns).

        Without a shape the window is read at full size; a smaller one averages. Raises `NoDataError` for a window
        without a valid pixel, `SceneReadError` where the file is damaged, `SceneError` for a window outside it.
        """
        width, height = self.size
        column, row, across, down = window or (0, 0, width, height)
        if not (0 <= column < column + across <= width and 0 <= row < row + down <= height):
            raise SceneError(f"{self._name}: window {window} leaves its {width} × {height} pixels")
        rows, columns = shape or (down, across)
        rgb, valid, drawn = self._drawn((column, row, across, down), (rows, columns))
        if not valid.all():
            rgb[~valid] = 0  # what lies under a mask differs between formats, and is not part of the scene
        notes = (*self._first_notes, *drawn)
        if (rows, columns) != (down, across):
            notes = (*notes, f"Reduced from {across} × {down} to {columns} × {rows} pixels.")
        placement = self.placement
        if placement is not None:
            placement = placement.window(column, row, across / columns, down / rows)
        return Scene(
            rgb, valid, self.crs, placement.affine if placement else None, self.path, self.size, self.gsd, self.bands,
            self.composite, (*notes, *self.notes), placement,
            None if (across, down) == self.size else (column, row, across, down), self.wavelengths,
        )  # fmt: skip

    @property
    def _first_notes(self) -> tuple[str, ...]:
        if len(self._layers) > 1:
            return ()
        return ("One band, shown in grey.",) if self._palette is None else ("One band, in the colours of its palette.",)

    def _drawn(
        self, window: tuple[int, int, int, int], shape: tuple[int, int]
    ) -> tuple[ByteArray, BoolArray, tuple[str, ...]]:
        nearest = self._palette is not None or self._stored == "complex"
        values, present = self._values(window, shape, Resampling.nearest if nearest else Resampling.average)
        if self._palette is not None:
            colours = self._palette[values[0]]
            valid = present[0] & (colours[:, :, 3] > 0)
            self._check(valid)
            return colours[:, :, :3].copy(), valid, ()
        planes, valid = self._planes(values, present)
        self._check(valid)
        if self._drawing == "ndvi":
            return vegetation_colours(planes[0]), valid, ()
        pairs, note = self._limits
        if pairs:
            planes = np.stack([stretch(plane, *pair) for plane, pair in zip(planes, pairs, strict=True)])
        rgb = np.ascontiguousarray(np.broadcast_to(planes, (3, *shape)).transpose(1, 2, 0), dtype=np.uint8)
        return rgb, valid, (note,) if note else ()

    def _check(self, valid: BoolArray) -> None:
        if not valid.any():
            raise NoDataError(f"{self._name}: holds no data: every pixel is masked, transparent or nodata")

    @property
    def _bytes(self) -> bool:
        return all(layer.dtype == "uint8" for layer in self._layers)

    @cached_property
    def _palette(self) -> ByteArray | None:
        """Colour table [N, 4] of a single palette band, N large enough for its dtype; what it lacks is transparent."""
        first = self._layers[0]
        dataset = first.source.dataset
        if len(self._layers) > 1 or dataset.colorinterp[first.index - 1] is not ColorInterp.palette:
            return None
        if first.dtype not in ("uint8", "uint16"):
            return None
        table = np.zeros((256 if first.dtype == "uint8" else 65536, 4), dtype=np.uint8)
        for index, colour in dataset.colormap(first.index).items():
            table[index] = colour
        return table

    @cached_property
    def _sample(self) -> tuple[Values, BoolArray]:
        """Values and mask of the whole scene at about a million pixels or fewer, each one that is stored."""
        width, height = self.size
        step = max(1.0, math.sqrt(width * height / _SAMPLES))
        shape = max(1, round(height / step)), max(1, round(width / step))
        values, present = self._values((0, 0, width, height), shape, Resampling.nearest)
        return (values, present) if present.any() or step == 1 else self._searched()

    def _searched(self) -> tuple[Values, BoolArray]:
        """The first valid pixels of a scene with so few that they fall between the samples, as one row."""
        width, height = self.size
        rows = max(1, _SAMPLES // width)
        found = []
        for row in range(0, height, rows):
            down = min(rows, height - row)
            values, present = self._values((0, row, width, down), (down, width), Resampling.nearest)
            there = present.any(axis=0)
            found.append((values[:, there][:, None], present[:, there][:, None]))
            if sum(part.shape[-1] for part, _ in found) > _SAMPLES:
                break
        return np.concatenate([v for v, _ in found], axis=-1), np.concatenate([p for _, p in found], axis=-1)

    @cached_property
    def _stored(self) -> str:
        """What the values of a radar are stored as (`gmrt.runtime.drawing.decibels`); empty for another picture."""
        if any("complex" in layer.dtype for layer in self._layers):
            return "complex"
        if self._drawing not in ("echo", "sar") or (self._drawing == "echo" and self._bytes):
            return ""
        values, present = self._sample
        if (values[present] < 0).any():
            return "decibels"
        return "power" if values.dtype.kind == "f" else "amplitude"

    @cached_property
    def _limits(self) -> tuple[tuple[tuple[float, float], ...], str]:
        """What is drawn as 0 and as 255, for each plane, and a sentence about it; no limits for bytes as they are."""
        count = 3 if len(self._layers) == 3 or self._drawing == "sar" else 1
        first = self._layers[0]
        if self._stored:
            return self._radar_limits(first.dtype)
        if self._bytes:
            bits = int(first.source.dataset.tags(first.index, ns="IMAGE_STRUCTURE").get("NBITS", 8))
            note = f"Values of {bits} bit were scaled to 0…255."
            return ((), "") if bits >= 8 else (((0.0, float(2**bits - 1)),) * count, note)
        if self._reflectance:
            visible = all(wavelength is not None and wavelength < 700 for wavelength in self.wavelengths)
            top = _VISIBLE if visible else _INFRARED
            return ((0.0, top),) * count, f"Reflectance of 0…{top:g} was scaled to 0…255."
        (pair,), note = self._stretched(f"Values ({first.dtype})")
        return (pair,) * count, note

    def _radar_limits(self, kind: str) -> tuple[tuple[tuple[float, float], ...], str]:
        turned = "" if self._stored == "decibels" else f"Radar values ({kind}, {self._stored}) became decibels. "
        if self._drawing == "sar" and self._stored in ("decibels", "power"):
            ranges = ", ".join(f"{low:g}…{high:g}" for low, high in SAR_RANGES)
            return SAR_RANGES, f"{turned}Decibels of {ranges} (the last of the ratio) were scaled to 0…255."
        pairs, note = self._stretched("Decibels")
        return pairs, f"{turned}{note}"

    def _stretched(self, what: str) -> tuple[tuple[tuple[float, float], ...], str]:
        """Limits by the scene's own values, one pair for all bands, of a radar's pseudo-colour one for each plane."""
        planes, valid = self._planes(*self._sample)
        sets = [plane[valid] for plane in planes] if self._drawing == "sar" else [planes[:, valid]]
        if not valid.any():  # a window may hold the few pixels that no sample has met
            return ((0.0, 0.0),) * len(sets), ""
        found = [limits(values) for values in sets]
        pairs = tuple((low, high) for low, high, _ in found)
        low, high, words = found[0]
        if len(found) > 1:
            return pairs, f"{what} were stretched from percentiles 2 and 98 to 0…255, each plane by itself."
        if low == high:
            return pairs, f"{what} are all {low:g}, shown as mid-grey."
        return pairs, f"{what} were stretched from {low:g}…{high:g}, their {words}, to 0…255."

    def _planes(self, values: Values, present: BoolArray) -> tuple[Values, BoolArray]:
        """What is stretched or coloured, [C, H, W], and where there is something to see."""
        layers = self._layers
        if self._stored:
            level = decibels(values, self._stored)
            present = present & np.isfinite(level)
            planes: Values = radar_planes(level) if self._drawing == "sar" else level
            return planes, np.logical_and.reduce(present)
        scales = [(layer.scale, layer.offset) for layer in layers]
        if self._reflectance or len(set(scales)) > 1 or (self._drawing == "ndvi" and scales[0] != (1.0, 0.0)):
            exact = values.dtype.itemsize > 2 and values.dtype != np.float32
            values = values.astype(np.float64 if exact else np.float32)
            for band, (scale, offset) in enumerate(scales):
                values[band] *= scale
                values[band] += offset
        if self._drawing == "ndvi":
            index = vegetation_index(values)
            return index[None], np.logical_and.reduce(present) & np.isfinite(index)
        # A zero in one band of three is a dark pixel; any other nodata value in one band leaves nothing to draw.
        dark = all(
            (layer.source.dataset.nodatavals[layer.index - 1] or layer.nodata or 0) == 0
            and (layer.source.dataset.nodatavals[layer.index - 1] is not None or layer.nodata is not None)
            for layer in layers
        )
        return values, np.logical_or.reduce(present) if dark else np.logical_and.reduce(present)

    def _values(
        self, window: tuple[int, int, int, int], shape: tuple[int, int], resampling: Resampling
    ) -> tuple[Values, BoolArray]:
        """Stored values [C, H, W] of the bands drawn, in their common dtype, and where they are data."""
        try:
            values, present = read_layers(self._layers, self._grid, window, shape, resampling)
        except (RasterioError, MemoryError) as error:
            raise SceneReadError(
                f"{self._name}: opens, but its pixels cannot be read ({reason(error, self._name)}); "
                "it is damaged or incomplete: copy it again"
            ) from None
        for band, layer in enumerate(self._layers):
            if layer.nodata is not None and layer.source.dataset.nodatavals[layer.index - 1] is None:
                present[band] &= values[band] != layer.nodata
        if values.dtype.kind in "fc":
            present &= np.isfinite(values)
        return values, present
