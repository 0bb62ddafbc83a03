"""Ships and boats seen from above, bow towards +x, and the piers that they lie at."""

from __future__ import annotations

import numpy as np

from gmrt.georsmllm.scenes.item import Item, Pen
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import bar, disc, ellipse, mirrored, rectangle, rounded, rows

_DECK: Colour = (150, 112, 88)
_TEAK: Colour = (172, 142, 106)
_DARK: Colour = (46, 50, 56)


def _hull(length: float, beam: float, *, bow: float = 0.22, stern: float = 0.85) -> FloatArray:
    """A hull: pointed over the foremost ``bow`` of its length, ``stern`` of its beam wide at the end."""
    a, b = length / 2, beam / 2
    return mirrored(
        [
            (a, 0.0),
            (a - length * bow * 0.3, b * 0.5),
            (a - length * bow * 0.65, b * 0.85),
            (a - length * bow, b),
            (-a + length * 0.08, b),
            (-a, b * stern),
        ]
    )


def _ship(pen: Pen, hull: FloatArray, colour: str, height: float) -> Item:
    pen.cast(hull, height)
    return pen.item("ship", hull, height=height, heading=0.0, attributes={"colour": colour})


def _bridge(pen: Pen, at: float, depth: float, beam: float, level: int = 3) -> None:
    """The white superstructure with its wings, funnel and shadow on deck."""
    pen.fill(rectangle(depth * 0.5, beam * 0.9, at + depth * 0.6), _DARK, "metal", level=level - 1, opacity=0.6)
    pen.fill(rectangle(depth, beam * 0.82, at), (228, 228, 222), "wall", level=level)
    pen.fill(rectangle(depth * 0.3, beam * 0.98, at + depth * 0.3), (206, 206, 202), "wall", level=level)
    pen.fill(rectangle(depth * 0.35, beam * 0.3, at - depth * 0.25), (92, 70, 64), "metal", level=level + 1)


def bulk_carrier(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A row of hatches along the deck, the bridge aft."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.16
    hull = _hull(size, beam, bow=0.14)
    pen = Pen()
    pen.fill(hull, times(paint, 0.8), "metal")
    pen.fill(hull * np.array([0.985, 0.86]), paint, "metal", level=1)
    count = int(rng.integers(4, 8))
    along = np.linspace(-size * 0.24, size * 0.33, count)
    hatch = size * 0.57 / count * 0.68
    places = np.stack([along, np.zeros(count)], axis=1)
    pen.fill(
        rows(hatch, beam * 0.6, places + np.array([-hatch * 0.06, beam * 0.04])),
        _DARK,
        "metal",
        level=2,
        size=4,
        opacity=0.6,
    )
    pen.fill(rows(hatch, beam * 0.6, places), shade(rng, (168, 150, 128)), "metal", level=3, size=4)
    _bridge(pen, -size * 0.38, size * 0.07, beam)
    return _ship(pen, hull, colour, size * 0.05)


def container_ship(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """Stacks of boxes in many colours, the bridge two thirds aft."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.15
    hull = _hull(size, beam, bow=0.16)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    words = list(palette.paints.values())
    for along in np.linspace(-size * 0.44, size * 0.34, 11):
        if abs(along + size * 0.2) < size * 0.05:
            continue
        for across in (-0.3, 0.0, 0.3):
            colour_here = shade(rng, words[rng.integers(len(words))], 0.1)
            pen.fill(rectangle(size * 0.062, beam * 0.28, along, across * beam), colour_here, "metal", level=1)
    _bridge(pen, -size * 0.2, size * 0.04, beam)
    return _ship(pen, hull, colour, size * 0.07)


def tanker(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A flat deck in the ship's colour with pipes along the middle and a manifold across."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.17
    hull = _hull(size, beam, bow=0.13)
    pen = Pen()
    pen.fill(hull, times(paint, 0.7), "metal")
    pen.fill(hull * np.array([0.98, 0.88]), paint, "metal", level=1)
    for across in (-0.06, 0.0, 0.06):
        pen.fill(
            bar((-size * 0.3, across * beam), (size * 0.4, across * beam), beam * 0.025),
            (196, 190, 178),
            "metal",
            level=2,
        )
    pen.fill(rectangle(size * 0.012, beam * 0.7, size * 0.04), (196, 190, 178), "metal", level=2)
    pen.fill(rectangle(size * 0.012, beam * 0.7, size * 0.07), (186, 180, 168), "metal", level=2)
    _bridge(pen, -size * 0.4, size * 0.075, beam)
    return _ship(pen, hull, colour, size * 0.04)


def ferry(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A blunt hull under one long white house with boats along its sides."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.2
    hull = _hull(size, beam, bow=0.18, stern=0.95)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    pen.fill(rounded(size * 0.78, beam * 0.84, beam * 0.2, -size * 0.04), (232, 232, 228), "metal", level=1)
    lifeboats = np.array([[x, y] for x in (-0.2, -0.05, 0.1) for y in (-0.36, 0.36)]) * [size, beam]
    pen.fill(rows(size * 0.07, beam * 0.09, lifeboats), (206, 104, 42), "metal", level=2, size=4)
    pen.fill(rectangle(size * 0.04, beam * 0.9, size * 0.26), (192, 194, 196), "wall", level=2)
    pen.fill(disc(beam * 0.12, -size * 0.15, count=8), (70, 74, 82), "metal", level=3)
    return _ship(pen, hull, colour, size * 0.08)


def cargo_ship(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A working ship: two long holds, a crane between them, the bridge forward of the stern."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.19
    hull = _hull(size, beam, bow=0.2, stern=0.7)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    for at, length in ((-0.02, 0.2), (0.24, 0.18)):
        pen.fill(rectangle(size * length, beam * 0.66, size * at), _DECK, "metal", level=1)
        pen.fill(rectangle(size * length, beam * 0.04, size * at), times(_DECK, 0.7), "metal", level=2)
    reach = beam * 0.55 * (1 if rng.random() < 0.5 else -1)
    pen.fill(bar((size * 0.11, 0.0), (size * 0.24, reach), beam * 0.07), (214, 186, 70), "metal", level=3)
    pen.fill(disc(beam * 0.14, size * 0.11, count=8), (204, 176, 66), "metal", level=4)
    _bridge(pen, -size * 0.27, size * 0.1, beam)
    return _ship(pen, hull, colour, size * 0.06)


def _boat(pen: Pen, hull: FloatArray, colour: str, height: float = 2.0) -> Item:
    pen.cast(hull, height)
    return pen.item("boat", hull, height=height, heading=0.0, attributes={"colour": colour})


def motor_boat(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """Foredeck, windscreen, cabin, open cockpit."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.32
    hull = _hull(size, beam, bow=0.5)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    pen.fill(rectangle(size * 0.24, beam * 0.76, -size * 0.34), shade(rng, _TEAK), "soil", level=1)
    pen.fill(rounded(size * 0.34, beam * 0.66, beam * 0.15, -size * 0.04), times(paint, 0.93), "metal", level=1)
    pen.fill(rectangle(size * 0.07, beam * 0.56, size * 0.1), _DARK, "glass", level=2, opacity=0.85)
    return _boat(pen, hull, colour)


def sailing_boat(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A slim hull with the boom and its cover along the middle, and a mast that throws a thin shadow."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.27
    hull = mirrored(
        [
            (size * x, beam * y)
            for x, y in ((0.5, 0), (0.36, 0.24), (0.15, 0.45), (-0.1, 0.5), (-0.35, 0.42), (-0.5, 0.25))
        ]
    )
    pen = Pen()
    pen.fill(hull, paint, "metal")
    pen.fill(ellipse(size * 0.2, beam * 0.26, size * 0.06, count=10), times(paint, 0.9), "metal", level=1)
    pen.fill(bar((size * 0.08, 0.0), (-size * 0.36, 0.0), beam * 0.14), (60, 78, 122), "metal", level=2)
    pen.fill(rectangle(size * 0.16, beam * 0.4, -size * 0.33), _TEAK, "soil", level=1)
    pen.cast(disc(0.12, size * 0.08, count=6), size * 1.1)
    return _boat(pen, hull, colour, 1.5)


def open_boat(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A bright rim round a dark inside with thwarts across."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.36
    hull = _hull(size, beam, bow=0.4, stern=0.9)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    pen.fill(hull * np.array([0.84, 0.7]) - [size * 0.03, 0.0], (96, 92, 88), "soil", level=1)
    pen.fill(
        rows(size * 0.06, beam * 0.72, np.array([[-0.2, 0.0], [0.08, 0.0]]) * size), paint, "metal", level=2, size=4
    )
    return _boat(pen, hull, colour, 1.0)


def catamaran(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """Two slim hulls joined by a deck, netting at the front."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.5
    outline = mirrored(
        [
            (size * x, beam * y)
            for x, y in ((0.28, 0.0), (0.3, 0.26), (0.5, 0.38), (0.3, 0.5), (-0.5, 0.5), (-0.48, 0.0))
        ]
    )
    pen = Pen()
    pen.fill(outline, paint, "metal")
    pen.fill(rectangle(size * 0.2, beam * 0.5, size * 0.18), (70, 84, 92), "water", level=1, opacity=0.8)
    pen.fill(rounded(size * 0.36, beam * 0.7, beam * 0.2, -size * 0.12), times(paint, 0.9), "metal", level=1)
    pen.fill(rectangle(size * 0.06, beam * 0.52, size * 0.03), _DARK, "glass", level=2, opacity=0.8)
    return _boat(pen, outline, colour, 2.5)


def canopy_boat(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A broad boat, most of it under a canopy in two tones."""
    paint, beam = shade(rng, palette.paints[colour]), size * 0.34
    hull = _hull(size, beam, bow=0.3, stern=0.98)
    pen = Pen()
    pen.fill(hull, paint, "metal")
    cover = ((58, 76, 116), (112, 98, 80), (196, 190, 176))[rng.integers(3)]
    pen.fill(rectangle(size * 0.3, beam * 0.8, -size * 0.22), cover, "roof", level=1, tilt=(0.0, -0.3))
    pen.fill(rectangle(size * 0.3, beam * 0.4, -size * 0.22, beam * 0.2), cover, "roof", level=2, tilt=(0.0, 0.3))
    pen.fill(ellipse(size * 0.1, beam * 0.24, size * 0.22, count=8), times(paint, 0.84), "metal", level=1)
    return _boat(pen, hull, colour, 2.4)


def _pier(pen: Pen, length: float, width: float) -> Item:
    outline = rectangle(length, width)
    pen.cast(outline, 1.2)
    return pen.item("pier", outline, cover="pavement", height=1.2, heading=0.0)


def concrete_pier(rng: np.random.Generator, palette: Palette, length: float, width: float) -> Item:
    """A pale deck with joints."""
    paint = shade(rng, palette.concrete[0])
    pen = Pen()
    pen.fill(rectangle(length, width), paint, "concrete")
    joints = np.arange(-length / 2 + 3, length / 2, 6.0)
    places = np.stack([joints, np.zeros(len(joints))], axis=1)
    pen.fill(rows(0.25, width, places), times(paint, 0.75), "concrete", level=1, size=4)
    return _pier(pen, length, width)


def timber_pier(rng: np.random.Generator, palette: Palette, length: float, width: float) -> Item:
    """Planks on piles; the heads of the piles stand along both sides."""
    paint = shade(rng, times(palette.soil[1], 1.05))
    pen = Pen()
    pen.fill(rectangle(length, width), paint, "soil")
    planks = np.arange(-length / 2 + 0.6, length / 2, 1.2)
    pen.fill(rows(0.35, width, np.stack([planks, 0 * planks], axis=1)), times(paint, 0.82), "soil", level=1, size=4)
    piles = np.arange(-length / 2 + 2, length / 2, 7.0)
    for side in (-1, 1):
        heads = np.stack([piles, np.full(len(piles), side * width * 0.45)], axis=1)
        pen.fill(rows(0.7, 0.7, heads), times(paint, 0.5), "soil", level=2, size=4)
    return _pier(pen, length, width)


SHIPS = {
    "bulk carrier": bulk_carrier,
    "container ship": container_ship,
    "tanker": tanker,
    "ferry": ferry,
    "cargo ship": cargo_ship,
}
BOATS = {
    "motor boat": motor_boat,
    "sailing boat": sailing_boat,
    "open boat": open_boat,
    "catamaran": catamaran,
    "canopy boat": canopy_boat,
}
PIERS = {"concrete pier": concrete_pier, "timber pier": timber_pier}
