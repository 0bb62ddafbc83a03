"""Sports grounds: courts, soccer fields, baseball diamonds."""

from __future__ import annotations

import math

from gmrt.georsmllm.scenes.catalogue.surfaces import road
from gmrt.georsmllm.scenes.item import Item, flat
from gmrt.georsmllm.scenes.layouts.site import PAVED, TAKEN, Site
from gmrt.georsmllm.scenes.palettes import shade, times
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import rectangle


def sports(site: Site) -> None:
    """Courts in groups on a common floor, fields where there is room, a path, a clubhouse, parked cars, trees."""
    side, rng = site.side, site.rng
    site.ground = Ground("grass", "bare soil", rng.uniform(0.0, 0.2), side * 0.25)
    if side > 105 and site.chance(0.55):
        _field(site, "soccer field", 102.0)
    if side > 95 and site.chance(0.4):
        _field(site, "baseball diamond", 75.0)
    kinds = ["tennis court"] * 3 + ["basketball court"]
    for _ in range(1 if side < 70 else int(rng.integers(1, 4))):
        _courts(site, kinds[rng.integers(4)])
    if site.chance(0.5):
        v = side * rng.uniform(0.32, 0.5) * (1 if site.chance(0.5) else -1)
        if site.free(path := road(site.line((-side, v), (side, v)), rng.uniform(6, 8), site.palette, rng)):
            site.lay(path, PAVED)
            site.facts.append("a road runs past the sports ground")
            for u in rng.uniform(-0.6, 0.6, int(rng.integers(0, 9))) * side:
                car = site.another(
                    "car", site.colour(("white", 3), ("grey", 2), ("black", 2), ("red", 1), ("blue", 1)), 4.5
                )
                site.put(site.turned(car, u, v + 1.6, 0.0), (PAVED,))
    site.uncounted.add("road")
    for _ in range(int(rng.integers(0, 4))):
        house = site.draw(
            "building", site.colour(("grey", 2), ("white", 1), ("brown", 1), ("red", 1)), rng.uniform(12, 26)
        )
        site.put(site.turned(house, *site.anywhere(0.5), math.pi / 2 * rng.integers(2)))
    site.trees(int(rng.integers(6, 46)), (4.0, 10.0))


def _courts(site: Site, category: str) -> None:
    """One to six courts side by side on one floor, all of one drawing."""
    rng = site.rng
    long, wide = (36.0, 17.5) if category == "tennis court" else (34.0, 20.0)
    court = site.draw(category)
    columns, rows = int(rng.integers(1, 5)), 1 if site.chance(0.7) else 2
    while columns * wide > site.side * 0.95 and columns > 1:
        columns -= 1
    quarter = math.pi / 2 * rng.integers(2)
    floor = _floor(site, columns * wide + 1, rows * long + 1)
    for _ in range(8):
        u, v = site.anywhere(0.3)
        ground = site.turned(floor, u, v, quarter)
        if not site.free(ground):
            continue
        site.lay(ground, TAKEN)
        cos, sin = math.cos(quarter), math.sin(quarter)
        for column in range(columns):
            for row in range(rows):
                a, b = (column - (columns - 1) / 2) * wide, (row - (rows - 1) / 2) * long
                site.lay(site.turned(court, u + a * cos - b * sin, v + a * sin + b * cos, quarter + math.pi / 2), TAKEN)
        return


def _floor(site: Site, wide: float, high: float) -> Item:
    rng = site.rng
    paints = site.palette.paints
    base = (paints["green"], paints["red"], site.palette.concrete[1], site.palette.asphalt[0])[rng.integers(4)]
    grey = site.palette.concrete[1]
    mixed = tuple(0.55 * a + 0.45 * b for a, b in zip(base, grey, strict=True))
    tone = times(shade(rng, (mixed[0], mixed[1], mixed[2])), 0.85)
    return flat("", rectangle(wide, high), tone, "concrete", cover="pavement")


def _field(site: Site, category: str, size: float) -> None:
    for _ in range(6):
        u, v = site.anywhere(0.3)
        item = site.turned(
            site.draw(category),
            u - (size / 2 if category == "baseball diamond" else 0),
            v,
            math.pi / 2 * site.rng.integers(4),
        )
        if site.free(item) and site.lay(item, TAKEN):
            return
