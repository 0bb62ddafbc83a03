"""Housing: streets with houses on their lots, from dense to sparse."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import road
from gmrt.georsmllm.scenes.item import GROUND, Pen, flat
from gmrt.georsmllm.scenes.layouts.country import woods
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, Site
from gmrt.georsmllm.scenes.palettes import shade
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import rectangle

_ROOFS = (("grey", 3.0), ("brown", 2.0), ("red", 2.0), ("white", 1.2), ("blue", 0.6))
_CARS = (("white", 3.0), ("grey", 2.0), ("black", 2.0), ("red", 1.0), ("blue", 1.0), ("green", 0.3), ("yellow", 0.2))


def housing(site: Site) -> None:
    """Parallel streets, a cross street at times, and on every lot a house, a drive, a garden with what gardens have."""
    side, rng = site.side, site.rng
    density = site.choose("dense", "medium", "medium", "sparse")
    frontage = {"dense": rng.uniform(12, 16), "medium": rng.uniform(17, 23), "sparse": rng.uniform(26, 40)}[density]
    depth = {"dense": rng.uniform(19, 25), "medium": rng.uniform(26, 34), "sparse": rng.uniform(36, 48)}[density]
    site.ground = Ground("grass", "bare soil", rng.uniform(0.05, 0.55), rng.uniform(10, 30))
    street = rng.uniform(6.0, 9.0)
    roofs = _ROOFS if site.chance(0.7) else tuple((word, weight**2.5) for word, weight in _ROOFS)
    step = 2 * depth + street
    start = rng.uniform(-0.5, 0.5) * step
    lanes = [v for v in np.arange(start - 3 * step, side + step, step) if abs(v) < side * 0.75 + depth]
    for v in lanes:
        site.lay(road(site.line((-side, v), (side, v)), street, site.palette, rng), PAVED)
    if site.chance(0.4):
        u = rng.uniform(-0.35, 0.35) * side
        site.lay(road(site.line((u, -side), (u, side)), street, site.palette, rng), PAVED)
    site.uncounted.add("road")
    if site.chance(0.3):
        woods(site, 1)
    gardens, lots = Pen(), []
    for v in lanes:
        for face in (-1, 1):
            offset = rng.uniform(0, frontage)
            for u in np.arange(-side * 0.75 + offset, side * 0.75, frontage):
                if site.near(u, v + face * depth / 2, depth) and site.chance(0.93 if density == "dense" else 0.85):
                    _garden(site, gardens, u, v + face * (street + depth) / 2, frontage, depth)
                    lots.append((u, v + face * street / 2, face))
    site.lay(gardens.item("", rectangle(side, side) + side / 2, stage=GROUND))
    for u, v, face in lots:
        _lot(site, u, v, face, frontage, depth, roofs)
    for v in lanes:
        for u in np.arange(-side * 0.7, side * 0.7, 7.5):
            if site.near(u, v, 5.0) and site.chance(0.16):
                car = site.another("car", site.colour(*_CARS), rng.uniform(4.1, 4.9))
                keep = site.choose("left", "right") == "left"
                place = v + (street / 2 - 1.3) * (-1 if keep else 1)
                site.put(site.turned(car, u, place, math.pi * keep + rng.normal(0, 0.03)), (PAVED,))
    sizes = (3.0, 6.0) if density == "dense" else (4.0, 10.0)
    site.trees(int(rng.uniform(0.2, 0.8) * (side / 6) ** 2 * 0.45) + 6, sizes)
    site.facts.append(
        {
            "dense": "the houses stand close together",
            "medium": "the houses line the streets",
            "sparse": "the houses stand far apart",
        }[density]
    )


def _garden(site: Site, pen: Pen, u: float, v: float, frontage: float, depth: float) -> None:
    """A lawn in a tone of its own, fences or hedges along its sides, beds."""
    rng = site.rng
    lawn = shade(rng, site.palette.grass[rng.integers(2)] if site.chance(0.75) else site.palette.soil[0], 0.2)
    turn = np.array([[math.cos(site.turn), math.sin(site.turn)], [-math.sin(site.turn), math.cos(site.turn)]])
    pen.fill(rectangle(frontage, depth) @ turn + site.at(u, v), lawn, "grass", opacity=0.45)
    hedge = site.palette.canopy[0] if site.chance(0.4) else site.palette.concrete[1]
    for aside in (-frontage / 2, frontage / 2):
        pen.fill(rectangle(0.35, depth * 0.7, aside) @ turn + site.at(u, v), hedge, "leaf", level=1, opacity=0.8)
    for place in (rng.random((3, 2)) - 0.5) * (frontage, depth) * 0.8:
        bed = rectangle(*rng.uniform(0.8, 3.5, 2), *place) @ turn + site.at(u, v)
        pen.fill(bed, shade(rng, site.palette.soil[1], 0.2), "soil", level=1, opacity=0.5)


def _lot(
    site: Site, u: float, v: float, face: int, frontage: float, depth: float, roofs: tuple[tuple[str, float], ...]
) -> None:
    """A house set back from the street at v, a drive beside it, a pool or a shed behind."""
    rng = site.rng
    size = float(np.clip(frontage * rng.uniform(0.58, 0.78), 8.0, 19.0))
    house = site.another("house", site.colour(*roofs), size)
    deep = house.width
    back = depth * rng.uniform(0.24, 0.32) + deep / 2
    flip = math.pi * rng.integers(2)
    centre = u + rng.normal(0, frontage * 0.05)
    if not site.put(site.turned(house, centre, v + face * back, flip + rng.normal(0, 0.03))):
        return
    way = centre + (size / 2 + 1.6) * (1 if site.chance(0.5) else -1)
    if site.chance(0.7):
        long = back + deep * 0.1
        surface = site.palette.concrete[1] if site.chance(0.6) else site.palette.asphalt[0]
        drive = flat("", rectangle(2.8, long), shade(rng, surface), "concrete", cover="pavement")
        item = site.turned(drive, way, v + face * long / 2)
        if site.free(item, (LAND, PAVED)):
            site.lay(item, PAVED)
            if site.chance(0.5):
                car = site.another("car", site.colour(*_CARS), rng.uniform(4.1, 4.8))
                site.put(
                    site.turned(car, way, v + face * (long - 3.4), face * math.pi / 2 + rng.normal(0, 0.04)), (PAVED,)
                )
    behind = v + face * (back + deep / 2 + rng.uniform(4.0, 6.0))
    if site.chance(0.25):
        pool = site.draw("swimming pool", rng.uniform(6.0, 10.0))
        site.put(site.turned(pool, centre + rng.normal(0, 1.5), behind, rng.normal(0, 0.1)))
