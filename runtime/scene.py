"""Rasters and pictures in, a `Scene` out: eight-bit red, green, blue, a mask, and where on Earth the pixels lie.

`gmrt.runtime.raster` is imported where it is used: with it comes rasterio, which is slow to import.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gmrt.runtime.bands import Band, choose
from gmrt.runtime.errors import SceneError
from gmrt.runtime.placement import Placement, pixel_size, place

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetReader

ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture of a place, as the model takes it in.

    ``rgb`` is uint8 [H, W, 3] and ``valid`` bool [H, W], False where there is no data; both are read-only. ``crs`` is
    an authority code or WKT, ``transform`` the affine from the array's pixels (column, row; corners at whole numbers)
    to it; either is None where the file has none. ``placement`` is the way from the array's pixels to the CRS and back,
    an affine or another, None where nothing places them. ``source_size`` is the file's (width, height) in pixels,
    ``gsd`` the metres on the ground per pixel of the file, None without a CRS. ``bands`` are the names of the bands
    drawn, ``composite`` says in words what they were drawn as, and ``notes`` holds a sentence for each thing that was
    done to the values and for each thing that the file lacks.
    """

    rgb: ByteArray
    valid: BoolArray
    crs: str | None
    transform: Affine | None
    path: str | None
    source_size: tuple[int, int]
    gsd: float | None
    bands: tuple[str, ...]
    composite: str
    notes: tuple[str, ...]
    placement: Placement | None = None

    def __post_init__(self) -> None:
        """Seal the arrays: a scene is shared between questions and keyed by its pixels."""
        self.rgb.setflags(write=False)
        self.valid.setflags(write=False)


def read_scene(
    path: str | os.PathLike[str], *, bands: str | Sequence[int | str] | None = None, max_side: int = 4096
) -> Scene:
    """Read a raster or picture that GDAL can open as a `Scene` of at most ``max_side`` pixels a side.

    ``bands`` chooses what is drawn (see `gmrt.runtime.bands.choose`); without it the file must say which bands are
    red, green and blue, or have just one. A larger raster is averaged down, and ``transform`` scaled with it. The
    network is used only when ``path`` itself is an address on it.

    Raises `SceneNotFoundError` when there is no such file; `SceneError` when it is not a raster, holds nothing that
    can be drawn, or does not say which bands are which; `SceneReadError` when it is damaged.
    """
    from gmrt.runtime.raster import open_raster

    if max_side < 1:
        raise SceneError(f"max_side must be at least 1 pixel, got {max_side}")
    with open_raster(path, max_side) as dataset:
        return _scene(dataset, os.fspath(path), bands, max_side)


def decode_image(data: bytes) -> Scene:
    """Decode the bytes of a JPEG or PNG file at full size; the pixels are those that `read_scene` gives for the file.

    Raises `SceneError` when the bytes are not such a file and `SceneReadError` when they are incomplete.
    """
    from gmrt.runtime.raster import open_image

    with open_image(data) as dataset:
        return _scene(dataset, None, None, max(dataset.width, dataset.height))


def scene_from_array(rgb: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> Scene:
    """Make a scene without a place from uint8 [H, W, 3] and a mask [H, W], all valid by default; both are copied.

    Raises `SceneError` for another dtype or shape.
    """
    pixels = np.array(rgb)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise SceneError(f"an image must be uint8 [height, width, 3], got {pixels.dtype} {list(pixels.shape)}")
    height, width = pixels.shape[:2]
    mask = np.ones((height, width), dtype=np.bool_) if valid is None else np.array(valid, dtype=np.bool_)
    if mask.shape != (height, width):
        raise SceneError(f"the mask is {list(mask.shape)} and the image {[height, width]}: sizes must agree")
    pixels[~mask] = 0  # as in a scene that was read from a file
    return Scene(pixels, mask, None, None, None, (width, height), None, ("red", "green", "blue"), "as given", ())


def scene_hash(scene: Scene) -> str:
    """Hash what the model sees of a scene: SHA-256 (hex) of its shape, pixels and mask, whatever they came from."""
    digest = hashlib.sha256(repr(scene.rgb.shape).encode())
    digest.update(np.ascontiguousarray(scene.rgb).data)
    digest.update(np.packbits(scene.valid).data)
    return digest.hexdigest()


def _scene(dataset: DatasetReader, path: str | None, asked: str | Sequence[int | str] | None, max_side: int) -> Scene:
    from gmrt.runtime.raster import read_pixels

    source = path or "image"
    described = zip(dataset.colorinterp, dataset.descriptions, strict=True)
    bands = [Band(index, colour.name, text) for index, (colour, text) in enumerate(described, 1)]
    if not bands:
        inside = f"; it holds {', '.join(dataset.subdatasets[:4])}: name one of them" if dataset.subdatasets else ""
        raise SceneError(f"{source}: has no bands{inside}")
    choice = choose(bands, asked=asked, stem=Path(source).stem, source=source)
    width, height = dataset.width, dataset.height
    factor = min(1.0, max_side / max(width, height))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    rgb, valid, notes = read_pixels(dataset, choice.indexes, shape, source)
    if shape != (height, width):
        notes = (*notes, f"Reduced from {width} × {height} to {shape[1]} × {shape[0]} pixels.")
    placement, gsd, placed = _place(dataset, shape)
    crs, transform = (placement.crs, placement.affine) if placement else (None, None)
    size, notes = (width, height), (*notes, *placed)
    return Scene(rgb, valid, crs, transform, path, size, gsd, choice.names, choice.composite, notes, placement)


def _place(dataset: DatasetReader, shape: tuple[int, int]) -> tuple[Placement | None, float | None, tuple[str, ...]]:
    """Placement of the reduced pixels, ground sample distance, and a sentence where these do not say it all."""
    size = (dataset.width, dataset.height)
    placement, notes = place(dataset)
    if placement is None:
        return None, None, notes
    return placement.window(0, 0, size[0] / shape[1], size[1] / shape[0]), pixel_size(placement, size), notes
