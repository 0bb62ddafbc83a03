"""Streets: intersections with their traffic, and parking lots."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import crossing, paved, road, stalls
from gmrt.georsmllm.scenes.item import flat
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, Site
from gmrt.georsmllm.scenes.palettes import shade
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import disc, rectangle, turned

_CARS = (("white", 3.0), ("grey", 2.2), ("black", 2.0), ("red", 1.2), ("blue", 1.0), ("green", 0.4), ("yellow", 0.4))
_ROOFS = (("grey", 3.0), ("white", 2.0), ("brown", 1.5), ("red", 1.5), ("blue", 0.5))


def intersection(site: Site) -> None:
    """Two roads that cross (or a T, or a roundabout), traffic in its lanes, houses or halls at the corners."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.05, 0.4), side * 0.2)
    wide, narrow = rng.uniform(9.0, 18.0), rng.uniform(7.0, 13.0)
    u, v = site.anywhere(0.18)
    form = site.choose("cross", "cross", "T", "roundabout")
    end = v if form == "T" else side
    site.lay(road(site.line((-side, v), (side, v)), wide, site.palette, rng), PAVED)
    site.lay(road(site.line((u, -side), (u, end)), narrow, site.palette, rng), PAVED)
    box = turned(rectangle(narrow + 1, wide - 0.4), site.turn) + site.at(u, v)
    tar = shade(rng, site.palette.asphalt[0])
    site.lay(flat("", box, tar, "asphalt", cover="pavement"))
    radius = wide * rng.uniform(1.0, 1.4)
    if form == "roundabout":
        ring, island = disc(radius, *site.at(u, v), count=28), disc(radius * 0.45, *site.at(u, v), count=20)
        site.lay(flat("", ring, tar, "asphalt", cover="pavement"), PAVED)
        site.lay(flat("", island, shade(rng, site.palette.grass[0]), "grass", cover="grass"), LAND)
        site.facts.append("the roads meet at a roundabout")
    else:
        site.facts.append("one road ends at the other" if form == "T" else "two roads cross")
        _crossings(site, u, v, wide, narrow, form)
    site.uncounted.add("road")
    _traffic(site, u, v, wide, narrow, radius if form == "roundabout" else wide * 0.7)
    for _ in range(20):
        if site.chance(0.15):
            item = site.draw("building", site.colour(*_ROOFS), rng.uniform(20, 40))
        else:
            item = site.another("house", site.colour(*_ROOFS), rng.uniform(10, 16))
        place = site.anywhere(0.6)
        quarter = math.pi / 2 * rng.integers(2)
        if min(abs(place[1] - v) - wide / 2, abs(place[0] - u) - narrow / 2) > 9.0:
            site.put(site.turned(item, *place, quarter))
    site.trees(int(rng.integers(4, 40)), (4.0, 9.0))


def _crossings(site: Site, u: float, v: float, wide: float, narrow: float, form: str) -> None:
    if not site.chance(0.6):
        return
    for sign in (-1, 1):
        site.lay(crossing(*site.at(u + sign * (narrow / 2 + 2.4), v), site.turn, wide - 1))
        if form == "cross" or sign < 0:
            site.lay(crossing(*site.at(u, v + sign * (wide / 2 + 2.4)), site.turn + math.pi / 2, narrow - 1))
    site.facts.append("pedestrian crossings are marked on the road")


def _traffic(site: Site, u: float, v: float, wide: float, narrow: float, clear: float) -> None:
    """Vehicles on the right-hand lanes of both roads, none in the middle of the crossing."""
    rng, side = site.rng, site.side
    busy = rng.uniform(0.08, 0.5)
    for along in np.arange(-side * 0.75, side * 0.75, 8.0):
        for sign in (-1, 1):
            for lane in (0.25,) if wide < 12 else (0.14, 0.37):
                if site.chance(busy) and abs(along - u) > clear + 4:
                    _vehicle(site, along + rng.normal(0, 1.0), v + sign * lane * wide, 0.0 if sign > 0 else math.pi)
            if site.chance(busy) and abs(along - v) > clear + 4:
                angle = -math.pi / 2 if sign > 0 else math.pi / 2
                _vehicle(site, u + sign * 0.25 * narrow, along + rng.normal(0, 1.0), angle)


def _vehicle(site: Site, u: float, v: float, angle: float) -> None:
    if not site.near(u, v, 10.0):
        return
    if site.chance(0.12):
        item = site.another("truck", site.colour(*_CARS), site.rng.uniform(7, 13))
    else:
        item = site.another("car", site.colour(*_CARS), site.rng.uniform(4.1, 4.9))
    site.put(site.turned(item, u, v, angle + site.rng.normal(0, 0.03)), (PAVED,))


def parking(site: Site) -> None:
    """Rows of stalls along aisles, some taken, with islands of trees, a hall beside it at times."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.0, 0.3), side * 0.2)
    low = -side * rng.uniform(0.4, 0.9)
    lot = paved(side * 2, side * 0.9 - low, site.palette, rng, slab=0.0 if site.chance(0.6) else 9.0)
    site.lay(site.turned(lot, 0.0, (side * 0.9 + low) / 2), PAVED)
    full = rng.uniform(0.08, 0.95)
    stall, depth, aisle = rng.uniform(2.5, 2.9), rng.uniform(5.0, 5.6), rng.uniform(6.0, 8.0)
    slant = rng.uniform(-0.35, 0.35) if site.chance(0.3) else 0.0
    stall /= math.cos(slant)
    hall_at = low + rng.uniform(0.15, 0.35) * side
    first = low + aisle / 2
    if site.chance(0.35):
        hall = site.draw("building", site.colour(*_ROOFS), side * rng.uniform(0.5, 0.9))
        if site.put(site.turned(hall, rng.uniform(-0.2, 0.2) * side, hall_at), (LAND, PAVED)):
            first = hall_at + hall.width / 2 + aisle
            site.facts.append("a large building stands beside the parking lot")
    marks: list[tuple[float, float]] = []
    for v in np.arange(first, side * 0.75, 2 * depth + aisle):
        for row, face in ((v + depth / 2, 1), (v + depth * 1.5, -1)):
            for number, u in enumerate(np.arange(-side * 0.75, side * 0.75, stall)):
                if not site.near(u, row, depth):
                    continue
                marks.append(site.at(u - stall / 2, row))
                if number % 16 == 9:
                    _island(site, u, row, stall, depth)
                elif site.chance(full):
                    angle = face * math.pi / 2 + slant + math.pi * rng.integers(2) + rng.normal(0, 0.025)
                    car = site.another("car", site.colour(*_CARS), rng.uniform(4.2, 4.9))
                    item = site.turned(car, u + rng.normal(0, 0.1), row + rng.normal(0, 0.2), angle)
                    site.put(item, (PAVED,), claim=False)
    if marks:
        site.lay(stalls(np.array(marks), depth * 0.96, site.turn + math.pi / 2 + slant))
    site.facts.append(
        "most of the stalls are taken"
        if full > 0.65
        else "many stalls are empty"
        if full < 0.5
        else "cars stand in rows"
    )
    site.trees(int(rng.integers(3, 20)), (3.5, 8.0))


def _island(site: Site, u: float, v: float, wide: float, deep: float) -> None:
    bed = turned(rectangle(wide, deep), site.turn) + site.at(u, v)
    site.lay(flat("", bed, shade(site.rng, site.palette.grass[1]), "grass", cover="grass"), LAND)
    if site.chance(0.6):
        site.put(site.draw("tree", site.rng.uniform(2.4, 3.6)).moved(*site.at(u, v)), (LAND, PAVED), slack=0.1)
