"""Plans, looks and masks for the tests of generated scenes, as fixtures that are functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gmrt.georsmllm.scenes import STYLES_TEST
from gmrt.georsmllm.scenes.item import THINGS, Item, gather
from gmrt.georsmllm.scenes.look import Look, draw_look
from gmrt.georsmllm.scenes.plan import Plan
from gmrt.georsmllm.scenes.raster import Edges, edges_of, fill, swept
from gmrt.georsmllm.scenes.scene import make_plan, stream


def make_plan_of(kind: str, seed: int) -> tuple[Plan, Look]:
    """A plan and a look; every third seed in a style that is held out."""
    style = STYLES_TEST[seed % 2] if seed % 3 == 0 else None
    rng = stream(seed, style)
    return make_plan(rng, size=192, kind=kind, style=style, sensor="rgb"), draw_look(rng)


def mask_outline(points: np.ndarray, size: int) -> np.ndarray:
    """Pixels of which an outline in pixels covers half or more."""
    return _half(fill(edges_of(points, np.array([len(points)])), np.ones((1, 1)), size, size), size)


def mask_drawn(plan: Plan, item: Item) -> np.ndarray:
    """Pixels of which the item's own polygons, walls included, cover half or more; level by level."""
    parts, _ = gather([item])
    own = parts.levels >= 0
    points, sizes = parts.points[np.repeat(own, parts.sizes)], parts.sizes[own]
    mask = np.zeros((plan.size, plan.size), bool)
    if item.wall is not None and item.stage == THINGS:
        lift = np.array([plan.lean]) * item.height
        points = points + lift
        walls = swept(item.outline / plan.gsd, np.array([len(item.outline)]), lift / plan.gsd)
        mask |= _half(fill(walls, np.ones((1, 1)), plan.size, plan.size), plan.size)
    edges, levels = edges_of(points / plan.gsd, sizes), parts.levels[own]
    for level in np.unique(levels):
        chosen = (levels == level)[edges.owner]
        batch = Edges(edges.ends[chosen], edges.owner[chosen])
        mask |= _half(fill(batch, parts.opacity[own][:, None], plan.size, plan.size), plan.size)
    return mask


def _half(patch, size):
    mask = np.zeros((size, size), bool)
    if not patch.empty:
        mask[patch.rows, patch.columns] = patch.planes[0] >= 0.499
    return mask


@pytest.fixture(scope="session")
def plan_of() -> Callable[[str, int], tuple[Plan, Look]]:
    """A kind and a seed to a plan and a look; every third seed in a style that is held out."""
    return make_plan_of


@pytest.fixture(scope="session")
def outline_mask() -> Callable[[np.ndarray, int], np.ndarray]:
    """An outline in pixels and a size to the pixels of which it covers half or more."""
    return mask_outline


@pytest.fixture(scope="session")
def drawn_mask() -> Callable[[Plan, Item], np.ndarray]:
    """A plan and an item to the pixels of which the item's own polygons cover half or more."""
    return mask_drawn
