"""Harbours: marinas full of boats, and ports where ships load."""

from __future__ import annotations

import math

import numpy as np

from gmrt.georsmllm.scenes.catalogue.surfaces import paved, road
from gmrt.georsmllm.scenes.catalogue.works import containers
from gmrt.georsmllm.scenes.item import Pen
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, WATER, Site
from gmrt.georsmllm.scenes.palettes import shade
from gmrt.georsmllm.scenes.plan import Ground
from gmrt.georsmllm.scenes.shapes import bar, rectangle, turned

_BOATS = (("white", 6.0), ("blue", 1.2), ("grey", 1.0), ("red", 0.6), ("yellow", 0.4), ("black", 0.3), ("green", 0.3))
_SHIPS = (("red", 2.0), ("blue", 2.0), ("grey", 2.0), ("green", 1.0), ("black", 1.0), ("white", 1.0))
_SPELLED = {1: "one pier", 2: "two piers", 3: "three piers", 4: "four piers"}


def marina(site: Site) -> None:
    """Piers with boats moored on both sides, perhaps a shore with parked cars, perhaps a boat under way."""
    side, rng = site.side, site.rng
    _flood(site)
    shore = -side * 2
    if site.chance(0.45):
        shore = _shore(site, side * rng.uniform(0.12, 0.3))
    size = float(np.clip(side * rng.uniform(0.07, 0.17), 4.5, 22.0))
    thick = size * rng.uniform(0.14, 0.24) + 0.8
    step = 2 * size + thick + size * rng.uniform(0.5, 1.6)
    start = -side * 0.7 + rng.uniform(0, step)
    for v in np.arange(start, side * 0.7, step):
        near = max(shore, -side * 0.8 if site.chance(0.7) else rng.uniform(-0.4, 0.1) * side)
        far = side * 0.8 if site.chance(0.6) else rng.uniform(0.15, 0.5) * side
        if far - near > size and site.put(
            site.turned(site.draw("pier", far - near, thick), (near + far) / 2, v), (WATER,), slack=0.05
        ):
            _moor(site, near, far, v, thick, size)
    piers = site.count("pier")
    if piers and site.count("boat") > 3:
        site.facts.append(f"boats are moored along {_SPELLED.get(piers, 'several piers')}")
    for _ in range(int(rng.integers(0, 4))):
        boat = site.another("boat", site.colour(*_BOATS), size * rng.uniform(0.8, 1.1))
        site.put(boat.moved(*site.spot(), rng.uniform(0, 2 * math.pi)), (WATER,))


def _moor(site: Site, near: float, far: float, v: float, thick: float, size: float) -> None:
    """Boats side by side along both sides of a pier, bow in or out, some berths empty."""
    rng = site.rng
    full, beam = rng.uniform(0.45, 0.95), size * rng.uniform(0.5, 0.62)
    inward = site.chance(0.5)
    fingers = Pen()
    for side in (-1, 1):
        if site.chance(0.1):
            continue
        for place, u in enumerate(np.arange(near + beam, far - beam * 0.6, beam)):
            if place % 2 == 0:
                start, stop = (
                    site.at(u - beam / 2, v + side * thick / 2),
                    site.at(u - beam / 2, v + side * (thick / 2 + size * 0.7)),
                )
                fingers.fill(bar(start, stop, max(0.6, size * 0.05)), shade(rng, site.palette.concrete[1]), "concrete")
            if not site.near(u, v, 3 * size) or not site.chance(full):
                continue
            length = size * rng.uniform(0.72, 1.0)
            boat = site.another("boat", site.colour(*_BOATS), length)
            angle = side * math.pi / 2 + (math.pi if inward else 0.0) + rng.normal(0, 0.04)
            site.put(site.turned(boat, u, v + side * (thick / 2 + 0.4 + length / 2), angle), (WATER,), slack=0.04)
    outline = turned(rectangle(1.0, 1.0), site.turn) + site.at((near + far) / 2, v)
    site.lay(fingers.item("", outline))


def _flood(site: Site) -> None:
    site.ground = Ground("water", "water", 0.0, site.side * 0.5)
    everything = rectangle(4 * site.side, 4 * site.side)
    site.lay(Pen().item("", everything), WATER)


def _shore(site: Site, depth: float) -> float:
    """Land along one side with a paved strip and parked cars; returns where the water begins, along the site."""
    side, rng = site.side, site.rng
    edge = -side * 0.5 * (abs(math.cos(site.turn)) + abs(math.sin(site.turn))) + depth
    area = paved(side * 2, side * 3, site.palette, rng, slab=0.0 if site.chance(0.5) else 7.0)
    site.lay(site.turned(area, edge - side, 0.0), PAVED)
    site.lay(site.turned(paved(1.6, side * 3, site.palette, rng, slab=1.6), edge - 0.8, 0.0))
    cars = (("white", 3.0), ("grey", 2.0), ("black", 2.0), ("red", 1.0), ("blue", 1.0))
    for v in np.arange(-side * 0.6, side * 0.6, 2.9):
        if site.chance(0.35):
            car = site.another("car", site.colour(*cars), rng.uniform(4.2, 4.8))
            site.put(site.turned(car, edge - depth * 0.5, v + rng.normal(0, 0.1), math.pi * rng.integers(2)), (PAVED,))
    site.facts.append("a paved quay borders the water")
    return edge


def port(site: Site) -> None:
    """A quay with stacks of containers and sheds, ships alongside and in the roads."""
    side, rng = site.side, site.rng
    _flood(site)
    depth = side * rng.uniform(0.3, 0.55)
    edge = -side * 0.5 * (abs(math.cos(site.turn)) + abs(math.sin(site.turn))) + depth
    area = paved(side * 2, side * 3, site.palette, rng, slab=0.0 if site.chance(0.5) else 12.0)
    site.lay(site.turned(area, edge - side, 0.0), PAVED)
    site.lay(road(site.line((edge - depth * 0.5, -side), (edge - depth * 0.5, side)), 9.0, site.palette, rng))
    site.uncounted.add("road")
    size = float(np.clip(side * rng.uniform(0.25, 0.55), 40.0, 320.0))
    v = -side * 0.6
    while v < side * 0.6:
        length = size * rng.uniform(0.6, 1.0)
        ship = site.draw("ship", site.colour(*_SHIPS), length)
        beam = ship.width
        angle = math.pi / 2 * (1 if site.chance(0.5) else -1)
        if site.chance(0.75):
            site.put(site.turned(ship, edge + beam / 2 + 3.0, v + length / 2, angle), (WATER,), slack=0.02)
        v += length + 12.0
    if site.count("ship"):
        site.facts.append("ships lie along the quay" if site.count("ship") > 1 else "a ship lies along the quay")
    for _ in range(int(rng.integers(0, 4))):
        ship = site.draw("ship", site.colour(*_SHIPS), size * rng.uniform(0.4, 0.9))
        site.put(ship.moved(*site.spot(), rng.uniform(0, 2 * math.pi)), (WATER,))
    for v in np.arange(-side * 0.7, side * 0.7, 45.0):
        if not site.near(edge - depth * 0.4, v, 1.6 * depth):
            continue
        _crane(site, edge, v)
        for row in (0.16, 0.3):
            block = containers(rng, site.palette, int(rng.integers(1, 4)), int(rng.integers(3, 9)))
            if site.chance(0.6):
                site.put(site.turned(block, edge - depth * row, v, math.pi / 2), (PAVED,))
        if site.chance(0.2):
            block = containers(rng, site.palette, int(rng.integers(1, 4)), int(rng.integers(3, 9)))
            if site.put(site.turned(block, edge - depth * 0.22, v, math.pi / 2), (PAVED,)):
                continue
        hall = site.draw(
            "building", site.colour(("grey", 3), ("white", 3), ("brown", 1), ("blue", 1)), rng.uniform(40, 75)
        )
        site.put(site.turned(hall, edge - depth * rng.uniform(0.7, 0.85), v, math.pi / 2), (PAVED,))
    for _ in range(int(rng.integers(0, 10))):
        truck = site.another("truck", site.colour(("white", 3), ("red", 1), ("blue", 1)), rng.uniform(9, 15))
        u = edge - depth * rng.choice([0.45, 0.55])
        site.put(site.turned(truck, u, rng.uniform(-0.6, 0.6) * side, math.pi / 2 * rng.choice([-1, 1])), (PAVED,))
    site.trees(6, (6.0, 10.0), (LAND,))


def _crane(site: Site, edge: float, v: float) -> None:
    """A gantry crane on the quay with its boom over the water; not labelled."""
    if not site.chance(0.25):
        return
    paint = site.palette.paints[site.choose("blue", "red", "yellow", "white")]
    pen = Pen()
    boom = rectangle(40.0, 2.6, 5.0)
    pen.fill(boom, paint, "metal", level=6)
    pen.fill(rectangle(3.0, 17.0, -6.0), paint, "metal", level=6)
    pen.fill(rectangle(3.0, 17.0, -22.0), paint, "metal", level=6)
    pen.cast(boom, 34.0, 30.0)
    site.put(site.turned(pen.item("", rectangle(18.0, 17.0, -14.0), height=30.0), edge, v), (PAVED,))
