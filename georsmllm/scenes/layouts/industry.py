"""Industry: tank farms, solar parks, halls and yards."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import paved, road
from gmrt.georsmllm.scenes.catalogue.works import containers
from gmrt.georsmllm.scenes.item import Pen, flat
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, TAKEN, Site
from gmrt.georsmllm.scenes.palettes import shade, times
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import bar, rectangle, turned

_TANKS = (("white", 5.0), ("grey", 3.0), ("green", 1.0), ("red", 0.7), ("blue", 0.7), ("yellow", 0.5))
_ROOFS = (("grey", 3.0), ("white", 3.0), ("blue", 1.0), ("brown", 1.0), ("red", 0.8))
_TRUCKS = (("white", 4.0), ("red", 1.0), ("blue", 1.0), ("yellow", 0.7), ("grey", 1.0))


def tank_farm(site: Site) -> None:
    """Tanks in rows, each or several within a bund, pipes between them, a road along one side, a shed or two."""
    side, rng = site.side, site.rng
    site.ground = Ground(site.choose("bare soil", "bare soil", "grass"), "grass", rng.uniform(0.1, 0.5), side * 0.2)
    if site.chance(0.7):
        v = side * rng.uniform(0.3, 0.45) * (1 if site.chance(0.5) else -1)
        site.lay(road(site.line((-side, v), (side, v)), rng.uniform(6, 10), site.palette, rng), PAVED)
        site.facts.append("a road runs beside the tanks")
        for u in rng.uniform(-0.6, 0.6, int(rng.integers(0, 5))) * side:
            truck = site.another("truck", site.colour(*_TRUCKS), rng.uniform(9, 14))
            site.put(site.turned(truck, u, v, math.pi * rng.integers(2)), (PAVED,))
    site.uncounted.add("road")
    size = float(np.clip(side * rng.uniform(0.1, 0.36), 7.0, 75.0))
    gap = size * rng.uniform(1.35, 1.75)
    words = [site.colour(*_TANKS) for _ in range(2)]
    shift = rng.uniform(-0.5, 0.5, 2) * gap
    bund = site.chance(0.6)
    standing: list[tuple[float, float]] = []
    for v in np.arange(-side * 0.75, side * 0.75, gap) + shift[1]:
        scale = 1.0 if site.chance(0.6) else rng.uniform(0.45, 0.75)
        for u in np.arange(-side * 0.75, side * 0.75, gap) + shift[0]:
            if site.chance(0.18) or not site.near(u, v, size):
                continue
            tank = site.draw("storage tank", words[rng.integers(2)], max(size * scale * rng.uniform(0.95, 1.0), 4.0))
            if site.put(site.turned(tank, u, v, rng.uniform(0, 2 * math.pi))):
                standing.append((u, v))
    if bund:
        _bunds(site, standing, gap)
    for u, v in standing:
        if site.chance(0.7):
            _pipe(site, u, v, gap, size)
    for _ in range(int(rng.integers(0, 4))):
        shed = site.draw("building", site.colour(*_ROOFS), rng.uniform(10, 24))
        site.put(site.turned(shed, *site.anywhere(0.6), math.pi / 2 * rng.integers(2)))
    site.trees(int(rng.integers(0, 16)))


def _bunds(site: Site, places: list[tuple[float, float]], gap: float) -> None:
    """A low wall round each tank, and the floor inside it."""
    paint = times(site.palette.concrete[0], 1.05)
    bed = site.palette.concrete[1] if site.chance(0.4) else site.palette.soil[1]
    walls = [
        site.turned(flat("", rectangle(gap * 0.96, gap * 0.96), paint, "concrete", cover="pavement"), *at)
        for at in places
    ]
    kept = [wall for wall in walls if site.free(wall, (LAND, TAKEN))]
    for wall in kept:
        site.lay(wall)
    for wall in kept:
        floor = flat("", rectangle(gap * 0.93, gap * 0.93), shade(site.rng, bed), "soil", cover="bare soil")
        site.lay(floor.moved(wall.x, wall.y, wall.angle))


def _pipe(site: Site, u: float, v: float, gap: float, size: float) -> None:
    pen = Pen()
    for offset in (-0.03, 0.03):
        start, stop = site.at(u + size * 0.45, v + offset * size), site.at(u + gap * 0.9, v + offset * size)
        pen.fill(bar(start, stop, 0.5), (188, 186, 180), "metal")
    outline = turned(rectangle(gap * 0.5, 1.0), site.turn) + site.at(u + gap * 0.6, v)
    pen.cast(outline, 0.6)
    site.put(pen.item("", outline), (LAND, PAVED), slack=0.4, claim=False)


def solar_park(site: Site) -> None:
    """Blocks of panel rows behind lanes, an inverter hut here and there."""
    side, rng = site.side, site.rng
    site.ground = Ground(
        site.choose("grass", "bare soil"), site.choose("bare soil", "grass"), rng.uniform(0.1, 0.4), side * 0.2
    )
    width = max(rng.uniform(3.5, 6.5), 3.2 * site.gsd)
    pitch = width * rng.uniform(1.7, 2.8)
    length = side * rng.uniform(0.22, 0.6)
    lane = rng.uniform(6.0, 10.0)
    rows_ = int(rng.integers(4, 10))
    v = -side * 0.75 + rng.uniform(0, pitch)
    while v < side * 0.75:
        shift = rng.uniform(0, length)
        for _ in range(rows_):
            for u in np.arange(-side * 0.9 + shift, side * 0.9, length + lane):
                if site.near(u, v, length) and site.chance(0.93):
                    site.put(site.turned(site.another("solar panel", length, width), u, v))
            v += pitch
        hut = site.draw("building", site.colour(("white", 1), ("grey", 1)), max(8.0, 9 * site.gsd))
        site.put(site.turned(hut, rng.uniform(-0.4, 0.4) * side, v + lane * 0.2))
        v += lane + pitch * 0.5
    site.facts.append("the panels stand in parallel rows")
    site.trees(int(rng.integers(0, 12)))


def industrial(site: Site) -> None:
    """Large halls along roads, yards with trucks and containers, cars at the side."""
    side, rng = site.side, site.rng
    site.ground = Ground(site.choose("grass", "bare soil", "pavement"), "bare soil", rng.uniform(0.1, 0.4), side * 0.2)
    v = rng.uniform(-0.15, 0.15) * side
    width = rng.uniform(8, 13)
    site.lay(road(site.line((-side, v), (side, v)), width, site.palette, rng), PAVED)
    site.uncounted.add("road")
    size = float(np.clip(side * rng.uniform(0.22, 0.5), 18.0, 130.0))
    for face in (-1, 1):
        u = -side * 0.75
        while u < side * 0.75:
            length = size * rng.uniform(0.5, 1.0)
            hall = site.draw("building", site.colour(*_ROOFS), length)
            deep = hall.width
            set_back = rng.uniform(10, 22)
            slab = 0.0 if site.chance(0.6) else 10.0
            yard = paved(length + 10, deep + set_back + 14, site.palette, rng, slab=slab)
            site.lay(site.turned(yard, u + length / 2, v + face * (width + deep + set_back + 14) / 2), PAVED)
            site.put(site.turned(hall, u + length / 2, v + face * (width / 2 + set_back + deep / 2)), (PAVED, LAND))
            _yard(site, u, v + face * (width / 2 + set_back * 0.5), length, face)
            u += length + rng.uniform(12, 26)
    for u in rng.uniform(-0.6, 0.6, int(rng.integers(0, 6))) * side:
        truck = site.another("truck", site.colour(*_TRUCKS), rng.uniform(8, 14))
        site.put(site.turned(truck, u, v + width * 0.25, 0.0), (PAVED,))
    site.facts.append("a road runs between the buildings")
    site.trees(int(rng.integers(2, 26)))


def _yard(site: Site, u: float, v: float, length: float, face: int) -> None:
    """What stands in front of a hall: trucks at its doors, cars in a row, a stack of containers."""
    rng = site.rng
    what = site.choose("trucks", "cars", "containers", "nothing")
    if what == "trucks":
        for at in np.arange(u + 4, u + length - 4, 4.6):
            if site.chance(0.4):
                truck = site.another("truck", site.colour(*_TRUCKS), rng.uniform(8, 13))
                site.put(site.turned(truck, at, v, face * math.pi / 2), (PAVED,))
    elif what == "cars":
        for at in np.arange(u + 3, u + length - 3, 2.9):
            if site.chance(0.6):
                car = site.another("car", site.colour(*_TRUCKS, ("black", 2.0)), rng.uniform(4.2, 4.8))
                site.put(site.turned(car, at, v, face * math.pi / 2), (PAVED,))
    elif what == "containers":
        block = containers(rng, site.palette, 1, int(rng.integers(2, 6)))
        site.put(site.turned(block, u + length / 2, v), (PAVED,))
