"""How a scene is seen: the sun, the season, the air, the camera. Nothing here changes what is there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gmrt.georsmllm.scenes.materials import CODES, MATERIALS, Colour

Sensor = Literal["rgb", "rgbn", "sar", "thermal"]
Season = Literal["spring", "summer", "autumn", "winter"]

# What a season makes of a material: the colour it moves towards, and how far (0…1).
_SEASONS: dict[str, dict[str, tuple[Colour, float]]] = {
    "spring": {"grass": ((96, 136, 66), 0.35), "leaf": ((98, 130, 70), 0.35), "crop": ((104, 140, 78), 0.3)},
    "summer": {},
    "autumn": {"grass": ((140, 124, 82), 0.35), "leaf": ((132, 104, 62), 0.35), "crop": ((156, 130, 92), 0.3)},
    "winter": {"grass": ((132, 124, 102), 0.5), "leaf": ((96, 94, 84), 0.55), "crop": ((132, 116, 98), 0.45)},
}


@dataclass(frozen=True)
class Look:
    """One acquisition.

    ``sun`` is a unit vector on the ground towards the sun (or the radar), x right, y down; ``elevation`` in radians.
    ``haze`` 0…1 lifts shadows towards ``air``; ``gain``, ``gamma`` and ``cast`` [3] are the camera's exposure;
    ``blur`` is the deviation of the point spread in pixels, ``sharpen`` the overshoot of a sharpening filter, ``noise``
    the deviation of grain in grey levels, ``looks`` the radar's number of looks; ``quality`` of JPEG coding, None for
    none; ``hot_white`` the polarity of a thermal image.
    """

    sun: tuple[float, float]
    elevation: float
    season: Season
    haze: float
    air: Colour
    gain: float
    gamma: float
    cast: Colour
    blur: float
    sharpen: float
    noise: float
    looks: float
    quality: int | None
    hot_white: bool
    seed: int

    @property
    def shadow(self) -> tuple[float, float]:
        """Where the tip of a shadow falls, in metres per metre of height."""
        length = 1 / math.tan(self.elevation)
        return -self.sun[0] * length, -self.sun[1] * length


def season_tint(season: str) -> tuple[np.ndarray, np.ndarray]:
    """What the season does to materials: target colours [materials, 3] and strengths [materials, 1]."""
    colours, strengths = np.zeros((len(MATERIALS), 3)), np.zeros((len(MATERIALS), 1))
    for material, (colour, strength) in _SEASONS[season].items():
        colours[CODES[material]], strengths[CODES[material]] = colour, strength
    return colours, strengths


def draw_look(rng: np.random.Generator) -> Look:
    """A random acquisition: mostly clear summer days and decent cameras, sometimes not."""
    azimuth = rng.uniform(0, 2 * math.pi)
    seasons: tuple[Season, ...] = ("summer", "summer", "summer", "spring", "spring", "autumn", "winter")
    hazy, poor = rng.random() < 0.25, rng.random() < 0.2
    tone = rng.uniform(-1, 1, 3)
    return Look(
        sun=(math.cos(azimuth), math.sin(azimuth)),
        elevation=math.radians(rng.uniform(36, 72)),
        season=seasons[rng.integers(len(seasons))],
        haze=rng.uniform(0.12, 0.4) if hazy else rng.uniform(0.0, 0.1),
        air=(186 + 14 * tone[0], 194 + 10 * tone[1], 206 + 14 * tone[2]),
        gain=rng.uniform(0.82, 1.22),
        gamma=rng.uniform(0.82, 1.2),
        cast=(1 + 0.07 * rng.uniform(-1, 1), 1 + 0.04 * rng.uniform(-1, 1), 1 + 0.08 * rng.uniform(-1, 1)),
        blur=rng.uniform(0.8, 1.3) if poor else rng.uniform(0.3, 0.75),
        sharpen=rng.uniform(0.2, 0.8) if rng.random() < 0.5 else 0.0,
        noise=rng.uniform(4, 10) if poor else rng.uniform(0.8, 4.5),
        looks=rng.uniform(1.2, 6),
        quality=int(rng.integers(35, 96)) if rng.random() < 0.6 else None,
        hot_white=bool(rng.random() < 0.85),
        seed=int(rng.integers(2**31)),
    )
