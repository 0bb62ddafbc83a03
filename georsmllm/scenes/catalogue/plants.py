"""Trees seen from above."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.item import CANOPY, Item, Pen
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import disc, star, turned, wobbly


def _tree(pen: Pen, outline: FloatArray, radius: float) -> Item:
    height = radius * 1.6
    pen.cast(outline * 0.9, height * 0.8, height * 0.35)
    return pen.item("tree", outline, stage=CANOPY, cover="tree", height=height)


def clumped_tree(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """A crown of clumps, each facing the way it grows."""
    radius = size / 2
    leaf = shade(rng, palette.canopy[rng.integers(len(palette.canopy))], 0.12)
    outline = wobbly(radius, rng, count=14, depth=0.2)
    pen = Pen()
    pen.fill(outline, times(leaf, 0.72), "leaf")
    for _ in range(14):
        angle, out = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.uniform(0, 0.62))
        x, y = out * math.cos(angle), out * math.sin(angle)
        tilt = (0.8 * x / radius, 0.8 * y / radius)
        clump = disc(radius * rng.uniform(0.14, 0.3), x, y, count=6)
        pen.fill(clump, shade(rng, times(leaf, 1.05), 0.3), "leaf", level=1, opacity=0.7, tilt=tilt)
    return _tree(pen, outline, radius)


def round_tree(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """A smooth round crown in slices, paler at its top."""
    radius = size / 2
    leaf = shade(rng, palette.canopy[rng.integers(len(palette.canopy))], 0.12)
    outline = wobbly(radius, rng, count=12, depth=0.08)
    pen = Pen()
    for step in range(12):
        wedge = np.array([[0.0, 0.0], outline[step], outline[(step + 1) % 12]])
        angle = (step + 0.5) * math.pi / 6
        pen.fill(wedge, shade(rng, times(leaf, 0.9), 0.08), "leaf", tilt=(0.5 * math.cos(angle), 0.5 * math.sin(angle)))
    for level, share in enumerate((0.62, 0.36), start=1):
        pen.fill(disc(radius * share, count=8), times(leaf, 1.0 + 0.08 * level), "leaf", level=level, opacity=0.5)
    return _tree(pen, outline, radius)


def conifer(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """Boughs like a star, in two tiers, and a pointed shadow."""
    radius = size / 2
    leaf = times(shade(rng, palette.canopy[-1], 0.1), 0.85)
    turn = rng.uniform(0, 1)
    outline = star(radius, radius * 0.68, 9, turn)
    pen = Pen()
    pen.fill(outline, times(leaf, 0.8), "leaf")
    pen.fill(star(radius * 0.58, radius * 0.34, 7, turn + 0.3), leaf, "leaf", level=1)
    pen.fill(disc(radius * 0.12, count=6), times(leaf, 1.4), "leaf", level=2)
    for share, low, high in ((0.85, 0.0, 0.8), (0.55, 0.8, 1.5), (0.25, 1.5, 2.2)):
        pen.cast(disc(radius * share, count=8), radius * high, radius * low)
    return pen.item("tree", outline, stage=CANOPY, cover="tree", height=radius * 2.2)


def lobed_tree(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """A few large lobes with dark gaps between them."""
    radius = size / 2
    leaf = shade(rng, palette.canopy[rng.integers(len(palette.canopy))], 0.12)
    outline = wobbly(radius, rng, count=14, depth=0.1)
    turn = rng.uniform(0, 2 * math.pi)
    pen = Pen()
    pen.fill(outline, times(leaf, 0.55), "leaf")
    for lobe in range(5):
        angle = turn + lobe * 2 * math.pi / 5
        x, y = 0.52 * radius * math.cos(angle), 0.52 * radius * math.sin(angle)
        bough = wobbly(radius * 0.4, rng, count=8) + np.array([x, y])
        pen.fill(bough, shade(rng, leaf, 0.1), "leaf", level=1, tilt=(0.5 * math.cos(angle), 0.5 * math.sin(angle)))
    pen.fill(disc(radius * 0.3, count=8), times(leaf, 1.2), "leaf", level=2)
    return _tree(pen, outline, radius)


def feathered_tree(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """Long leaves from one stem, some bright, some in shade."""
    radius = size / 2
    leaf = shade(rng, palette.canopy[0], 0.12)
    outline = star(radius, radius * 0.66, 8, rng.uniform(0, 1))
    pen = Pen()
    pen.fill(outline, times(leaf, 0.7), "leaf")
    frond = np.array([[0.05, -0.08], [0.6, -0.12], [0.92, 0.0], [0.6, 0.12], [0.05, 0.08]]) * radius
    start = rng.uniform(0, 1)
    for step in range(8):
        angle = start + step * math.pi / 4
        pen.fill(turned(frond, angle), shade(rng, leaf, 0.25), "leaf", level=1)
    return _tree(pen, outline, radius)


TREES = {
    "clumped": clumped_tree,
    "round": round_tree,
    "conifer": conifer,
    "lobed": lobed_tree,
    "feathered": feathered_tree,
}
