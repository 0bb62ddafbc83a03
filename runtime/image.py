"""Image preprocessing: uint8 RGB and a mask in, the tower's input out. Shared by training and the field.

The desk and the field run this very code, so an image means the same numbers in both. Only numpy is used: the
resampler is the separable triangle filter with antialiasing (support scaled by the reduction factor), the definition
that PIL and TensorFlow call "bilinear" with ``antialias=True``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import BundleError, SceneError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ImageSpec:
    """How a scene becomes the tower's input; part of the bundle's manifest.

    ``height`` and ``width`` in pixels; ``mean`` and ``std`` per channel on the 0–1 scale, in red, green, blue order;
    ``tokens`` is the number of embeddings that the tower returns for one image.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokens: int

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ImageSpec:
        """Read the manifest's ``image`` object; raise `BundleError` when a field is missing or out of range."""
        try:
            spec = cls(
                height=int(data["height"]),
                width=int(data["width"]),
                mean=_triple(data["mean"]),
                std=_triple(data["std"]),
                tokens=int(data["tokens"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle.json: the image specification is not readable ({error!r})") from None
        if not (0 < spec.height <= 4096 and 0 < spec.width <= 4096 and 0 < spec.tokens <= 65536 and min(spec.std) > 0):
            raise BundleError(f"bundle.json: the image specification is out of range ({data!r})")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's ``image`` object."""
        return {
            "height": self.height,
            "width": self.width,
            "mean": list(self.mean),
            "std": list(self.std),
            "tokens": self.tokens,
            "resample": "triangle, antialiased",
            "channels": ["red", "green", "blue"],
        }


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


@lru_cache(maxsize=64)
def _resample_matrix(source: int, target: int) -> FloatArray:
    """Weights [target, source] of the antialiased triangle filter along one axis; rows sum to one."""
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target, dtype=np.float64)[:, None] + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source, dtype=np.float64)[None, :] - centre) / support
    weight = np.maximum(0.0, 1.0 - distance)
    matrix: FloatArray = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resize(image: ByteArray | FloatArray, height: int, width: int) -> FloatArray:
    """Resize [H, W, C] to float32 [height, width, C] with the antialiased triangle filter; an equal size is a copy."""
    pixels: FloatArray = np.ascontiguousarray(image, dtype=np.float32)
    rows, columns, channels = pixels.shape
    if rows != height:
        matrix = _resample_matrix(rows, height)
        pixels = (matrix @ pixels.reshape(rows, columns * channels)).reshape(height, columns, channels)
    if columns != width:
        pixels = np.matmul(_resample_matrix(columns, width), pixels)
    return pixels


def prepare(rgb: ByteArray, spec: ImageSpec, valid: BoolArray | None = None) -> FloatArray:
    """Turn uint8 RGB [H, W, 3] into the tower's input, float32 [3, spec.height, spec.width].

    Pixels where ``valid`` [H, W] is False (nodata, transparent) take the model's mean colour, which is zero after
    normalisation, so that a hole carries no signal of its own. The scene is stretched to the model's square, which
    keeps the map from model units to pixels linear along each axis.

    Raises `SceneError` for an array of another shape or dtype.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise SceneError(f"an image must be uint8 [height, width, 3], got {rgb.dtype} {list(rgb.shape)}")
    mean = np.asarray(spec.mean, dtype=np.float32) * np.float32(255)
    std = np.asarray(spec.std, dtype=np.float32) * np.float32(255)
    if valid is not None and valid.shape != rgb.shape[:2]:
        raise SceneError(f"the mask is {list(valid.shape)} and the image {list(rgb.shape[:2])}: sizes must agree")
    pixels: ByteArray | FloatArray = rgb
    if valid is not None and not valid.all():
        pixels = np.where(valid[:, :, None], rgb.astype(np.float32), mean)
    small = resize(pixels, spec.height, spec.width)
    return np.ascontiguousarray(((small - mean) / std).transpose(2, 0, 1))
