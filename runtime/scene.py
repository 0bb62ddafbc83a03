"""Rasters and pictures in, a `Scene` out: eight-bit red, green, blue, a mask, and where on Earth the pixels lie.

`gmrt.runtime.raster` is imported where it is used: with it comes rasterio, which is slow to import.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import SceneError
from gmrt.runtime.placement import Placement

if TYPE_CHECKING:
    from affine import Affine

    from gmrt.runtime.reader import SceneReader

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
    drawn and ``wavelengths`` their centres in nanometres, None where nobody says; ``composite`` says in words what they
    were drawn as, and ``notes`` holds a sentence for each thing that was done to the values and for each thing that the
    file lacks. ``window`` is the part of the file that the array covers, as column, row, width and height in the file's
    pixels; None for all of it.
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
    window: tuple[int, int, int, int] | None = None
    wavelengths: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        """Seal the arrays: a scene is shared between questions and keyed by its pixels."""
        self.rgb.setflags(write=False)
        self.valid.setflags(write=False)

    def summary(self) -> dict[str, Any]:
        """What was drawn, and as what, for an answer in JSON."""
        return {
            "bands": list(self.bands),
            "wavelengths_nm": list(self.wavelengths or (None,) * len(self.bands)),
            "composite": self.composite,
            "notes": list(self.notes),
        }


@contextmanager
def open_scene(
    path: str | os.PathLike[str], *, bands: str | Sequence[int | str] | None = None, composite: str | None = None
) -> Iterator[SceneReader]:
    """Open a raster, a picture or a product for reading it window by window; arguments and errors as `read_scene`."""
    from gmrt.runtime.raster import plain_path
    from gmrt.runtime.reader import open_reader

    with open_reader(plain_path(path), bands=bands, composite=composite) as reader:
        yield reader


def read_scene(
    path: str | os.PathLike[str],
    *,
    bands: str | Sequence[int | str] | None = None,
    composite: str | None = None,
    max_side: int = 4096,
) -> Scene:
    """Read a raster or picture that GDAL can open, or a product, as a `Scene` of at most ``max_side`` pixels a side.

    A product is a folder or a file of metadata that stands for several rasters (`gmrt.runtime.products`). ``bands``
    chooses what is drawn or says which band is which, ``composite`` what they are drawn as (see
    `gmrt.runtime.bands.choose`); without them the file must say which bands are which, or have just one. A larger
    raster is averaged down, and ``transform`` scaled with it. The network is used only when ``path`` itself is an
    address on it.

    Raises `SceneNotFoundError` when there is no such file; `SceneError` when it is not a raster, holds nothing that
    can be drawn, or does not say which bands are which; `SceneReadError` when it is damaged.
    """
    if max_side < 1:
        raise SceneError(f"max_side must be at least 1 pixel, got {max_side}")
    with open_scene(path, bands=bands, composite=composite) as reader:
        width, height = reader.size
        factor = min(1.0, max_side / max(width, height))
        return reader.read(shape=(max(1, round(height * factor)), max(1, round(width * factor))))


def decode_image(data: bytes) -> Scene:
    """Decode the bytes of a JPEG or PNG file at full size; the pixels are those that `read_scene` gives for the file.

    Raises `SceneError` when the bytes are not such a file and `SceneReadError` when they are incomplete.
    """
    from gmrt.runtime.raster import open_image
    from gmrt.runtime.reader import SceneReader

    with open_image(data) as source:
        return SceneReader.of_file(source, None, None, None).read()


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
