"""Styles: which drawings, palette and ground textures make one look. Some are kept for testing and never trained on.

`STYLES_TRAIN` and `STYLES_TEST` share no drawing, no palette and no texture, so a score on the second says whether
a model has learnt what a ship is or how one of ours is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gmrt.georsmllm.scenes import palettes
from gmrt.georsmllm.scenes.catalogue import CATALOGUE
from gmrt.georsmllm.scenes.item import Item
from gmrt.georsmllm.scenes.palettes import Palette


@dataclass(frozen=True)
class Style:
    """How things look in one family of scenes.

    ``drawings`` are names in `CATALOGUE` by category; ``textures`` names in `noise.FAMILIES`; ``fields`` the ways a
    field may be worked (names in `surfaces.WORKED`).
    """

    name: str
    split: Literal["train", "test"]
    palette: Palette
    drawings: dict[str, tuple[str, ...]]
    textures: tuple[str, ...]
    fields: tuple[str, ...]

    def draw(self, category: str, rng: np.random.Generator, *how: object) -> Item:
        """Draw one thing of a category in one of the style's ways, in coordinates of its own."""
        names = self.drawings[category]
        return CATALOGUE[category][names[rng.integers(len(names))]](rng, self.palette, *how)


_TRAIN: dict[str, tuple[str, ...]] = {
    "airplane": ("twinjet", "quadjet", "propeller", "delta"),
    "car": ("sedan", "hatchback", "van"),
    "truck": ("box truck", "tank truck"),
    "ship": ("bulk carrier", "container ship", "tanker"),
    "boat": ("motor boat", "sailing boat", "open boat"),
    "pier": ("concrete pier",),
    "storage tank": ("flat", "cone", "floating"),
    "building": ("ribbed hall", "flat hall"),
    "house": ("gable", "hip", "ell"),
    "swimming pool": ("square pool", "oval pool"),
    "tree": ("clumped", "clumped", "round", "conifer"),
    "solar panel": ("blue", "black"),
    "tennis court": ("green court", "red court", "blue court"),
    "basketball court": ("grey floor", "green floor"),
    "soccer field": ("plain", "wide stripes"),
    "baseball diamond": ("plain",),
}
_TEST = {
    category: tuple(name for name in names if name not in _TRAIN[category]) for category, names in CATALOGUE.items()
}


def _trained(palette: Palette, *textures: str) -> Style:
    return Style(palette.name, "train", palette, _TRAIN, textures, ("rows", "plain", "tramlines", "strips"))


def _held_out(palette: Palette, *textures: str) -> Style:
    return Style(palette.name, "test", palette, _TEST, textures, ("waves", "bales", "beds"))


STYLES_TRAIN: tuple[Style, ...] = (
    _trained(palettes.TEMPERATE, "fractal", "patches"),
    _trained(palettes.DRY, "ridged", "fractal"),
    _trained(palettes.COASTAL, "fractal", "ridged"),
    _trained(palettes.NORTHERN, "patches", "ridged"),
)
STYLES_TEST: tuple[Style, ...] = (
    _held_out(palettes.HIGHLAND, "warped", "cells"),
    _held_out(palettes.TROPICAL, "cells", "warped"),
)
