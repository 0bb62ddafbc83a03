"""Noise for textures: several families of random fields [height, width] of zero mean and unit deviation.

Only elementwise arithmetic is used, so that the same seed gives the same field whatever the linear-algebra library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Rng = np.random.Generator


@lru_cache(maxsize=256)
def _steps(size: int, count: int) -> tuple[npt.NDArray[np.int64], Field]:
    """For each of ``size`` pixels: the one of ``count + 1`` knots to its left, and how far (smoothed) it is past it."""
    place = np.arange(size) * (count / size)
    left = np.minimum(place.astype(np.int64), count - 1)
    share = place - left
    return left, (share * share * (3 - 2 * share)).astype(np.float32)


def stretch(knots: Field, height: int, width: int) -> Field:
    """Smooth interpolation of a grid of knots [h + 1, w + 1] over [height, width]."""
    left, share = _steps(width, knots.shape[1] - 1)
    wide = knots[:, left]
    wide += (knots[:, left + 1] - wide) * share
    top, down = _steps(height, knots.shape[0] - 1)
    field: Field = wide[top]
    field += (wide[top + 1] - field) * down[:, None]
    return field


def values(rng: Rng, height: int, width: int, cell: float) -> Field:
    """Value noise: random heights at knots ``cell`` pixels apart, smoothly joined."""
    rows, columns = max(1, round(height / cell)), max(1, round(width / cell))
    return stretch(rng.standard_normal((rows + 1, columns + 1), dtype=np.float32), height, width)


def grain(rng: Rng, *shape: int) -> Field:
    """Independent grain of unit deviation: the sum of two uniform bytes, near enough to normal and much cheaper."""
    pairs = np.frombuffer(rng.bytes(2 * math.prod(shape)), np.uint8).reshape(2, *shape)
    field: Field = (pairs[0].astype(np.float32) + pairs[1] - np.float32(255)) * np.float32(1 / 104.5)
    return field


def standard(field: Field) -> Field:
    """The field with zero mean and unit deviation."""
    field = field - field.mean()
    scale = float(field.std())
    return field / np.float32(scale) if scale > 1e-6 else field


def _octaves(cell: float, smallest: float = 1.5) -> list[tuple[float, float]]:
    count = max(1, min(5, 1 + int(math.log2(max(cell / smallest, 1.0)))))
    return [(cell / 2**octave, 0.62**octave) for octave in range(count)]


def fractal(rng: Rng, height: int, width: int, cell: float) -> Field:
    """A sum of value noises, each half as coarse as the one before."""
    total = np.zeros((height, width), np.float32)
    for size, weight in _octaves(cell):
        total += np.float32(weight) * values(rng, height, width, size)
    return standard(total)


def ridged(rng: Rng, height: int, width: int, cell: float) -> Field:
    """Creases where value noises cross zero: dry ground, tracks, veins."""
    total = np.zeros((height, width), np.float32)
    for size, weight in _octaves(cell):
        total -= np.float32(weight) * np.abs(values(rng, height, width, size))
    return standard(total)


def patches(rng: Rng, height: int, width: int, cell: float) -> Field:
    """Blotches with fairly sharp rims over a finer grain."""
    base = standard(values(rng, height, width, cell) + np.float32(0.5) * values(rng, height, width, cell / 2))
    blotch = base / np.sqrt(np.float32(0.04) + base * base)
    return standard(blotch + np.float32(0.5) * fractal(rng, height, width, cell / 4))


def warped(rng: Rng, height: int, width: int, cell: float) -> Field:
    """Fractal noise looked up through another noise: swirls and flow."""
    base = fractal(rng, height, width, cell)
    reach = np.float32(0.35 * cell)
    rows = np.arange(height)[:, None] + (reach * values(rng, height, width, cell)).astype(np.int64)
    columns = np.arange(width)[None] + (reach * values(rng, height, width, cell)).astype(np.int64)
    return standard(base[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)])


def cells(rng: Rng, height: int, width: int, cell: float) -> Field:
    """Tussocks: the distance to the nearest of scattered seeds (Worley 1996), over a coarse field."""
    size = max(4.0, cell / 3)
    rows, columns = math.ceil(height / size) + 2, math.ceil(width / size) + 2
    jitter = rng.random((2, rows, columns), dtype=np.float32)
    y = np.arange(height, dtype=np.float32) / np.float32(size) + 1
    x = np.arange(width, dtype=np.float32) / np.float32(size) + 1
    row, column = y.astype(np.int64), x.astype(np.int64)
    nearest = np.full((height, width), 9.0, np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at = np.ix_(np.clip(row + down, 0, rows - 1), np.clip(column + right, 0, columns - 1))
            dy = jitter[0][at] + (row + down - y)[:, None].astype(np.float32)
            dx = jitter[1][at] + (column + right - x)[None].astype(np.float32)
            np.minimum(nearest, dy * dy + dx * dx, out=nearest)
    return standard(np.float32(-1.0) * standard(np.sqrt(nearest)) + fractal(rng, height, width, 2 * cell))


FAMILIES: dict[str, Callable[[Rng, int, int, float], Field]] = {
    "fractal": fractal,
    "ridged": ridged,
    "patches": patches,
    "warped": warped,
    "cells": cells,
}
