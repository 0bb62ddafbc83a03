"""What a surface sends to each kind of sensor: red, green, blue and near infrared light, warmth, and radar echo.

The six signals are brightnesses of 0…255. Light comes from the surface's colour; the other three come from what it is
made of, roughly as such things look on a summer noon: vegetation bright in the near infrared, water dark there and in
radar, metal cool and a strong reflector, dark roofs and asphalt warm.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]
Material = Literal[
    "grass",
    "leaf",
    "crop",
    "soil",
    "sand",
    "water",
    "asphalt",
    "concrete",
    "paint",
    "roof",
    "metal",
    "glass",
    "panel",
    "wall",
]
MATERIALS: tuple[Material, ...] = get_args(Material)
CODES: dict[str, int] = {name: code for code, name in enumerate(MATERIALS)}
RED, GREEN, BLUE, NEAR_INFRARED, HEAT, ECHO = range(6)

_LIGHT = np.array([0.3, 0.59, 0.11])
# Near infrared = a + b × brightness; heat = a + b × brightness; echo.
_RULES: dict[Material, tuple[float, float, float, float, float]] = {
    "grass": (95, 0.75, 112, -0.10, 78),
    "leaf": (105, 0.85, 78, 0.0, 128),
    "crop": (100, 0.70, 104, -0.05, 92),
    "soil": (8, 1.10, 150, -0.10, 66),
    "sand": (10, 1.05, 158, -0.12, 40),
    "water": (2, 0.10, 58, 0.0, 22),
    "asphalt": (4, 0.95, 178, -0.12, 26),
    "concrete": (6, 0.95, 165, -0.15, 38),
    "paint": (4, 0.95, 150, -0.10, 34),
    "roof": (10, 0.95, 190, -0.22, 135),
    "metal": (4, 0.95, 150, -0.28, 220),
    "glass": (2, 0.50, 96, 0.0, 90),
    "panel": (4, 0.60, 172, 0.0, 165),
    "wall": (4, 0.90, 130, 0.0, 245),
}


def signals_of(colours: npt.NDArray[np.float64], codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The six signals [N, 6] of colours [N, 3] (0…255) painted on materials, given by their codes [N]."""
    rules = _TABLE[codes]
    light = colours @ _LIGHT
    near = rules[:, 0] + rules[:, 1] * light
    heat = rules[:, 2] + rules[:, 3] * light
    return np.concatenate([colours, np.stack([near, heat, rules[:, 4]], axis=1)], axis=1)


_TABLE = np.array([_RULES[name] for name in MATERIALS])
