"""Generated aerial scenes, so that a fresh clone has something to look at.

The kinds bear the names of UC Merced Land Use classes (Yang and Newsam 2010). Nothing in them is a real place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile

from gmrt.runtime.errors import SceneError
from gmrt.runtime.painter import (
    ASPHALT,
    CONCRETE,
    GRASS,
    GSD,
    SUN,
    WHITE,
    ByteArray,
    Colour,
    FloatArray,
    Painter,
    Shape,
    box,
    disc,
    line,
    tone,
)
from gmrt.runtime.raster import quiet

CRS = "EPSG:32611"
_ORIGIN = (500_000.0, 4_000_000.0)  # top-left corner: easting, northing
_SUFFIXES = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG"}


def write_sample(path: str | os.PathLike[str], *, seed: int = 0, size: int = 512, kind: str = "storagetanks") -> None:
    """Write a generated scene of ``size`` × ``size`` pixels of 0.3 m: ``.tif`` georeferenced in UTM, ``.png`` not.

    ``kind`` is one of `KINDS`; the same arguments give the same pixels. The file appears under its name only when it
    is complete. Raises `SceneError` when an argument or the path does not fit.
    """
    target = Path(path)
    driver = _SUFFIXES.get(target.suffix.lower())
    if driver is None:
        raise SceneError(f"{target}: a sample is written as .tif or .png: give the name one of these endings")
    if not target.parent.is_dir():
        raise SceneError(f"{target}: there is no folder {target.parent} to write into: make it first")
    if target.is_dir():
        raise SceneError(f"{target}: is a folder, and a file name is needed")
    pixels = render(kind, seed=seed, size=size)
    profile = {"driver": driver, "width": size, "height": size, "count": 3, "dtype": "uint8"}
    if driver == "GTiff":
        transform = Affine(GSD, 0, _ORIGIN[0], 0, -GSD, _ORIGIN[1])
        profile |= {"crs": CRS, "transform": transform, "photometric": "rgb", "compress": "deflate", "tiled": True}
    with quiet(), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(pixels.transpose(2, 0, 1))
            if driver == "GTiff":
                dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=f"generated scene, {kind}, seed {seed}: no real place")
        data = bytes(memory.getbuffer())
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SceneError(f"{target}: cannot be written ({error.strerror}): choose another place") from None


def render(kind: str = "storagetanks", *, seed: int = 0, size: int = 512) -> ByteArray:
    """Paint a scene as uint8 [size, size, 3].

    Raises `SceneError` for an unknown kind, a size that is not in 64…4096, or a negative seed.
    """
    if kind not in KINDS:
        raise SceneError(f"unknown kind of sample {kind!r}: choose one of {', '.join(KINDS)}")
    if not 64 <= size <= 4096:
        raise SceneError(f"a sample is 64 to 4096 pixels wide, got {size}")
    if seed < 0:
        raise SceneError(f"a seed is a whole number from 0 on, got {seed}")
    painter = Painter(size, np.random.default_rng(seed))
    KINDS[kind](painter)
    return painter.photograph()


def _storage_tanks(p: Painter) -> None:
    side = p.side
    p.ground((132, 124, 106), (92, 102, 72))
    p.paint(box(side * 0.5, side * 0.935, side * 2, side * 0.075), ASPHALT)
    p.paint(box(side * 0.5, side * 0.935, side * 2, 0.3), (196, 178, 92), 0.8)
    p.paint(box(side * 0.47, side * 0.44, side * 0.86, side * 0.8, corner=side * 0.02), (158, 152, 138), 0.6, soft=2.0)
    for across, along, width, height in ((0.47, 0.045, 0.86, 0.0), (0.47, 0.84, 0.86, 0.0), (0.04, 0.44, 0.0, 0.8)):
        wall = box(side * across, side * along, side * width + 0.6, side * height + 0.6)
        p.shadow(wall, 1.8)
        p.paint(wall, CONCRETE)
    for _ in range(12):  # oil and dust
        x, y = p.rng.uniform(0.08, 0.86, 2) * side
        shade: Colour = ((104, 98, 90), (172, 164, 146))[p.rng.integers(2)]
        p.paint(disc(x, y, side * p.rng.uniform(0.01, 0.05)), shade, 0.35, soft=side * 0.05)
    for along in (0.455, 0.465, 0.475):
        pipe = line(side * 0.05, side * along, side * 0.97, side * along, 0.5)
        p.shadow(pipe, 1.2, 0.6)
        p.paint(pipe, (188, 188, 184))
    for cx, cy in ((0.28, 0.25), (0.68, 0.26), (0.27, 0.66), (0.67, 0.67)):
        radius = side * p.rng.uniform(0.12, 0.145)
        x, y = side * (cx + p.rng.uniform(-0.015, 0.015)), side * (cy + p.rng.uniform(-0.015, 0.015))
        spur = line(x, y, x, side * 0.465, 0.5)
        p.shadow(spur, 1.2, 0.6)
        p.paint(spur, (188, 188, 184))
        _tank(p, x, y, radius)
    shed = box(side * 0.945, side * 0.3, side * 0.05, side * 0.12)
    p.shadow(shed, 5.0)
    p.paint(shed, (166, 158, 150))
    p.paint(box(side * 0.945, side * 0.3, side * 0.002, side * 0.12), (120, 114, 108))
    for _ in range(3):
        p.car(side * p.rng.uniform(0.05, 0.95), side * 0.955, math.pi)
        p.tree(side * p.rng.uniform(0.92, 0.99), side * p.rng.uniform(0.45, 0.86), p.rng.uniform(2.0, 4.0))


def _tank(p: Painter, x: float, y: float, radius: float) -> None:
    height = radius * 0.75
    base = disc(x, y, radius)
    p.paint(disc(x, y, radius * 1.12), (150, 142, 124), 0.7, soft=1.0)
    p.shadow(base, height, 0.85)
    # The camera stands a little to the south-east: the roof leans away from it and the wall shows.
    lean = 0.12 * height
    for step in np.linspace(0, 1, 8):
        p.paint(disc(x - lean * step * SUN[0], y - lean * step * SUN[1], radius), (186, 186, 182))
    x, y = x - lean * SUN[0], y - lean * SUN[1]
    tint = p.rng.uniform(0.93, 1.0)
    roof = (WHITE[0] * tint, WHITE[1] * tint, WHITE[2] * tint)
    p.paint(disc(x, y, radius), (206, 206, 202))
    p.paint(disc(x, y, radius * 0.975), roof)
    for angle in np.linspace(0, 2 * math.pi, 13)[:-1]:
        end = x + radius * 0.96 * math.cos(angle), y + radius * 0.96 * math.sin(angle)
        p.paint(line(x, y, *end, 0.25), (205, 204, 198), 0.5)
    for _ in range(6):  # weathering
        dx, dy = p.rng.uniform(-0.5, 0.5, 2) * radius
        p.paint(disc(x + dx, y + dy, radius * 0.2), (204, 198, 184), p.rng.uniform(0.1, 0.4), soft=radius * 0.4)
    p.shadow(disc(x, y, radius * 0.05), 1.5, 0.6)
    p.paint(disc(x, y, radius * 0.05), (190, 190, 188))
    angle = p.rng.uniform(0, 2 * math.pi)
    rim = x + radius * math.cos(angle), y + radius * math.sin(angle)
    p.paint(line(x + radius * 0.7 * math.cos(angle), y + radius * 0.7 * math.sin(angle), *rim, 0.8), (120, 120, 122))


def _beach(p: Painter) -> None:
    side = p.side
    offset = (p.metres[None, :] - side * 0.52) + (p.metres[:, None] - side * 0.5) * 0.25
    shore = offset + p.noise(side * 0.4, 4) * 3.0  # metres inland of the water's edge
    water = tone((58, 96, 96)) + np.clip(1 + shore / (side * 0.5), 0, 1)[:, :, None] * tone((26, 40, 30))
    water = water + (p.noise(9.0, 5) * 5)[:, :, None]
    sand = tone((206, 192, 168)) + (p.noise(12.0, 5) * 5)[:, :, None]
    wet = np.clip(1.2 - shore / 9.0, 0, 1)[:, :, None]
    sand = sand * (1 - wet) + tone((142, 124, 102)) * wet
    inland = np.clip(shore / GSD, 0, 1)[:, :, None]
    p.image = water * (1 - inland) + sand * inland
    torn = p.noise(5.0, 5)
    for centre, width, strength in ((-1.0, 3.2, 1.9), (-12.0, 4.5, 1.0), (-26.0, 5.0, 0.5), (-43.0, 4.0, 0.1)):
        band = np.exp(-(((shore - centre + p.noise(22.0, 3) * 2.0) / width) ** 2))
        foam = np.clip(band * (strength + torn) * 0.9, 0, 0.95)[:, :, None]
        p.image = p.image * (1 - foam) + tone((240, 242, 240)) * foam


def _parking_lot(p: Painter) -> None:
    p.ground((104, 103, 101), (88, 88, 88), cell=30.0)
    side = p.side
    p.paint(box(side * 0.5, side * 0.02, side * 2, side * 0.05), GRASS, soft=1.0)
    aisle, stall, depth = 7.0, 2.75, 5.4
    y = side * 0.06 + aisle
    while y + 2 * depth < side:
        for row, heading in ((y + depth / 2, math.pi / 2), (y + depth * 1.5, -math.pi / 2)):
            for slot in range(int(side // stall)):
                x = (slot + 0.5) * stall
                island = slot % 18 == 8
                p.paint(box(x - stall / 2, row, 0.15, depth), WHITE, 0.8)
                if island:
                    p.paint(box(x, row, stall, depth, corner=0.8), GRASS, 0.9)
                elif p.rng.random() < 0.84:
                    p.car(x + p.rng.normal(0, 0.12), row + p.rng.normal(0, 0.25), heading + p.rng.normal(0, 0.03))
        p.paint(box(side / 2, y + depth, side * 2, 0.15), WHITE, 0.8)
        for slot in range(8, int(side // stall), 18):
            p.tree((slot + 0.5) * stall, y + depth, 2.2)
        y += 2 * depth + aisle


def _tennis_court(p: Painter) -> None:
    p.ground((104, 122, 74), (84, 100, 64), cell=10.0)
    side = p.side
    angle = p.rng.uniform(-0.12, 0.12)
    columns, rows = max(1, int(side * 0.75 // 16.5)), 2 if side > 110 else 1
    cos, sin = math.cos(angle), math.sin(angle)
    width, height, x, y = columns * 16.5, rows * 37.0, side * 0.5, side * 0.5
    surround: Colour = ((152, 78, 70), (70, 116, 96))[p.rng.integers(2)]
    fence = box(x, y, width + 1.0, height + 1.0, angle)
    p.shadow(fence, 3.5, 0.5)
    p.paint(fence, (70, 74, 70))
    p.paint(box(x, y, width, height, angle), surround)
    for column in range(columns):
        for row in range(rows):
            across, along = (column - (columns - 1) / 2) * 16.5, (row - (rows - 1) / 2) * 37.0
            _court(p, x + across * cos - along * sin, y + across * sin + along * cos, angle)
    for _ in range(int(side)):
        tx, ty = p.rng.uniform(0, side, 2)
        if fence.distance(np.array([tx], np.float32), np.array([ty], np.float32)).item() > 7.0:
            p.tree(tx, ty, p.rng.uniform(2.5, 5.0))


def _court(p: Painter, x: float, y: float, angle: float) -> None:
    """A court of 10.97 by 23.77 m with the lines of the rules of tennis."""
    cos, sin = math.cos(angle), math.sin(angle)

    def mark(across: float, along: float, width: float, height: float, colour: Colour = WHITE) -> None:
        p.paint(box(x + across * cos - along * sin, y + across * sin + along * cos, width, height, angle), colour)

    mark(0, 0, 10.97, 23.77, (58, 92, 84))
    for across in (-5.485, 5.485, -4.115, 4.115):
        mark(across, 0, 0.3, 23.77)
    for along, width in ((-11.885, 10.97), (11.885, 10.97), (-6.4, 8.23), (6.4, 8.23)):
        mark(0, along, width, 0.3)
    mark(0, 0, 0.2, 12.8)
    p.shadow(box(x, y, 12.8, 0.2, angle), 1.1, 0.6)
    mark(0, 0, 12.8, 0.2, (206, 208, 204))


def _harbor(p: Painter) -> None:
    p.ground((34, 62, 62), (26, 50, 54), cell=25.0)
    side = p.side
    piers = max(1, round(side / 46.0))
    for pier in range(piers):
        x = side * (pier + 0.5) / piers
        p.shadow(box(x, side / 2, 2.4, side * 2), 1.5, 0.6)
        y = p.rng.uniform(0, 4.0)
        while y < side + 4:
            width = p.rng.uniform(3.4, 4.8)
            for direction in (-1, 1):
                length = width * p.rng.uniform(2.6, 3.2)
                if p.rng.random() < 0.9:
                    _boat(p, x + direction * (2.2 + length / 2), y, direction * length, width)
                finger = y + width / 2 + 0.75
                p.paint(line(x, finger, x + direction * 11.0, finger, 0.8), CONCRETE)
            y += width + 1.5
        p.paint(box(x, side / 2, 2.4, side * 2), CONCRETE)


def _boat(p: Painter, x: float, y: float, length: float, beam: float) -> None:
    """A motor boat with its bow towards positive x, or negative x when ``length`` is negative."""
    half, ahead = abs(length) / 2, math.copysign(1.0, length)

    def distance(px: FloatArray, py: FloatArray) -> FloatArray:
        along = (px - np.float32(x)) * np.float32(ahead) / np.float32(half)
        wide = np.float32(beam / 2) * np.sqrt(np.clip(1 - np.clip((along + 0.2) / 1.2, 0, 1) ** 2, 0, 1))
        hull: FloatArray = np.maximum(np.abs(py - np.float32(y)) - wide, (np.abs(along) - 1) * np.float32(half))
        return hull

    hull = Shape(x, y, half + beam, distance)
    p.shadow(hull, 3.0, 0.7)
    p.paint(hull, WHITE)
    cover: Colour = ((92, 82, 72), (40, 60, 118), (70, 74, 78), (206, 200, 188))[
        p.rng.choice(4, p=(0.3, 0.2, 0.2, 0.3))
    ]
    p.paint(box(x - ahead * half * 0.62, y, half * 0.55, beam * 0.72, corner=0.3), cover)
    cabin = box(x - ahead * half * 0.05, y, half * 0.6, beam * 0.6, corner=0.5)
    p.shadow(cabin, 1.8, 0.6)
    p.paint(cabin, (222, 222, 218))
    p.paint(box(x + ahead * half * 0.2, y, half * 0.14, beam * 0.5, corner=0.2), (44, 52, 62), 0.9)


KINDS: dict[str, Callable[[Painter], None]] = {
    "storagetanks": _storage_tanks,
    "beach": _beach,
    "parkinglot": _parking_lot,
    "tenniscourt": _tennis_court,
    "harbor": _harbor,
}
