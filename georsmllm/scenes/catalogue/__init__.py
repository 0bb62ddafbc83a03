"""Drawings of every category, by name. A `Style` says which of them may be used together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gmrt.georsmllm.scenes.catalogue.aircraft import AIRPLANES
from gmrt.georsmllm.scenes.catalogue.courts import BASEBALL_DIAMONDS, BASKETBALL_COURTS, SOCCER_FIELDS, TENNIS_COURTS
from gmrt.georsmllm.scenes.catalogue.houses import HOUSES, POOLS
from gmrt.georsmllm.scenes.catalogue.plants import TREES
from gmrt.georsmllm.scenes.catalogue.vehicles import CARS, TRUCKS
from gmrt.georsmllm.scenes.catalogue.vessels import BOATS, PIERS, SHIPS
from gmrt.georsmllm.scenes.catalogue.works import BUILDINGS, PANELS, TANKS
from gmrt.georsmllm.scenes.item import Item

CATALOGUE: Mapping[str, Mapping[str, Callable[..., Item]]] = {
    "airplane": AIRPLANES,
    "car": CARS,
    "truck": TRUCKS,
    "ship": SHIPS,
    "boat": BOATS,
    "pier": PIERS,
    "storage tank": TANKS,
    "building": BUILDINGS,
    "house": HOUSES,
    "swimming pool": POOLS,
    "tree": TREES,
    "solar panel": PANELS,
    "tennis court": TENNIS_COURTS,
    "basketball court": BASKETBALL_COURTS,
    "soccer field": SOCCER_FIELDS,
    "baseball diamond": BASEBALL_DIAMONDS,
}
"""category → name → ``drawing(rng, palette, …)``: airplanes, vehicles, vessels, tanks, buildings and houses take a
colour word and a length in metres, pools and trees a length, piers and panels length and width, courts nothing more.
"""
