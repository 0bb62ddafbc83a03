"""The country: fields, woods, rivers."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import field, pivot, road, track
from gmrt.georsmllm.scenes.catalogue.surfaces import river as draw_river
from gmrt.georsmllm.scenes.item import flat
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, TAKEN, WATER, Site
from gmrt.georsmllm.scenes.palettes import shade
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.shapes import rectangle, turned, wobbly

_CROPS = (("green", 3.0), ("brown", 1.6), ("yellow", 1.4))


def woods(site: Site, count: int) -> None:
    """Woods of closed canopy. Their trees cannot be counted one by one."""
    for _ in range(count):
        reach = site.side * site.rng.uniform(0.18, 0.4)
        rim = _rim(site) * (reach, reach * site.rng.uniform(0.5, 1.0))
        outline = turned(rim, site.rng.uniform(0, 3)) + site.rng.uniform(-0.1, 1.1, 2) * site.side
        leaf = shade(site.rng, site.palette.canopy[site.rng.integers(len(site.palette.canopy))])
        site.lay(flat("", outline, leaf, "leaf", cover="tree"), TAKEN)
    site.uncounted.add("tree")


def _rim(site: Site) -> FloatArray:
    """A closed line round the origin, about one metre from it, with bays and tufts."""
    angle = np.arange(48) * (2 * math.pi / 48)
    waves = sum(
        depth * np.sin(turns * angle + site.rng.uniform(0, 6)) for turns, depth in ((2, 0.2), (3, 0.13), (7, 0.06))
    )
    reach = 1 + waves + site.rng.uniform(-0.05, 0.05, 48)
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def farmland(site: Site) -> None:
    """Parcels between tracks and hedges, or round fields under pivots; a farm at times."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.1, 0.4), side * 0.15)
    if site.chance(0.22):
        _pivots(site)
    else:
        parcels = _split(site, -0.8 * side, -0.8 * side, 1.6 * side, 1.6 * side, int(rng.integers(3, 6)))
        margin = rng.uniform(2.0, 5.0) + site.gsd
        for u, v, wide, high in parcels:
            if site.chance(0.07):
                continue
            corners = rectangle(wide - margin, high - margin) + rng.normal(0, margin * 0.3, (4, 2))
            outline = turned(corners, site.turn) + site.at(u + wide / 2, v + high / 2)
            names = site.style.fields
            work = names[rng.integers(len(names))]
            along = site.turn + (math.pi / 2 if (wide < high) != site.chance(0.2) else 0.0)
            crop = site.colour(*_CROPS)
            site.lay(field(outline, work, crop, along, site.palette, rng), TAKEN)
    if site.chance(0.4):
        v = rng.uniform(-0.4, 0.4) * side
        lane = site.line(*((u * side, v + rng.normal(0, 2.0)) for u in np.linspace(-0.9, 0.9, 7)))
        paved_road = site.chance(0.5)
        site.lay((road if paved_road else track)(lane, rng.uniform(5.0, 8.0), site.palette, rng), PAVED)
        site.facts.append("a road runs between the fields" if paved_road else "a dirt track runs between the fields")
    site.uncounted.add("road")
    if site.chance(0.35):
        _farm(site)
    if site.chance(0.3):
        woods(site, 1)
    site.trees(int(rng.integers(0, 40)), (6.0, 13.0))


def _split(
    site: Site, u: float, v: float, wide: float, high: float, depth: int
) -> list[tuple[float, float, float, float]]:
    """Cut a rectangle again and again into parcels (u, v, wide, high)."""
    if depth == 0 or (depth < 3 and site.chance(0.2)) or max(wide, high) < site.side * 0.22:
        return [(u, v, wide, high)]
    share = site.rng.uniform(0.35, 0.65)
    if wide > high:
        cut = wide * share
        return _split(site, u, v, cut, high, depth - 1) + _split(site, u + cut, v, wide - cut, high, depth - 1)
    cut = high * share
    return _split(site, u, v, wide, cut, depth - 1) + _split(site, u, v + cut, wide, high - cut, depth - 1)


def _pivots(site: Site) -> None:
    radius = site.side * site.rng.uniform(0.16, 0.3)
    step = radius * 2.08
    shift = site.rng.uniform(-0.5, 0.5, 2) * step
    for row in range(-3, 4):
        for column in range(-3, 4):
            if site.chance(0.9):
                circle = pivot(radius, site.colour(*_CROPS), site.palette, site.rng)
                place = site.at(column * step + shift[0], row * step + shift[1])
                site.lay(circle.moved(*place, site.rng.uniform(0, 2 * math.pi)), TAKEN)
    site.facts.append("some of the fields are round")


def _farm(site: Site) -> None:
    """A few houses and a barn close together."""
    u, v = site.anywhere(0.3)
    yard = wobbly(38.0, site.rng) + site.at(u, v)
    site.lay(flat("", yard, shade(site.rng, site.palette.soil[0]), "soil", cover="bare soil"), LAND)
    barn = site.draw("building", site.colour(("grey", 2), ("red", 1), ("brown", 1)), site.rng.uniform(24, 40))
    site.put(site.turned(barn, u, v - 12))
    for _ in range(3):
        house = site.draw("house", site.colour(("grey", 2), ("red", 2), ("brown", 2)), site.rng.uniform(11, 16))
        place = site.rng.uniform(-26, 26, 2)
        site.put(site.turned(house, u + place[0], v + place[1], math.pi / 2 * site.rng.integers(2)))


def _meander(site: Site) -> FloatArray:
    """A winding polyline across the scene."""
    rng, side = site.rng, site.side
    u = np.linspace(-0.95, 0.95, 26)
    bend = rng.uniform(0.02, 0.16) * np.sin(u * rng.uniform(2.0, 6.0) + rng.uniform(0, 6))
    bend += rng.uniform(0.0, 0.04) * np.sin(u * rng.uniform(8.0, 14.0) + rng.uniform(0, 6)) + rng.uniform(-0.15, 0.15)
    return site.line(*zip(u * side, bend * side, strict=True))


def river(site: Site) -> None:
    """A winding river between woods and meadows, bridged at times, with a boat at times."""
    side, rng = site.side, site.rng
    site.ground = Ground(
        site.choose("grass", "grass", "bare soil"), site.choose("bare soil", "tree"), rng.uniform(0.1, 0.4), side * 0.25
    )
    if site.ground.patches == "tree":
        site.uncounted.add("tree")
    woods(site, int(rng.integers(0, 4)))
    line = _meander(site)
    width = side * rng.uniform(0.08, 0.28)
    widths = width * (1 + 0.25 * np.sin(np.linspace(0, rng.uniform(3, 9), len(line)) + rng.uniform(0, 6)))
    for item in draw_river(line, widths, site.palette, rng):
        site.lay(item, WATER if item.category else LAND)
    if site.chance(0.45):
        u = rng.uniform(-0.25, 0.25) * side
        deck = road(
            site.line((u, -side), (u + rng.normal(0, 0.05) * side, side)), rng.uniform(7, 12), site.palette, rng
        )
        site.lay(deck, PAVED)
        site.facts.append("a road crosses the river")
        for v in rng.uniform(-0.5, 0.5, int(rng.integers(0, 7))) * side:
            colour = site.colour(("white", 2), ("grey", 1), ("black", 1), ("red", 1))
            site.put(site.turned(site.another("car", colour, 4.5), u, v, math.pi / 2), (PAVED,), slack=0.3)
    site.uncounted.add("road")
    for _ in range(int(rng.integers(0, 4))):
        boat = site.another(
            "boat", site.colour(("white", 3), ("blue", 1), ("red", 1)), rng.uniform(0.25, 0.5) * min(width, 40)
        )
        x, y = line[rng.integers(5, len(line) - 5)] + rng.normal(0, width * 0.15, 2)
        site.put(boat.moved(float(x), float(y), site.turn + rng.normal(0, 0.3)), (WATER,))
    site.trees(int(rng.integers(5, 60)), (5.0, 12.0))
