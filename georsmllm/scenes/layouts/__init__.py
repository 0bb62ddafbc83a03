"""Layouts: how airports, harbours and so on are laid out, one function for each kind of scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gmrt.georsmllm.scenes.layouts.airport import apron, runways
from gmrt.georsmllm.scenes.layouts.country import farmland, river
from gmrt.georsmllm.scenes.layouts.harbour import marina, port
from gmrt.georsmllm.scenes.layouts.housing import housing
from gmrt.georsmllm.scenes.layouts.industry import industrial, solar_park, tank_farm
from gmrt.georsmllm.scenes.layouts.site import Site
from gmrt.georsmllm.scenes.layouts.sports import sports
from gmrt.georsmllm.scenes.layouts.streets import intersection, parking


@dataclass(frozen=True)
class Layout:
    """A kind of scene: the function that lays it out, the words for its class, and the GSD that suits it (metres)."""

    lay_out: Callable[[Site], None]
    scene_class: str
    gsd: tuple[float, float]


LAYOUTS: dict[str, Layout] = {
    "airport": Layout(apron, "airport", (0.25, 1.0)),
    "runway": Layout(runways, "runway", (0.6, 2.5)),
    "marina": Layout(marina, "harbor", (0.15, 0.6)),
    "port": Layout(port, "port", (0.7, 3.0)),
    "tank farm": Layout(tank_farm, "storage tanks", (0.3, 1.6)),
    "housing": Layout(housing, "residential area", (0.18, 0.55)),
    "farmland": Layout(farmland, "agricultural", (0.8, 3.0)),
    "river": Layout(river, "river", (0.3, 1.6)),
    "intersection": Layout(intersection, "intersection", (0.15, 0.5)),
    "parking lot": Layout(parking, "parking lot", (0.15, 0.34)),
    "solar park": Layout(solar_park, "solar park", (0.25, 0.9)),
    "sports": Layout(sports, "sports ground", (0.2, 0.9)),
    "industrial": Layout(industrial, "industrial area", (0.3, 1.1)),
}
KINDS: tuple[str, ...] = tuple(LAYOUTS)
