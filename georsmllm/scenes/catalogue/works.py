"""Tanks, industrial buildings, stacks of containers and solar panels, seen from above."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.item import Item, Pen
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.shapes import bar, disc, rectangle, rounded, rows, sector, turned

_STEEL: Colour = (172, 170, 166)
_RUST: Colour = (150, 112, 84)


def _tank(pen: Pen, radius: float, colour: str, wall: Colour) -> Item:
    outline = disc(radius)
    height = min(radius * 0.7, 14.0)
    pen.cast(outline, height)
    return pen.item(
        "storage tank",
        outline,
        cover="building",
        height=height,
        wall=wall,
        attributes={"colour": colour, "shape": "round"},
    )


def _stain(pen: Pen, rng: np.random.Generator, radius: float, level: int) -> None:
    for _ in range(3):
        angle, out = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0, 0.6)
        spot = disc(radius * rng.uniform(0.08, 0.25), out * math.cos(angle), out * math.sin(angle), count=8)
        pen.fill(spot, _RUST, "metal", level=level, opacity=0.18)


def flat_tank(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A flat roof with a railing, a stair along the rim and a hatch."""
    paint, radius = shade(rng, palette.paints[colour]), size / 2
    pen = Pen()
    pen.fill(disc(radius, count=32), times(paint, 0.82), "metal")
    pen.fill(disc(radius * 0.95, count=32), paint, "metal", level=1)
    _stain(pen, rng, radius, 2)
    pen.fill(disc(radius * 0.07, radius * 0.2, radius * 0.1, count=8), times(paint, 0.6), "metal", level=3)
    pen.fill(sector(radius * 1.04, 0.2, 1.1, inner=radius * 0.97), _STEEL, "metal", level=3)
    return _tank(pen, radius, colour, times(paint, 0.8))


def cone_tank(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A roof that rises to the middle: lit on one side, darker on the other, a walkway to its top."""
    paint, radius = shade(rng, palette.paints[colour]), size / 2
    pen = Pen()
    for step in range(12):
        start = step * math.pi / 6
        middle = start + math.pi / 12
        slope = 0.28 * math.cos(middle), 0.28 * math.sin(middle)
        pen.fill(sector(radius * 1.004, start, start + math.pi / 6, count=3), paint, "metal", tilt=slope)
    pen.fill(disc(radius * 0.08, count=10), times(paint, 0.75), "metal", level=2)
    pen.fill(bar((0.0, 0.0), (radius * 0.98, 0.0), radius * 0.045), times(paint, 0.7), "metal", level=1)
    return _tank(pen, radius, colour, times(paint, 0.8))


def floating_tank(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A bright rim round a roof that has sunk with the oil, with the ladder that follows it down."""
    paint, radius = shade(rng, palette.paints[colour]), size / 2
    deep = radius * rng.uniform(0.04, 0.16)
    pen = Pen()
    pen.fill(disc(radius, count=32), times(paint, 1.05), "metal")
    pen.fill(disc(radius * 0.93, count=32), times(paint, 0.5), "metal", level=1)
    pen.fill(disc(radius * 0.93 - deep, deep * 0.7, deep * 0.4, count=32), times(paint, 0.88), "metal", level=2)
    _stain(pen, rng, radius * 0.8, 3)
    pen.fill(bar((radius * 0.9, 0.0), (radius * 0.1, 0.0), radius * 0.05), _STEEL, "metal", level=4)
    return _tank(pen, radius, colour, times(paint, 0.8))


def dome_tank(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A dome in rings, each facing outwards more than the one inside it."""
    paint, radius = shade(rng, palette.paints[colour]), size / 2
    pen = Pen()
    for level, (outer, inner) in enumerate(((1.0, 0.7), (0.72, 0.38), (0.4, 0.0))):
        for step in range(10):
            start = step * math.pi / 5
            middle = start + math.pi / 10
            slope = 0.5 * outer * math.cos(middle), 0.5 * outer * math.sin(middle)
            ring = sector(radius * outer, start, start + math.pi / 5, inner=radius * inner, count=3)
            pen.fill(ring, paint, "metal", level=level, tilt=slope)
    pen.fill(disc(radius * 0.1, count=8), times(paint, 0.6), "metal", level=4)
    return _tank(pen, radius, colour, times(paint, 0.78))


def ribbed_tank(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A flat roof with ribs from the middle and a band round it."""
    paint, radius = shade(rng, palette.paints[colour]), size / 2
    pen = Pen()
    pen.fill(disc(radius, count=32), paint, "metal")
    pen.fill(disc(radius * 0.86, count=32), times(paint, 0.8), "metal", level=1)
    pen.fill(disc(radius * 0.8, count=32), times(paint, 0.95), "metal", level=2)
    for step in range(8):
        rib = turned(bar((radius * 0.1, 0.0), (radius * 0.85, 0.0), radius * 0.03), step * math.pi / 4)
        pen.fill(rib, times(paint, 0.72), "metal", level=3)
    pen.fill(disc(radius * 0.14, count=10), times(paint, 1.08), "metal", level=4)
    return _tank(pen, radius, colour, times(paint, 0.8))


def _building(pen: Pen, length: float, width: float, colour: str, roof: Colour, height: float = 9.0) -> Item:
    outline = rectangle(length, width)
    pen.cast(outline, height)
    return pen.item(
        "building",
        outline,
        cover="building",
        height=height,
        wall=times(roof, 0.75),
        heading=0.0,
        attributes={"colour": colour, "shape": "rectangular"},
    )


def ribbed_hall(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A low gable of ribbed metal with bright roof lights."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.4, 0.65)
    pen = Pen()
    for side in (-1, 1):
        pen.fill(rectangle(size, width / 2, 0.0, side * width / 4), roof, "roof", tilt=(0.0, side * 0.2))
    ribs = np.arange(-size / 2 + 2, size / 2, max(2.5, size / 24))
    pen.fill(rows(0.4, width, np.stack([ribs, 0 * ribs], axis=1)), times(roof, 0.9), "roof", level=1, size=4)
    lights = np.array([[x, y] for x in np.linspace(-0.4, 0.4, 5) for y in (-0.25, 0.25)]) * [size, width]
    pen.fill(rows(size * 0.03, width * 0.3, lights), (206, 216, 218), "glass", level=2, size=4)
    return _building(pen, size, width, colour, roof)


def flat_hall(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A flat roof inside a parapet with machines on it, each with its shadow."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.5, 0.85)
    pen = Pen()
    pen.fill(rectangle(size, width), times(roof, 1.15), "roof")
    pen.fill(rectangle(size - 1.4, width - 1.4), roof, "roof", level=1)
    for _ in range(int(rng.integers(4, 10))):
        x, y = size * rng.uniform(-0.4, 0.4), width * rng.uniform(-0.36, 0.36)
        a, b = rng.uniform(1.5, 4.0, 2)
        pen.fill(rectangle(a, b, x + 0.7, y + 0.6), (52, 52, 56), "roof", level=2, opacity=0.6)
        pen.fill(rectangle(a, b, x, y), shade(rng, _STEEL, 0.15), "metal", level=3)
    return _building(pen, size, width, colour, roof)


def saw_hall(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A saw-tooth roof: slopes that alternate with strips of glass."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.5, 0.75)
    pen = Pen()
    count = int(rng.integers(5, 9))
    step = size / count
    for tooth in range(count):
        x = -size / 2 + tooth * step
        pen.fill(rectangle(step * 0.72, width, x + step * 0.36), roof, "roof", tilt=(-0.3, 0.0))
        pen.fill(rectangle(step * 0.28, width, x + step * 0.86), (96, 108, 122), "glass", tilt=(0.4, 0.0))
    pen.fill(rectangle(size, 0.5, 0.0, width / 2 - 0.4), times(roof, 1.15), "roof", level=1)
    return _building(pen, size, width, colour, roof)


def vault_hall(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A vaulted roof, bright along one flank, with round vents along the top."""
    roof, width = shade(rng, palette.roofs[colour]), size * rng.uniform(0.4, 0.6)
    pen = Pen()
    for strip in range(6):
        y = (strip - 2.5) / 6
        pen.fill(rectangle(size, width / 6, 0.0, y * width), roof, "roof", tilt=(0.0, y * 1.1))
    for x in np.linspace(-0.42, 0.42, 7):
        pen.fill(disc(1.1, x * size, count=8), _STEEL, "metal", level=1)
    return _building(pen, size, width, colour, roof)


def containers(rng: np.random.Generator, palette: Palette, columns: int, lines: int) -> Item:
    """A block of containers in mixed colours, not labelled: 12.2 by 2.5 metres each."""
    words = list(palette.paints.values())
    pen = Pen()
    for column in range(columns):
        for line in range(lines):
            x, y = (column - (columns - 1) / 2) * 12.6, (line - (lines - 1) / 2) * 2.7
            pen.fill(rectangle(12.2, 2.45, x, y), shade(rng, words[rng.integers(len(words))], 0.15), "metal")
    outline = rectangle(columns * 12.6, lines * 2.7)
    pen.cast(outline, 5.0)
    return pen.item("", outline, height=5.0, heading=0.0)


def _panel(pen: Pen, length: float, width: float) -> Item:
    outline = rectangle(length, width)
    pen.cast(outline, 1.6)
    return pen.item("solar panel", outline, cover="solar panel", height=1.6, heading=0.0)


def blue_panel(rng: np.random.Generator, palette: Palette, length: float, width: float) -> Item:
    """A table of blue cells with pale seams."""
    paint, seam = shade(rng, (44, 58, 104), 0.08), times(palette.paints["grey"], 0.85)
    pen = Pen()
    pen.fill(rectangle(length, width), paint, "panel", tilt=(0.0, 0.25))
    seams = np.arange(-length / 2, length / 2, max(4.0, length / 9))[1:]
    pen.fill(rows(0.16, width, np.stack([seams, 0 * seams], axis=1)), seam, "metal", level=1, size=4)
    return _panel(pen, length, width)


def black_panel(rng: np.random.Generator, palette: Palette, length: float, width: float) -> Item:
    """A table of nearly black modules in two rows."""
    paint = shade(rng, (40, 42, 52), 0.08)
    pen = Pen()
    pen.fill(rectangle(length, width), times(palette.paints["grey"], 0.7), "metal")
    for side in (-1, 1):
        pen.fill(rectangle(length, width * 0.46, 0.0, side * width * 0.25), paint, "panel", level=1, tilt=(0.0, 0.2))
    return _panel(pen, length, width)


def glint_panel(rng: np.random.Generator, palette: Palette, length: float, width: float) -> Item:
    """Modules apart from each other that mirror some of the sky."""
    paint = shade(rng, (74, 86, 118), 0.1)
    pen = Pen()
    pen.fill(rounded(length, width, 0.3), times(paint, 0.62), "panel")
    step = max(3.0, length / 16)
    places = np.arange(-length / 2 + step / 2, length / 2 - step / 2 + 0.01, step)
    pen.fill(rows(step * 0.86, width * 0.88, np.stack([places, 0 * places], axis=1)), paint, "panel", level=1, size=4)
    for x in places[:: int(rng.integers(3, 6))]:
        pen.fill(
            rectangle(step * 0.8, width * 0.3, x), times(palette.paints["grey"], 1.1), "glass", level=2, opacity=0.6
        )
    return _panel(pen, length, width)


TANKS = {"flat": flat_tank, "cone": cone_tank, "floating": floating_tank, "dome": dome_tank, "ribbed": ribbed_tank}
BUILDINGS = {"ribbed hall": ribbed_hall, "flat hall": flat_hall, "saw hall": saw_hall, "vault hall": vault_hall}
PANELS = {"blue": blue_panel, "black": black_panel, "glint": glint_panel}
