"""Houses seen from above, ridge along x, and the pools behind them."""

from __future__ import annotations

import numpy as np

from gmrt.georsmllm.scenes.item import Item, Pen
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import bar, ellipse, rectangle, rounded

_STEEP = 0.45
_PLASTER: Colour = (198, 188, 172)


def _house(pen: Pen, outline: FloatArray, colour: str, shape: str, height: float = 5.0) -> Item:
    pen.cast(outline, height)
    return pen.item(
        "house",
        outline,
        cover="building",
        height=height,
        wall=_PLASTER,
        heading=0.0,
        attributes={"colour": colour, "shape": shape},
    )


def _gable(
    pen: Pen, length: float, width: float, roof: Colour, x: float = 0.0, y: float = 0.0, *, along: bool = True
) -> None:
    """Two roof faces that meet at a ridge along x (or along y)."""
    for side in (-1, 1):
        tilt = (0.0, side * _STEEP) if along else (side * _STEEP, 0.0)
        face = (length, width / 2, x, y + side * width / 4) if along else (length / 2, width, x + side * length / 4, y)
        pen.fill(rectangle(*face), roof, "roof", tilt=tilt)
    ends = ((x - length / 2, y), (x + length / 2, y)) if along else ((x, y - width / 2), (x, y + width / 2))
    pen.fill(bar(*ends, 0.25), times(roof, 1.12), "roof", level=1, opacity=0.7)


def _hip(pen: Pen, length: float, width: float, roof: Colour, x: float = 0.0) -> None:
    """Four roof faces, the short ones triangular."""
    a, b, ridge, shift = length / 2, width / 2, max(length - width, 0.2) / 2, np.array([x, 0.0])
    for side in (-1.0, 1.0):
        slope = np.array([[-a, side * b], [a, side * b], [ridge, 0.0], [-ridge, 0.0]])
        pen.fill(slope + shift, roof, "roof", tilt=(0.0, side * _STEEP))
        end = np.array([[side * a, -b], [side * a, b], [side * ridge, 0.0]])
        pen.fill(end + shift, roof, "roof", tilt=(side * _STEEP, 0.0))


def _chimney(pen: Pen, rng: np.random.Generator, length: float, width: float) -> None:
    x, y = length * rng.uniform(-0.35, 0.35), width * rng.uniform(-0.2, 0.2)
    pen.fill(rectangle(1.0, 0.8, x + 0.5, y + 0.4), (60, 58, 58), "roof", level=1, opacity=0.5)
    pen.fill(rectangle(0.9, 0.7, x, y), (134, 104, 92), "wall", level=2)


def gable_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A plain gable roof."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.6, 0.75)
    pen = Pen()
    _gable(pen, size, width, roof)
    _chimney(pen, rng, size, width)
    return _house(pen, rectangle(size, width), colour, "rectangular")


def hip_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A hipped roof."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.62, 0.85)
    pen = Pen()
    _hip(pen, size, width, roof)
    if rng.random() < 0.5:
        _chimney(pen, rng, size * 0.5, width)
    return _house(pen, rectangle(size, width), colour, "rectangular")


def ell_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """Two wings at a right angle."""
    roof, width, out = shade(rng, palette.roofs[colour]), size * 0.46, size * 0.4
    side = -1.0 if rng.random() < 0.5 else 1.0
    x0, x1, x2 = -size / 2, side * (size / 2 - width), size / 2
    top, middle, bottom = -(width + out) / 2, (width - out) / 2, (width + out) / 2
    pen = Pen()
    _gable(pen, size, width, roof, 0.0, top + width / 2)
    _gable(pen, width, out, roof, side * (size / 2 - width / 2), middle + out / 2, along=False)
    _chimney(pen, rng, size * 0.6, 0.1)
    near = (x2, x1) if side > 0 else (x0, x1)
    far = x0 if side > 0 else x2
    outline = np.array(
        [[far, top], [near[0], top], [near[0], bottom], [near[1], bottom], [near[1], middle], [far, middle]]
    )
    return _house(pen, outline, colour, "L-shaped")


def flat_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A flat roof inside a parapet, a terrace, a roof light."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.65, 0.9)
    pen = Pen()
    pen.fill(rectangle(size, width), times(roof, 1.12), "roof")
    pen.fill(rectangle(size - 1.0, width - 1.0), times(roof, 0.94), "roof", level=1)
    pen.fill(rectangle(size * 0.24, width * 0.4, size * 0.3, width * 0.2), times(roof, 0.8), "roof", level=2)
    pen.fill(rectangle(1.4, 1.4, -size * 0.2, -width * 0.15), (84, 96, 110), "glass", level=2)
    return _house(pen, rectangle(size, width), colour, "rectangular", 6.0)


def tee_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A cross wing in the middle of the front, dark panels on the sunny side."""
    roof, width, out = shade(rng, palette.roofs[colour]), size * 0.5, size * 0.26
    wing = size * 0.36
    top, middle, bottom = -(width + out) / 2, (width - out) / 2, (width + out) / 2
    pen = Pen()
    _gable(pen, size, width, roof, 0.0, top + width / 2)
    _gable(pen, wing, out + width / 4, roof, 0.0, middle - width / 8 + out / 2, along=False)
    pen.fill(rectangle(size * 0.22, width * 0.3, -size * 0.3, top + width * 0.28), (42, 48, 66), "panel", level=1)
    outline = np.array(
        [
            [-size / 2, top],
            [size / 2, top],
            [size / 2, middle],
            [wing / 2, middle],
            [wing / 2, bottom],
            [-wing / 2, bottom],
            [-wing / 2, middle],
            [-size / 2, middle],
        ]
    )
    return _house(pen, outline, colour, "T-shaped")


def pyramid_house(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A pyramid of four faces over a square plan, a flat extension at one end."""
    roof, main = shade(rng, palette.roofs[colour]), size * 0.74
    pen = Pen()
    pen.fill(rectangle(size - main, main, size / 2 - (size - main) / 2), times(roof, 1.06), "roof")
    _hip(pen, main, main, roof, x=-(size - main) / 2)
    return _house(pen, rectangle(size, main), colour, "rectangular")


def _pool(pen: Pen, outline: FloatArray, shape: str) -> Item:
    return pen.item("swimming pool", outline, cover="water", heading=None, attributes={"shape": shape})


def square_pool(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """A rectangle of blue in a pale deck."""
    water, width = shade(rng, (86, 178, 200), 0.1), size * rng.uniform(0.45, 0.6)
    pen = Pen()
    pen.fill(rectangle(size + 2.4, width + 2.4), shade(rng, palette.concrete[0]), "concrete", level=-1)
    pen.fill(rectangle(size, width), water, "water", level=1)
    pen.fill(rectangle(size * 0.4, width * 0.8, -size * 0.22), times(water, 1.12), "water", level=2, opacity=0.6)
    return _pool(pen, rectangle(size, width), "rectangular")


def oval_pool(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """An oval without corners, dark in the middle."""
    water, width = shade(rng, (70, 166, 196), 0.1), size * rng.uniform(0.55, 0.8)
    pen = Pen()
    pen.fill(ellipse(size / 2 + 1, width / 2 + 1), shade(rng, palette.concrete[1]), "concrete", level=-1)
    pen.fill(ellipse(size / 2, width / 2), water, "water", level=1)
    pen.fill(ellipse(size * 0.25, width * 0.25), times(water, 0.86), "water", level=2, opacity=0.7)
    return _pool(pen, ellipse(size / 2, width / 2), "oval")


def stepped_pool(rng: np.random.Generator, palette: Palette, size: float) -> Item:
    """A rounded pool with a bright step at one end and a tiled rim."""
    water, width = shade(rng, (58, 150, 186), 0.1), size * 0.5
    pen = Pen()
    pen.fill(rounded(size + 1.6, width + 1.6, 1.0), shade(rng, palette.soil[0]), "concrete", level=-1)
    pen.fill(rounded(size, width, width * 0.3), water, "water", level=1)
    pen.fill(rectangle(size * 0.12, width * 0.7, size * 0.38), (178, 226, 230), "water", level=2)
    return _pool(pen, rounded(size, width, width * 0.3), "rectangular")


HOUSES = {
    "gable": gable_house,
    "hip": hip_house,
    "ell": ell_house,
    "flat": flat_house,
    "tee": tee_house,
    "pyramid": pyramid_house,
}
POOLS = {"square pool": square_pool, "oval pool": oval_pool, "stepped pool": stepped_pool}
