"""From measured values to eight bits: stretches, radar in decibels, vegetation as a colour. Functions on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

SAR_RANGES = ((-20.0, 0.0), (-27.0, -7.0), (0.0, 14.0))
"""Decibels that are drawn as 0…255: co-polarised, cross-polarised, and their difference."""

_SOIL, _SPARSE, _DENSE = (150, 110, 80), (220, 215, 130), (20, 100, 30)
_RAMP = ((-1.0, (20, 40, 90)), (0.0, _SOIL), (0.3, _SPARSE), (0.8, _DENSE), (1.0, _DENSE))


def stretch(values: npt.NDArray[Any], low: float, high: float) -> ByteArray:
    """Map ``low``…``high`` linearly to 0…255, rounded and clipped, as uint8 of the same shape.

    NaN becomes 0, and a flat scene (low = high) mid-grey.
    """
    if high <= low:
        return np.full(values.shape, 128, dtype=np.uint8)
    exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
    scaled = values.astype(np.float32 if exact else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows lies far beyond the limits, and is clipped
        scaled -= low
        scaled *= 255.0 / (high - low)
    if values.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.rint(np.clip(scaled, 0.0, 255.0, out=scaled), out=scaled).astype(np.uint8)


def limits(sample: npt.NDArray[Any]) -> tuple[float, float, str]:
    """Percentiles 2 and 98 of values of any shape, or lowest and highest where these are equal, and words for them."""
    low, high = (float(limit) for limit in np.percentile(sample.astype(np.float64), (2, 98)))
    words = "percentiles 2 and 98"
    if low == high:  # one value nearly everywhere: the rest is the picture
        low, high, words = float(sample.min()), float(sample.max()), "lowest and highest"
    return low, high, words


def decibels(values: npt.NDArray[Any], stored: str) -> FloatArray:
    """Radar echoes as float32 decibels, -inf for none: ``stored`` as "decibels", "power", "amplitude" or "complex".

    10 log10 of the power, which is the square of an amplitude and of a complex value's magnitude.
    """
    if stored == "decibels":
        return values.astype(np.float32)
    magnitude = np.abs(values).astype(np.float32)
    with np.errstate(divide="ignore"):
        level: FloatArray = np.float32(10 if stored == "power" else 20) * np.log10(magnitude)
    return level


def radar_planes(level: FloatArray) -> FloatArray:
    """Pseudo-colour planes [3, H, W] of co- and cross-polarised decibels [2, H, W]: VV, VH and VV - VH.

    The difference of decibels is the ratio of the powers. As NASA's ARSET shows Sentinel-1 (red VV, green VH, blue
    VV / VH; "SAR Part 1", page 21): towns bright, forest green, calm water dark and blue.
    """
    with np.errstate(invalid="ignore"):
        ratio = level[0] - level[1]
    return np.stack([level[0], level[1], ratio])


def vegetation_index(values: npt.NDArray[Any]) -> FloatArray:
    """NDVI float32 [H, W] in -1…1 of near infrared and red [2, H, W]: (nir - red) / (nir + red) (Rouse et al. 1974).

    Values below 0, which surface reflectance has over water, count as 0; NaN where both are 0.
    """
    nir, red = np.maximum(values.astype(np.float32), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        index: FloatArray = (nir - red) / (nir + red)
    return index


def vegetation_colours(index: FloatArray) -> ByteArray:
    """Colours uint8 [H, W, 3] of NDVI [H, W]: blue below 0, brown at 0, yellow at 0.3, dark green from 0.8."""
    places = [place for place, _ in _RAMP]
    known = np.nan_to_num(index, nan=0.0)
    planes = [np.interp(known, places, [colour[channel] for _, colour in _RAMP]) for channel in range(3)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)
