"""A small painter of aerial ground: shapes in metres, shadows from one sun, the blur and grain of a camera.

Shapes are given by their distance functions, so that edges are antialiased without oversampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmrt.runtime.image import resize

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

GSD = 0.3  # metres per pixel, as UC Merced's
SUN = (0.62, 0.78)  # towards the sun on the ground: right and down, which is south-east
_SHADOW_LENGTH = 0.75  # metres of shadow per metre of height: a sun 53° high
_DARK: Colour = (34, 38, 46)

WHITE: Colour = (236, 236, 230)
CONCRETE: Colour = (176, 171, 160)
ASPHALT: Colour = (98, 98, 98)
GRASS: Colour = (94, 108, 70)
TREE: Colour = (48, 66, 42)


@dataclass(frozen=True)
class Shape:
    """Something on the ground, within ``reach`` of x, y: ``distance`` is in metres to its edge, negative inside."""

    x: float
    y: float
    reach: float
    distance: Callable[[FloatArray, FloatArray], FloatArray]


def tone(colour: Colour) -> FloatArray:
    """A colour as float32 [3], to calculate with."""
    return np.array(colour, dtype=np.float32)


def disc(x: float, y: float, radius: float) -> Shape:
    """A round thing."""
    return Shape(x, y, radius, lambda px, py: np.hypot(px - x, py - y) - np.float32(radius))


def box(x: float, y: float, width: float, height: float, angle: float = 0.0, corner: float = 0.0) -> Shape:
    """A box turned by ``angle`` (radians), its corners rounded by ``corner``."""
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    half = np.float32(width / 2 - corner), np.float32(height / 2 - corner)

    def distance(px: FloatArray, py: FloatArray) -> FloatArray:
        across = np.abs((px - x) * cos + (py - y) * sin) - half[0]
        along = np.abs((py - y) * cos - (px - x) * sin) - half[1]
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        inside: FloatArray = np.minimum(np.maximum(across, along), 0) + outside - np.float32(corner)
        return inside

    return Shape(x, y, math.hypot(width, height) / 2, distance)


def line(x0: float, y0: float, x1: float, y1: float, width: float) -> Shape:
    """A stroke between two points."""
    length = math.hypot(x1 - x0, y1 - y0)
    return box((x0 + x1) / 2, (y0 + y1) / 2, length, width, math.atan2(y1 - y0, x1 - x0), corner=width * 0.49)


class Painter:
    """A square of ground: ``image`` float32 [size, size, 3] in 0…255, painted in metres from the top-left corner."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.side = size * GSD
        self.rng = rng
        self.image: FloatArray = np.zeros((size, size, 3), dtype=np.float32)
        self.metres: FloatArray = ((np.arange(size) + 0.5) * GSD).astype(np.float32)

    def noise(self, cell: float, octaves: int = 3) -> FloatArray:
        """Fractal value noise [size, size] of unit deviation, its coarsest cell ``cell`` metres."""
        total = np.zeros((self.size, self.size), dtype=np.float32)
        for octave in range(octaves):
            count = min(self.size, max(2, math.ceil(self.side / cell * 2**octave)))
            grid = self.rng.standard_normal((count, count, 1)).astype(np.float32)
            total += resize(grid, self.size, self.size)[:, :, 0] * np.float32(0.6**octave)
        total /= total.std()
        return total

    def ground(self, colour: Colour, other: Colour, cell: float = 18.0) -> None:
        """Cover everything with a mixture of two colours."""
        mix = np.clip(0.5 + 0.3 * self.noise(cell, 5), 0, 1)[:, :, None]
        self.image = tone(colour) * (1 - mix) + tone(other) * mix
        self.image *= 1 + np.float32(0.05) * self.noise(2.5)[:, :, None]

    def paint(self, shape: Shape, colour: Colour, opacity: float = 1.0, soft: float = GSD) -> None:
        """Lay a colour over a shape; ``soft`` is the width of its edge in metres."""
        reach = shape.reach + soft
        rows = slice(*np.searchsorted(self.metres, (shape.y - reach, shape.y + reach)))
        columns = slice(*np.searchsorted(self.metres, (shape.x - reach, shape.x + reach)))
        distance = shape.distance(self.metres[None, columns], self.metres[rows, None])
        cover = (np.clip(0.5 - distance / np.float32(soft), 0, 1) * np.float32(opacity))[:, :, None]
        patch = self.image[rows, columns]
        patch += cover * (tone(colour) - patch)

    def shadow(self, shape: Shape, height: float, opacity: float = 0.8) -> None:
        """Darken what the shape, ``height`` metres high, keeps from the sun."""
        length = height * _SHADOW_LENGTH
        ends = [(-SUN[0] * length * t, -SUN[1] * length * t) for t in np.linspace(0, 1, max(2, round(length)))]

        def swept(px: FloatArray, py: FloatArray) -> FloatArray:
            nearest: FloatArray = np.minimum.reduce(
                [shape.distance(px - np.float32(dx), py - np.float32(dy)) for dx, dy in ends]
            )
            return nearest

        self.paint(Shape(shape.x, shape.y, shape.reach + length, swept), _DARK, opacity, soft=2 * GSD)

    def tree(self, x: float, y: float, radius: float) -> None:
        """A crown of overlapping clumps, brighter where it faces the sun."""
        self.shadow(disc(x, y, radius * 0.9), radius * 1.6, 0.7)
        for _ in range(14):
            angle, out = self.rng.uniform(0, 2 * math.pi), radius * math.sqrt(self.rng.uniform(0, 0.8))
            dx, dy = out * math.cos(angle), out * math.sin(angle)
            light = 1.0 + 0.45 * (dx * SUN[0] + dy * SUN[1]) / radius + self.rng.uniform(-0.2, 0.2)
            colour = (TREE[0] * light, TREE[1] * light, TREE[2] * light)
            self.paint(disc(x + dx, y + dy, radius * self.rng.uniform(0.25, 0.5)), colour, 0.85, soft=3 * GSD)

    def car(self, x: float, y: float, angle: float) -> None:
        """A car, 4.6 m long, its length along ``angle``."""
        paints: tuple[Colour, ...] = (WHITE, (205, 207, 208), (60, 62, 66), (30, 32, 36), (140, 34, 34), (48, 66, 110))
        colour = paints[self.rng.choice(len(paints), p=(0.3, 0.22, 0.16, 0.14, 0.1, 0.08))]
        body = box(x, y, 4.6, 1.9, angle, corner=0.5)
        self.shadow(body, 1.6)
        self.paint(body, colour)
        cos, sin = math.cos(angle), math.sin(angle)
        for along, glass in ((0.75, 0.9), (-1.25, 0.6)):
            self.paint(box(x + along * cos, y + along * sin, glass, 1.5, angle, corner=0.2), (40, 46, 54), 0.85)

    def photograph(self) -> ByteArray:
        """Grain and blur of a camera, as uint8."""
        grain = self.rng.normal(0, 5.0, self.image.shape[:2])[:, :, None] + self.rng.normal(0, 1.5, self.image.shape)
        seen = np.pad(self.image + grain, ((1, 1), (1, 1), (0, 0)), mode="edge")
        seen = (seen[:-2] + 2 * seen[1:-1] + seen[2:]) / 4
        seen = (seen[:, :-2] + 2 * seen[:, 1:-1] + seen[:, 2:]) / 4
        pixels: ByteArray = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
        return pixels
