"""Signals become an image: the air, the optics, the noise and the coding of four kinds of sensor."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.scenes.look import Look, Sensor
from gmrt.georsmllm.scenes.materials import BLUE, ECHO, GREEN, HEAT, NEAR_INFRARED, RED
from gmrt.georsmllm.scenes.noise import grain
from gmrt.georsmllm.scenes.raster import Planes

ByteArray = npt.NDArray[np.uint8]

CHANNELS: dict[Sensor, list[int]] = {
    "rgb": [RED, GREEN, BLUE],
    "rgbn": [RED, GREEN, BLUE, NEAR_INFRARED],
    "sar": [ECHO],
    "thermal": [HEAT],
}
BANDS: dict[Sensor, tuple[str, ...]] = {
    "rgb": ("red", "green", "blue"),
    "rgbn": ("red", "green", "blue", "nir"),
    "sar": ("vv",),
    "thermal": ("tir",),
}


def expose(signals: Planes, look: Look, sensor: Sensor) -> ByteArray:
    """Take the picture: signals float32 [C, H, W] → uint8 [H, W, C]."""
    rng = np.random.default_rng(look.seed)
    if sensor == "sar":
        planes = _radar(signals, look, rng)
    elif sensor == "thermal":
        planes = _thermal(signals, look, rng)
    else:
        planes = _camera(signals, look, rng)
    image: ByteArray = np.clip(np.rint(planes), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(image)


def blurred(planes: Planes, deviation: float, sharpen: float = 0.0) -> Planes:
    """Convolve with a small Gaussian along both axes, edges repeated; ``sharpen`` adds the overshoot of a filter."""
    if deviation < 0.2 and not sharpen:
        return planes
    reach = 1 if deviation < 0.6 and not sharpen else 2 if deviation < 1.0 else 3
    taps = _gauss(reach, max(deviation, 0.2))
    taps = ((1 + sharpen) * taps - sharpen * _gauss(reach, math.hypot(deviation, 0.9))).astype(np.float32)
    # Band by band and in place: a band stays in the cache.
    _, height, width = planes.shape
    done = np.empty(planes.shape, np.float32)
    tall, wide = np.empty((height + 2 * reach, width), np.float32), np.empty((height, width + 2 * reach), np.float32)
    pair = np.empty((height, width), np.float32)
    for plane, out in zip(planes, done, strict=True):
        tall[reach : reach + height] = plane
        tall[:reach], tall[reach + height :] = plane[0], plane[-1]
        _weigh([tall[at : at + height] for at in range(2 * reach + 1)], taps, out, pair)
        wide[:, reach : reach + width] = out
        wide[:, :reach], wide[:, reach + width :] = out[:, :1], out[:, -1:]
        _weigh([wide[:, at : at + width] for at in range(2 * reach + 1)], taps, out, pair)
    return done


def _weigh(parts: list[Planes], taps: Planes, out: Planes, pair: Planes) -> None:
    """Sum of parts times taps into ``out``; the kernel is symmetric, ``pair`` is room to work in."""
    reach = len(parts) // 2
    np.multiply(parts[reach], taps[reach], out=out)
    for step in range(reach):
        np.add(parts[step], parts[-1 - step], out=pair)
        pair *= taps[step]
        out += pair


def _gauss(reach: int, deviation: float) -> npt.NDArray[np.float64]:
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    scaled: npt.NDArray[np.float64] = taps / taps.sum()
    return scaled


def _camera(signals: Planes, look: Look, rng: np.random.Generator) -> Planes:
    bands = len(signals)
    levels = np.linspace(0, 1, 1024)
    planes = np.empty_like(signals)
    for band, air, cast in zip(range(bands), (*look.air, 120.0), (*look.cast, 1.0), strict=False):
        seen = np.clip((levels + (air / 255 - levels) * look.haze) * cast * look.gain, 0, 1)
        curve = (255 * seen**look.gamma).astype(np.float32)
        planes[band] = curve[(signals[band] * np.float32(1023 / 255)).astype(np.int16)]
    planes = blurred(planes, look.blur, look.sharpen)
    noise = grain(rng, bands, *signals.shape[1:])
    noise[1:] += noise[:1]  # most of the grain is common to the bands
    noise *= np.float32(look.noise * 0.7)
    planes += noise
    return planes if look.quality is None else _jpeg(planes, look.quality)


def _radar(signals: Planes, look: Look, rng: np.random.Generator) -> Planes:
    """Amplitude in decibels: echoes carry multiplicative speckle of so many looks."""
    decibels = signals * np.float32(36 / 255)
    power = np.float32(10) ** (blurred(decibels, 0.4) / 10)
    power *= rng.standard_gamma(look.looks, signals.shape).astype(np.float32) / np.float32(look.looks)
    levels: Planes = 10 * np.log10(blurred(power, 0.45) + np.float32(1e-3)) * np.float32(255 / 38)
    return levels


def _thermal(signals: Planes, look: Look, rng: np.random.Generator) -> Planes:
    """A soft image of warmth with the faint columns of an uncooled detector."""
    planes = blurred(blurred(signals, 0.8), look.blur)
    low, high = (float(value) for value in np.quantile(planes[:, ::4, ::4], (0.01, 0.99)))
    warm: Planes = (planes - low) * np.float32(200 / max(high - low, 40.0)) * np.float32(look.gain) + 28
    warm += grain(rng, *warm.shape) * np.float32(look.noise * 0.6)
    warm += grain(rng, 1, 1, warm.shape[2]) * np.float32(1.2)
    return warm if look.hot_white else 255 - warm


_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
"""Quantisation of luminance at quality 50 (ITU-T T.81, table K.1)."""


@lru_cache(maxsize=1)
def _cosines() -> Planes:
    index = np.arange(8)
    basis = np.cos((2 * index[None] + 1) * index[:, None] * (math.pi / 16)) / 2
    basis[0] /= math.sqrt(2)
    cosines: Planes = basis.astype(np.float32)
    return cosines


def _jpeg(planes: Planes, quality: int) -> Planes:
    """What 8 × 8 block coding does to each band: cosine transform, rounding, and back. Not the bit stream."""
    bands, height, width = planes.shape
    tall, wide = -(-height // 8) * 8, -(-width // 8) * 8
    padded = np.pad(planes, ((0, 0), (0, tall - height), (0, wide - width)), mode="edge")
    step = np.float32(5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    table = np.maximum(_LUMINANCE * step, 1)
    basis, tables = _cosines(), np.tile(table, (1, wide // 8))
    rows = (padded.reshape(-1, 8) @ basis.T).reshape(-1, 8, wide)  # along each row of a block, then down its columns
    coded = np.matmul(basis, rows)
    coded /= tables
    np.rint(coded, out=coded)
    coded *= tables
    plain = np.matmul(basis.T, coded).reshape(-1, 8) @ basis
    result: Planes = plain.reshape(bands, tall, wide)[:, :height, :width]
    return result
