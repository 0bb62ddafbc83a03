"""Labelled scenes for the tests of tasks: round tanks, rectangular buildings, small cars, by a seed."""

from __future__ import annotations

import numpy as np

from gmrt.georsmllm.objects import SceneLabels, SceneObject

COUNTABLE = frozenset({"storage tank", "building", "car", "ship"})


def outline(
    x: float, y: float, width: float, height: float, corners: int, angle: float
) -> tuple[tuple[float, float], ...]:
    """A regular polygon stretched to width × height, turned about its centre."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False) + np.pi / corners
    points = np.stack([np.cos(turns) * width / 2, np.sin(turns) * height / 2], axis=1)
    cosine, sine = np.cos(angle), np.sin(angle)
    placed = points @ np.array([(cosine, sine), (-sine, cosine)]) + (x, y)
    return tuple((float(a), float(b)) for a, b in np.clip(placed, 0, 1))


def tank_farm(seed: int) -> SceneLabels:
    """A scene with everything labelled; trees are, too, but not all of them."""
    rng = np.random.default_rng(seed)
    things = []
    for _ in range(rng.integers(2, 9)):
        radius = rng.uniform(0.04, 0.14)
        around = outline(*rng.uniform(0.1, 0.9, 2), radius, radius, 24, 0)
        things.append(SceneObject("storage tank", around, "poly", {"colour": str(rng.choice(["white", "grey"]))}))
    for _ in range(rng.integers(0, 6)):
        around = outline(*rng.uniform(0.15, 0.85, 2), *rng.uniform(0.1, 0.25, 2), 4, rng.uniform(0, 3))
        things.append(SceneObject("building", around, "poly", {"colour": str(rng.choice(["brown", "grey", "white"]))}))
    for _ in range(rng.integers(0, 10)):
        around = outline(*rng.uniform(0.05, 0.95, 2), 0.05, 0.025, 4, rng.uniform(0, 3))
        things.append(SceneObject("car", around, "obb", {"colour": str(rng.choice(["white", "red"]))}))
    things.append(SceneObject("tree", outline(*rng.uniform(0.1, 0.9, 2), 0.1, 0.1, 8, 0)))
    return SceneLabels(
        scene_class="storage tanks",
        captions=("a tank farm", "there are some storage tanks"),
        objects=tuple(things),
        exhaustive=COUNTABLE,
        fractions={"concrete": 0.34, "grass": 0.6, "water": 0.06},
        measures={"built-up fraction": 0.31, "mean height in metres": 4.5},
    )
