"""Courts and pitches seen from above, with the lines of their rules; length along x."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gmrt.georsmllm.scenes.item import GROUND, Item, Pen
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import disc, rectangle, sector

_LINE: Colour = (236, 236, 230)


def _lines(
    pen: Pen, strokes: list[tuple[float, float, float, float]], colour: Colour = _LINE, width: float = 0.18
) -> None:
    """Lines given as middle x, y and length along x, y (one of the two is zero)."""
    for x, y, along, across in strokes:
        pen.fill(rectangle(along + width, across + width, x, y), colour, "paint", level=2)


def _arc(radius: float, start: float, stop: float, x: float, y: float, width: float = 0.2) -> FloatArray:
    arc: FloatArray = sector(radius, start, stop, inner=radius - width, count=14) + np.array([x, y])
    return arc


def tennis_court(inside: Colour, rng: np.random.Generator, palette: Palette) -> Item:
    """A tennis court, 23.77 by 10.97 m between its lines."""
    paint = shade(rng, inside)
    pen = Pen()
    outline = rectangle(24.4, 11.6)
    pen.fill(outline, paint, "concrete", level=1)
    _lines(
        pen,
        [
            *((0.0, y, 23.77, 0.0) for y in (-5.485, 5.485, -4.115, 4.115)),
            *((x, 0.0, 0.0, 10.97) for x in (-11.885, 11.885)),
            *((x, 0.0, 0.0, 8.23) for x in (-6.4, 6.4)),
            (0.0, 0.0, 12.8, 0.0),
        ],
    )
    pen.fill(rectangle(0.25, 12.8), palette.paints["black"], "paint", level=3, opacity=0.8)
    return pen.item("tennis court", outline, stage=GROUND, cover="pavement", heading=0.0)


def basketball_court(inside: Colour, rng: np.random.Generator, palette: Palette) -> Item:
    """A basketball court, 28.65 by 15.24 m, with its keys and arcs."""
    paint = shade(rng, inside)
    key = shade(rng, palette.paints[("blue", "red", "green")[rng.integers(3)]])
    pen = Pen()
    outline = rectangle(29.2, 15.8)
    pen.fill(outline, paint, "concrete", level=1)
    for side in (-1, 1):
        pen.fill(rectangle(5.8, 4.9, side * 11.4), key, "concrete", level=1)
        arc = _arc(7.2, -1.35, 1.35, -14.3 + 1.6, 0.0)
        pen.fill(arc * np.array([-side, 1.0]), _LINE, "paint", level=2)
    pen.fill(_arc(1.8, 0.0, 2 * math.pi, 0.0, 0.0), _LINE, "paint", level=2)
    _lines(pen, [(0, -7.62, 28.65, 0), (0, 7.62, 28.65, 0), (-14.3, 0, 0, 15.2), (14.3, 0, 0, 15.2), (0, 0, 0, 15.2)])
    return pen.item("basketball court", outline, stage=GROUND, cover="pavement", heading=0.0)


def soccer_field(stripes: int, rng: np.random.Generator, palette: Palette) -> Item:
    """A soccer field, 100 by 64 m, mown in ``stripes``."""
    paint = shade(rng, (92, 132, 74), 0.08)
    pen = Pen()
    outline = rectangle(102.0, 66.0)
    pen.fill(outline, paint, "grass", level=0)
    for stripe in range(0, stripes, 2):
        x = (stripe + 0.5) / stripes * 102 - 51
        pen.fill(rectangle(102 / stripes, 66.0, x), times(paint, 1.12), "grass", level=1, opacity=0.9)
    for side in (-1, 1):
        pen.fill(_arc(9.15, -0.92, 0.92, -39.0, 0.0, 0.5) * np.array([-side, 1.0]), _LINE, "paint", level=2)
        worn = shade(rng, palette.soil[0])
        pen.fill(disc(3.4, side * 47.0, count=10), worn, "soil", level=1, opacity=0.45)
    pen.fill(_arc(9.15, 0.0, 2 * math.pi, 0.0, 0.0, 0.5), _LINE, "paint", level=2)
    boxes = [(s * x, y, along, across) for s in (-1, 1) for x, y, along, across in (
        (33.5, 0, 0, 40.3), (41.75, 20.15, 16.5, 0), (41.75, -20.15, 16.5, 0), (44.5, 0, 0, 18.3),
        (47.25, 9.15, 5.5, 0), (47.25, -9.15, 5.5, 0), (50, 0, 0, 64.0))]  # fmt: skip
    _lines(pen, [*boxes, (0, -32, 100, 0), (0, 32, 100, 0), (0, 0, 0, 64)], width=0.4)
    return pen.item("soccer field", outline, stage=GROUND, cover="grass", heading=0.0)


def baseball_diamond(mown: bool, rng: np.random.Generator, palette: Palette) -> Item:
    """A baseball diamond with its home plate at the origin: the outline is the playing field out to the fence."""
    dirt, grass = shade(rng, palette.soil[0]), shade(rng, (98, 130, 76), 0.08)
    reach = 75.0
    pen = Pen()
    outline = sector(reach, -math.pi / 4, math.pi / 4, count=10)
    pen.fill(outline, grass, "grass")
    if mown:
        for start in np.linspace(-math.pi / 4, math.pi / 4, 9)[:-1:2]:
            wedge = sector(reach, start, start + math.pi / 16, inner=30.0, count=3)
            pen.fill(wedge, times(grass, 1.1), "grass", level=1)
    pen.fill(sector(33.0, -math.pi / 4, math.pi / 4, count=9), dirt, "soil", level=1)
    pen.fill(rectangle(20.0, 20.0) @ np.array([[0.707, 0.707], [-0.707, 0.707]]) + [19.4, 0.0], grass, "grass", level=2)
    pen.fill(disc(3.0, 19.4, count=10), dirt, "soil", level=3)
    pen.fill(disc(4.4, 1.0, count=10), dirt, "soil", level=3)
    for side in (-1, 1):
        foul = np.array(
            [[0.0, 0.0], [0.707 * reach, side * 0.707 * reach], [0.707 * reach + 0.4, side * 0.707 * reach]]
        )
        pen.fill(foul, _LINE, "paint", level=3)
    return pen.item("baseball diamond", outline, stage=GROUND, cover="grass", heading=0.0)


TENNIS_COURTS = {
    "green court": partial(tennis_court, (64, 112, 88)),
    "red court": partial(tennis_court, (152, 82, 70)),
    "blue court": partial(tennis_court, (62, 98, 150)),
    "clay court": partial(tennis_court, (188, 116, 82)),
    "teal court": partial(tennis_court, (52, 128, 130)),
}
BASKETBALL_COURTS = {
    "grey floor": partial(basketball_court, (132, 130, 128)),
    "green floor": partial(basketball_court, (76, 118, 92)),
    "tan floor": partial(basketball_court, (182, 146, 108)),
}
SOCCER_FIELDS = {
    "plain": partial(soccer_field, 0),
    "wide stripes": partial(soccer_field, 9),
    "narrow stripes": partial(soccer_field, 17),
}
BASEBALL_DIAMONDS = {"plain": partial(baseball_diamond, False), "mown": partial(baseball_diamond, True)}
