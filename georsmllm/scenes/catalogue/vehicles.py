"""Cars and trucks seen from above, front towards +x."""

from __future__ import annotations

import numpy as np

from gmrt.georsmllm.scenes.item import Item, Pen
from gmrt.georsmllm.scenes.materials import Colour
from gmrt.georsmllm.scenes.palettes import Palette, shade, times
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import rectangle, rounded, rows

_GLASS: Colour = (44, 50, 58)
_TYRE: Colour = (48, 48, 50)


def _body(pen: Pen, colour: Colour, length: float, width: float, corner: float) -> FloatArray:
    outline = rounded(length, width, corner)
    pen.fill(outline, colour, "metal")
    pen.cast(outline, 1.5)
    return outline


def _car(pen: Pen, outline: FloatArray, colour: str, height: float = 1.5) -> Item:
    return pen.item("car", outline, height=height, heading=0.0, attributes={"colour": colour})


def sedan(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """Bonnet, windscreen, roof, rear window, boot."""
    paint, width = shade(rng, palette.paints[colour]), size * 0.41
    pen = Pen()
    outline = _body(pen, paint, size, width, 0.5)
    pen.fill(rectangle(0.55, width * 0.8, size * 0.13), _GLASS, "glass", level=1, opacity=0.9)
    pen.fill(rectangle(0.45, width * 0.76, -size * 0.27), _GLASS, "glass", level=1, opacity=0.85)
    pen.fill(rectangle(size * 0.3, width * 0.8, -size * 0.06), times(paint, 1.1), "metal", level=1)
    return _car(pen, outline, colour)


def hatchback(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A short car with its roof to the back."""
    length = size * 0.88
    paint, width = shade(rng, palette.paints[colour]), length * 0.45
    pen = Pen()
    outline = _body(pen, paint, length, width, 0.6)
    pen.fill(rectangle(0.6, width * 0.84, length * 0.17), _GLASS, "glass", level=1, opacity=0.9)
    pen.fill(rectangle(0.25, width * 0.8, -length * 0.42), _GLASS, "glass", level=1, opacity=0.9)
    pen.fill(rectangle(length * 0.46, width * 0.82, -length * 0.13), times(paint, 1.06), "metal", level=1)
    return _car(pen, outline, colour)


def van(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A long box with a windscreen at the front."""
    length = size * 1.12
    paint, width = shade(rng, palette.paints[colour]), length * 0.39
    pen = Pen()
    outline = _body(pen, paint, length, width, 0.3)
    pen.fill(rectangle(0.6, width * 0.86, length * 0.33), _GLASS, "glass", level=1, opacity=0.9)
    pen.fill(
        rows(length * 0.6, 0.1, np.array([[-0.5, -0.3], [-0.5, 0.3]])), times(paint, 0.85), "metal", level=1, size=4
    )
    return _car(pen, outline, colour, 2.1)


def pickup(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A cab in the middle and an open bed behind."""
    length = size * 1.15
    paint, width = shade(rng, palette.paints[colour]), length * 0.38
    pen = Pen()
    outline = _body(pen, paint, length, width, 0.35)
    pen.fill(rectangle(length * 0.36, width * 0.78, -length * 0.29), times(paint, 0.45), "metal", level=1)
    pen.fill(rectangle(0.5, width * 0.8, length * 0.14), _GLASS, "glass", level=1, opacity=0.95)
    return _car(pen, outline, colour, 1.8)


def wagon(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A long roof with rails and a dark sunroof, glass on all sides."""
    length = size * 1.04
    paint, width = shade(rng, palette.paints[colour]), length * 0.42
    pen = Pen()
    outline = _body(pen, paint, length, width, 0.45)
    pen.fill(rounded(length * 0.64, width * 0.88, 0.3, -length * 0.12), _GLASS, "glass", level=1, opacity=0.85)
    pen.fill(rounded(length * 0.52, width * 0.72, 0.2, -length * 0.13), times(paint, 1.03), "metal", level=2)
    pen.fill(rectangle(0.8, width * 0.45, 0.0), times(_GLASS, 0.8), "glass", level=3, opacity=0.8)
    return _car(pen, outline, colour, 1.7)


def _truck(pen: Pen, outline: FloatArray, colour: str) -> Item:
    pen.cast(outline, 3.4)
    return pen.item("truck", outline, height=3.4, heading=0.0, attributes={"colour": colour})


def _cab(pen: Pen, length: float, width: float, paint: Colour) -> None:
    cab = min(2.4, length * 0.24)
    pen.fill(rounded(cab, width * 0.96, 0.25, length / 2 - cab / 2), paint, "metal", level=1)
    pen.fill(rectangle(cab * 0.25, width * 0.84, length / 2 - cab * 0.25), _GLASS, "glass", level=2, opacity=0.9)
    pen.fill(rectangle(0.35, width * 0.8, length / 2 - cab - 0.1), _TYRE, "metal", level=2, opacity=0.9)


def box_truck(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A cab and a plain box."""
    paint, width = shade(rng, palette.paints[colour]), 2.5
    pen = Pen()
    outline = rectangle(size, width)
    pen.fill(outline, paint, "metal")
    _cab(pen, size, width, shade(rng, palette.paints["white" if rng.random() < 0.5 else colour]))
    pen.fill(rectangle(size * 0.7, 0.12, -size * 0.12), times(paint, 0.88), "metal", level=1)
    return _truck(pen, outline, colour)


def tank_truck(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A cab and a round tank with hatches."""
    paint, width = shade(rng, palette.paints[colour]), 2.5
    pen = Pen()
    outline = rounded(size, width, 0.9)
    pen.fill(outline, times(paint, 0.86), "metal")
    pen.fill(rounded(size * 0.7, width * 0.45, 0.4, -size * 0.13), times(paint, 1.08), "metal", level=1)
    pen.fill(rows(0.5, 0.5, np.array([[-size * 0.3, 0.0], [-size * 0.1, 0.0]])), _TYRE, "metal", level=2, size=4)
    _cab(pen, size, width, shade(rng, palette.paints["white"]))
    return _truck(pen, outline, colour)


def flatbed(rng: np.random.Generator, palette: Palette, colour: str, size: float) -> Item:
    """A container with ribs on a low bed."""
    paint, width = shade(rng, palette.paints[colour]), 2.5
    pen = Pen()
    outline = rectangle(size, width)
    pen.fill(outline, paint, "metal")
    ribs = np.stack([np.linspace(-size * 0.46, size * 0.22, 9), np.zeros(9)], axis=1)
    pen.fill(rows(0.18, width, ribs), times(paint, 0.72), "metal", level=1, size=4)
    _cab(pen, size, width, shade(rng, palette.paints["grey"]))
    return _truck(pen, outline, colour)


CARS = {"sedan": sedan, "hatchback": hatchback, "van": van, "pickup": pickup, "wagon": wagon}
TRUCKS = {"box truck": box_truck, "tank truck": tank_truck, "flatbed": flatbed}
