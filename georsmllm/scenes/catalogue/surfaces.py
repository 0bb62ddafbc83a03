"""Flat ground with a purpose: roads, runways, aprons, fields, rivers, car parks. In scene coordinates."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.item import GROUND, Item, Pen, Stripes
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import disc, rectangle, ribbon, rows, sideways, strokes, wobbly

_WHITE: Colour = (232, 232, 226)
_YELLOW: Colour = (206, 172, 74)


def dashes(line: FloatArray, length: float, gap: float, offset: float = 0.0) -> FloatArray:
    """Pieces of a polyline, ``length`` on and ``gap`` off, shifted sideways by ``offset``: [N, 2, 2]."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(0.0, along[-1] - length, length + gap)
    ends = np.stack([starts, starts + length], axis=1)
    x, y = np.interp(ends, along, line[:, 0]), np.interp(ends, along, line[:, 1])
    pieces = np.stack([x, y], axis=2)
    if offset:
        step = pieces[:, 1] - pieces[:, 0]
        aside = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(np.hypot(*step.T), 1e-9)[:, None]
        pieces = pieces + offset * aside[:, None]
    return pieces


def road(line: FloatArray, width: float, palette: Palette, rng: np.random.Generator, *, category: str = "road") -> Item:
    """A road along a polyline [N, 2]: kerbs, asphalt, and lane markings when it is wide enough for two lanes."""
    surface = shade(rng, palette.asphalt[rng.integers(len(palette.asphalt))], 0.06)
    pen = Pen()
    kerb = rng.random() < 0.6
    if kerb:
        pen.fill(ribbon(line, width + 1.6), shade(rng, palette.concrete[0]), "concrete", level=-1)
    pen.fill(ribbon(line, width), surface, "asphalt", level=1)
    lanes = (-0.375, -0.125, 0.125, 0.375) if width >= 12 else (-0.27, 0.27)
    for share in lanes:  # where wheels have worn it
        pen.fill(
            ribbon(line + share * width * sideways(line), 1.1), times(surface, 0.93), "asphalt", level=2, opacity=0.6
        )
    if width >= 7:
        paint = _YELLOW if rng.random() < 0.4 else _WHITE
        if width >= 12:
            for offset in (-width / 4, width / 4):
                pen.fill(strokes(dashes(line, 3.0, 6.0, offset), 0.22), _WHITE, "paint", level=2, opacity=0.85, size=4)
            pen.fill(ribbon(line, 0.5), paint, "paint", level=2, opacity=0.9)
        else:
            pen.fill(strokes(dashes(line, 3.0, 4.0), 0.22), paint, "paint", level=2, opacity=0.85, size=4)
    return pen.item(category, ribbon(line, width), stage=GROUND, cover="pavement")


def track(line: FloatArray, width: float, palette: Palette, rng: np.random.Generator) -> Item:
    """A dirt track: two ruts with grass between, not labelled."""
    soil = shade(rng, palette.soil[0])
    pen = Pen()
    pen.fill(ribbon(line, width), soil, "soil", opacity=0.7)
    for share in (-0.28, 0.28):
        pen.fill(
            ribbon(line + share * width * sideways(line), width * 0.26), times(soil, 1.12), "soil", level=1, opacity=0.8
        )
    return pen.item("", ribbon(line, width), stage=GROUND, cover="bare soil")


def paved(
    length: float, width: float, palette: Palette, rng: np.random.Generator, *, category: str = "", slab: float = 0.0
) -> Item:
    """A paved rectangle round the origin; with ``slab`` concrete in slabs of so many metres, otherwise asphalt."""
    pen = Pen()
    outline = rectangle(length, width)
    if not slab:
        surface = shade(rng, palette.asphalt[rng.integers(2)])
        pen.fill(outline, surface, "asphalt")
        for _ in range(4):
            place = (rng.random(2) - 0.5) * (length, width)
            spot = wobbly(rng.uniform(0.5, 3.0), rng, count=8) + place
            pen.fill(spot, times(surface, rng.uniform(0.75, 1.12)), "asphalt", level=1, opacity=0.3)
        return pen.item(category, outline, stage=GROUND, cover="pavement")
    surface = shade(rng, palette.concrete[rng.integers(2)])
    pen.fill(outline, surface, "concrete")
    u, v = np.arange(-length / 2 + slab, length / 2, slab), np.arange(-width / 2 + slab, width / 2, slab)
    for _ in range(min(16, len(u) * len(v))):
        x, y = float(rng.choice(u)) - slab / 2, float(rng.choice(v)) - slab / 2
        pen.fill(rectangle(slab, slab, x, y), times(surface, rng.uniform(0.9, 1.06)), "concrete", level=1, opacity=0.7)
    for lines, across in ((np.stack([u, 0 * u], axis=1), True), (np.stack([0 * v, v], axis=1), False)):
        if len(lines):
            joints = rows(0.15, width, lines) if across else rows(length, 0.15, lines)
            pen.fill(joints, times(surface, 0.82), "concrete", level=2, opacity=0.5, size=4)
    return pen.item(category, outline, stage=GROUND, cover="pavement")


def runway(length: float, width: float, palette: Palette, rng: np.random.Generator) -> Item:
    """A runway along x round the origin: shoulders, edge lines, dashed middle, thresholds, rubber."""
    dark = rng.random() < 0.5
    surface = shade(rng, palette.asphalt[0] if dark else palette.concrete[1])
    pen = Pen()
    outline = rectangle(length, width)
    pen.fill(rectangle(length, width * 1.16), times(surface, 0.82), "asphalt", level=-1)
    pen.fill(outline, surface, "asphalt", level=1)
    for spread in (0.34, 0.18):
        pen.fill(rectangle(length * 0.96, width * spread), times(surface, 0.5), "asphalt", level=2, opacity=0.3)
    for side in (-1, 1):
        pen.fill(rectangle(length, width * 0.025, 0.0, side * width * 0.46), _WHITE, "paint", level=3)
        bars = np.array([[side * length * 0.475, y * width] for y in np.linspace(-0.36, 0.36, 8)])
        pen.fill(rows(30.0, width * 0.045, bars), _WHITE, "paint", level=3, size=4)
        aim = np.array([[side * length * 0.39, y * width] for y in (-0.22, 0.22)])
        pen.fill(rows(45.0, width * 0.09, aim), _WHITE, "paint", level=3, size=4)
    middle = np.arange(-length * 0.44, length * 0.44, 50.0)
    pen.fill(rows(30.0, width * 0.02, np.stack([middle, 0 * middle], axis=1)), _WHITE, "paint", level=3, size=4)
    return pen.item("runway", outline, stage=GROUND, cover="pavement", heading=0.0)


def taxiway(line: FloatArray, width: float, palette: Palette, rng: np.random.Generator) -> Item:
    """A taxiway with its yellow line along the middle."""
    surface = shade(rng, palette.concrete[1] if rng.random() < 0.5 else palette.asphalt[1])
    pen = Pen()
    pen.fill(ribbon(line, width * 1.2), times(surface, 0.85), "asphalt", level=-1)
    pen.fill(ribbon(line, width), surface, "asphalt", level=1)
    pen.fill(ribbon(line, 0.5), _YELLOW, "paint", level=2)
    return pen.item("taxiway", ribbon(line, width), stage=GROUND, cover="pavement")


def crossing(x: float, y: float, angle: float, width: float) -> Item:
    """A pedestrian crossing over a road ``width`` wide that runs along ``angle``; not labelled."""
    pen = Pen()
    at = np.arange(-width / 2 + 0.6, width / 2 - 0.3, 1.2)
    pen.fill(rows(2.8, 0.6, np.stack([0 * at, at], axis=1)), _WHITE, "paint", level=4, opacity=0.85, size=4)
    return pen.item("", rectangle(2.8, width), stage=GROUND, cover="pavement").moved(x, y, angle)


def field(outline: FloatArray, work: str, crop: str, angle: float, palette: Palette, rng: np.random.Generator) -> Item:
    """A field of a crop's colour worked in one of the ways of `WORKED`."""
    paint = shade(rng, palette.crops[crop], 0.12)
    period, contrast, wander, share = WORKED[work]
    pen = Pen()
    pen.fill(outline, paint, "soil" if crop == "brown" else "crop")
    if work in ("bales", "beds"):
        for _ in range(14 if work == "bales" else 5):
            s, t = rng.uniform(0.12, 0.88, 2)  # a place within the four corners
            x, y = (1 - t) * ((1 - s) * outline[0] + s * outline[1]) + t * ((1 - s) * outline[3] + s * outline[2])
            spot = disc(2.2, x, y, count=8) if work == "bales" else rectangle(18, 7, x, y)
            pen.fill(spot, times(paint, 1.25 if work == "bales" else 0.8), "crop", level=1, opacity=0.6)
    size = period * rng.uniform(0.8, 1.4)
    stripes = Stripes(angle, size, contrast * rng.uniform(0.7, 1.2), wander, share) if contrast else None
    cover = "bare soil" if crop == "brown" else "crop"
    return pen.item("field", outline, stage=GROUND, cover=cover, stripes=stripes, attributes={"colour": crop})


def pivot(radius: float, crop: str, palette: Palette, rng: np.random.Generator) -> Item:
    """A round field under a centre pivot, with the arm's tracks and a slice that is cut already."""
    paint = shade(rng, palette.crops[crop], 0.1)
    pen = Pen()
    outline = disc(radius, count=24)
    pen.fill(outline, paint, "crop")
    for ring in np.arange(0.2, 1.0, 0.16):
        pen.fill(
            disc(radius * (1.12 - ring), count=24),
            times(paint, rng.uniform(0.93, 1.07)),
            "crop",
            level=1 + int(ring * 10),
        )
    pen.fill(ribbon(np.array([[0.0, 0.0], [radius * 0.98, 0.0]]), 1.6), (206, 206, 202), "metal", level=20)
    return pen.item("field", outline, stage=GROUND, cover="crop", attributes={"colour": crop, "shape": "round"})


def river(line: FloatArray, widths: FloatArray, palette: Palette, rng: np.random.Generator) -> list[Item]:
    """A river along a polyline with one width a point, and the bank that it has laid bare (not labelled)."""
    bank, water = Pen(), Pen()
    shore = ribbon(line, widths * rng.uniform(1.12, 1.35) + 2.0)
    bank.fill(shore, shade(rng, palette.sand[1] if rng.random() < 0.4 else palette.soil[1]), "sand")
    bed, paint = ribbon(line, widths), shade(rng, palette.water[0], 0.1)
    water.fill(bed, paint, "water")
    water.fill(ribbon(line, widths * 0.6), shade(rng, palette.water[1], 0.1), "water", level=1, opacity=0.7)
    return [
        bank.item("", shore, stage=GROUND, cover="bare soil"),
        water.item("river", bed, stage=GROUND, cover="water"),
    ]


def stalls(lines: FloatArray, length: float, angle: float) -> Item:
    """The painted lines between parking stalls: middles [N, 2], each ``length`` long along ``angle``; not labelled."""
    pen = Pen()
    cos, sin = math.cos(angle), math.sin(angle)
    stroke = rectangle(length, 0.16) @ np.array([[cos, sin], [-sin, cos]])
    pen.fill((lines[:, None] + stroke[None]).reshape(-1, 2), _WHITE, "paint", level=2, opacity=0.75, size=4)
    low, high = lines.min(axis=0), lines.max(axis=0)
    return pen.item("", rectangle(*(high - low), *((low + high) / 2)), stage=GROUND)


WORKED: dict[str, tuple[float, float, float, float]] = {  # period in metres, contrast, wander in metres, dark share
    "rows": (3.2, 0.16, 0.6, 0.5),
    "plain": (9.0, 0.0, 0.0, 0.5),
    "tramlines": (18.0, 0.22, 0.5, 0.12),
    "strips": (26.0, 0.12, 0.0, 0.5),
    "waves": (7.0, 0.15, 14.0, 0.4),
    "bales": (12.0, 0.05, 1.0, 0.5),
    "beds": (5.0, 0.2, 0.2, 0.3),
}
