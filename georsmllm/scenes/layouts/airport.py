"""Airports: aprons with parked airplanes, and runways with their taxiways."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import paved, runway, taxiway
from gmrt.georsmllm.scenes.item import GROUND, Pen
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, Site
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import bar, rectangle

_PLANES = (("white", 6.0), ("grey", 2.0), ("blue", 0.6), ("red", 0.6), ("yellow", 0.4))
_YELLOW = (206.0, 172.0, 74.0)
_TRUCKS = (("white", 3.0), ("yellow", 2.0), ("blue", 1.0), ("red", 0.6))


def apron(site: Site) -> None:
    """A paved apron with one or two rows of airplanes, a terminal or hangars along one side, service vehicles."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.0, 0.25), side * 0.4)
    depth = side * rng.uniform(0.6, 1.1)
    edge = -side * 0.72 + side * rng.uniform(0.1, 0.4)  # where the apron begins, across the site
    slab = site.rng.uniform(5.0, 9.0) if site.chance(0.75) else 0.0
    area = paved(side * 2.2, depth, site.palette, rng, category="apron", slab=slab)
    site.lay(site.turned(area, 0.0, edge + depth / 2), PAVED)
    site.uncounted.add("apron")
    if site.chance(0.55):
        length = min(side * rng.uniform(0.4, 0.9), 140.0)
        hall = site.draw("building", site.colour(("grey", 3), ("white", 3), ("blue", 1), ("brown", 1)), length)
        if site.put(site.turned(hall, rng.uniform(-0.3, 0.3) * side, edge + side * 0.12), (LAND, PAVED)):
            site.facts.append("a large building stands beside the apron")
    if site.chance(0.5):
        way = edge + depth * rng.uniform(0.7, 0.9)
        site.lay(taxiway(site.line((-side, way), (side, way)), rng.uniform(15, 23), site.palette, rng), PAVED)
        site.uncounted.add("taxiway")
    size = float(np.clip(side * rng.uniform(0.12, 0.38), 9.0, 68.0))
    facing = site.choose("in", "out", "any")
    spacing = size * rng.uniform(1.25, 1.8)
    for v in np.arange(edge + size * 0.7, edge + depth - size * 0.6, spacing):
        if site.chance(0.6):
            _row_of_planes(site, size, v, facing)
    for _ in range(12):
        if site.count("airplane"):
            break
        plane = site.draw("airplane", site.colour(*_PLANES), size)
        site.put(plane.moved(*site.spot(), rng.uniform(0, 2 * math.pi)), (PAVED,))
    for _ in range(int(rng.integers(0, 9))):
        truck = site.another("truck", site.colour(*_TRUCKS), rng.uniform(6, 10))
        site.put(site.turned(truck, *site.anywhere(0.6), math.pi / 2 * rng.integers(4)), (PAVED,))
    for _ in range(int(rng.integers(0, 12))):
        car = site.another("car", site.colour(*_TRUCKS, ("black", 1.0)), rng.uniform(4.2, 4.9))
        site.put(site.turned(car, *site.anywhere(0.6), math.pi / 2 * rng.integers(4)), (PAVED,))
    site.trees(int(rng.integers(0, 14)))


def _row_of_planes(site: Site, size: float, v: float, facing: str) -> None:
    rng, step = site.rng, size * site.rng.uniform(1.2, 1.5)
    mixed = site.chance(0.4)
    guides = Pen()
    for place in np.arange(-site.side * 0.75, site.side * 0.75, step):
        if site.chance(0.35) or not site.near(place, v, size):
            continue
        length = max(size * (rng.uniform(0.5, 1.0) if mixed else rng.uniform(0.93, 1.0)), 8.5)
        angle = {"in": -math.pi / 2, "out": math.pi / 2}.get(facing, rng.uniform(0, 2 * math.pi))
        guides.fill(bar(site.at(place, v - 0.7 * size), site.at(place, v + 0.7 * size), 0.3), _YELLOW, "paint")
        plane = site.draw("airplane", site.colour(*_PLANES), length)
        place_u = place + rng.normal(0, size * 0.05)
        site.put(site.turned(plane, place_u, v + rng.normal(0, size * 0.04), angle + rng.normal(0, 0.06)), (PAVED,))
    if facing != "any":
        aside = v + size * (0.7 if facing == "in" else -0.7)
        guides.fill(bar(site.at(-site.side, aside), site.at(site.side, aside), 0.3), _YELLOW, "paint")
        site.lay(guides.item("", rectangle(2 * site.side, 2 * site.side) + site.side / 2, stage=GROUND))


def runways(site: Site) -> None:
    """A runway, a taxiway beside it with links to it, airplanes on the way or at a small apron."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.0, 0.3), side * 0.3)
    width = float(np.clip(side * rng.uniform(0.07, 0.16), 23.0, 60.0))
    across = side * rng.uniform(-0.25, 0.05)
    along = side * (rng.uniform(-0.2, 0.2) if site.chance(0.6) else rng.choice([-0.85, 0.85]))
    apart, way = width * rng.uniform(1.6, 2.6), rng.uniform(14, 22)
    place = across + apart
    site.lay(taxiway(site.line((-side, place), (side, place)), way, site.palette, rng), PAVED)
    for link in rng.uniform(-0.6, 0.6, int(rng.integers(1, 3))) * side:
        slant = rng.uniform(-0.5, 0.5) * apart
        site.lay(taxiway(site.line((link, across), (link + slant, place)), way, site.palette, rng), PAVED)
    site.uncounted |= {"taxiway", "apron"}
    strip = runway(side * rng.uniform(1.7, 2.4), width, site.palette, rng)
    if site.lay(site.turned(strip, along, across), PAVED):
        site.facts.append("a taxiway runs beside the runway")
    size = float(np.clip(side * rng.uniform(0.06, 0.14), 10.0, 64.0))
    if site.chance(0.7):
        depth = size * rng.uniform(2.0, 3.4)
        start = place + way * 0.6 + depth / 2
        area = paved(side * rng.uniform(0.5, 1.4), depth, site.palette, rng, category="apron", slab=8.0)
        site.lay(site.turned(area, rng.uniform(-0.2, 0.2) * side, start), PAVED)
        _row_of_planes(site, size, start - depth * 0.1, site.choose("in", "out"))
        hall = site.draw("building", site.colour(("grey", 3), ("white", 3), ("blue", 1)), max(size * 1.2, 25.0))
        for u in np.arange(-0.5, 0.6, 0.28) * side:
            if site.chance(0.6):
                site.put(site.turned(hall, u, start + depth * 0.5 + hall.width / 2 + 6.0), (LAND,))
    for u in rng.uniform(-0.6, 0.6, int(rng.integers(0, 3))) * side:
        plane = site.draw("airplane", site.colour(*_PLANES), size)
        v, angle = (across, 0.0) if site.chance(0.4) else (place, math.pi * rng.integers(2))
        site.put(site.turned(plane, u, v, angle + rng.normal(0, 0.05)), (PAVED,), slack=0.25)
    site.trees(int(rng.integers(0, 20)), (6.0, 14.0))
