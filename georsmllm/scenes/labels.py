"""What is true of a plan: its objects with outlines and attributes, the land cover, what can be measured."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.scenes.catalogue import CATALOGUE
from gmrt.georsmllm.scenes.item import Item
from gmrt.georsmllm.scenes.look import Sensor
from gmrt.georsmllm.scenes.plan import BUILT_UP, COVER_CODES, COVERS, Plan
from gmrt.georsmllm.scenes.raster import FloatArray, area_of
from gmrt.georsmllm.scenes.render import Rendered
from gmrt.georsmllm.scenes.shapes import turned

SURFACES: tuple[str, ...] = ("runway", "taxiway", "apron", "road", "river", "field")
CATEGORIES: frozenset[str] = frozenset((*CATALOGUE, *SURFACES))
"""Every category that a generated scene can hold. What a scene counts and does not list is not there."""

_CONTRAST = 1.6  # sizes are told apart when the longest is so many times the shortest
_NEAR = 1.05  # what is nearer than this to a step between two sizes is called neither
_ROUND = 1.25  # an item must be so much longer than wide to have a direction


def orientation(heading: float) -> str:
    """The direction of a length on the picture, in words: within 22.5° of an axis, or between the axes."""
    angle = math.degrees(heading) % 180
    if angle < 22.5 or angle >= 157.5:
        return "horizontal"
    return "vertical" if 67.5 <= angle < 112.5 else "diagonal"


def size_words(lengths: list[float]) -> list[str]:
    """Say "small", "medium" or "large" of each of several things of one category; nothing where all are much alike.

    The steps are equal in the logarithm, between the smallest and the largest. What lies within 5 % of a step gets no
    word: people would disagree about it.
    """
    if len(lengths) < 2 or max(lengths) < _CONTRAST * min(lengths):
        return [""] * len(lengths)
    low, high = math.log(min(lengths)), math.log(max(lengths))
    step, near = (high - low) / 3, math.log(_NEAR)
    words = []
    for length in lengths:
        above = math.log(length) - low
        doubtful = min(abs(above - step), abs(above - 2 * step)) < near
        words.append("" if doubtful else ("small", "medium", "large")[min(int(above / step), 2)])
    return words


def labelled(plan: Plan) -> list[tuple[Item, FloatArray]]:
    """The items of a plan that bear a label and can be seen, with their visible outlines in pixels."""
    found = [(item, plan.visible(item)) for item in plan.items if item.category]
    return [(item, outline) for item, outline in found if len(outline) >= 3]


def objects_of(plan: Plan, sensor: Sensor) -> tuple[SceneObject, ...]:
    """Every labelled object: its visible outline in 0…1 of the picture, and what can be said of it.

    Radar and thermal images show no colours, so none are told there.
    """
    found = labelled(plan)
    lengths: dict[str, list[float]] = {}
    for item, _ in found:
        lengths.setdefault(item.category, []).append(math.sqrt(area_of(item.shape)))
    sizes = {category: iter(size_words(group)) for category, group in lengths.items()}
    objects = []
    for item, outline in found:
        words = dict(item.attributes) | described(item, next(sizes[item.category]))
        if sensor in ("sar", "thermal"):
            words.pop("colour", None)
        points = np.clip(outline / plan.size, 0.0, 1.0).tolist()
        objects.append(SceneObject(item.category, tuple((x, y) for x, y in points), "poly", words))
    return tuple(objects)


def described(item: Item, size: str) -> dict[str, str]:
    """Size and orientation of an item in words, as far as it has any."""
    words = {}
    if size and item.category not in SURFACES:
        words["size"] = size
    if item.heading is not None:
        spread = np.ptp(turned(item.shape, -item.heading), axis=0)
        if spread.max() > _ROUND * spread.min():
            across = math.pi / 2 if spread[1] > spread[0] else 0.0
            words["orientation"] = orientation(item.angle + item.heading + across)
    return words


def labels_of(plan: Plan, rendered: Rendered, valid: npt.NDArray[np.bool_], sensor: Sensor) -> SceneLabels:
    """All labels of a scene but its captions; shares and means are over the valid pixels."""
    objects = objects_of(plan, sensor)
    seen = max(int(valid.sum()), 1)
    counts = np.bincount(rendered.cover[valid], minlength=len(COVERS))
    fractions = {name: float(counts[COVER_CODES[name]] / seen) for name in COVERS if counts[COVER_CODES[name]]}
    measures = {
        "built-up fraction": float(sum(fractions.get(name, 0.0) for name in BUILT_UP)),
        "mean height": float(rendered.height[valid].sum() / seen),
    }
    return SceneLabels(plan.scene_class, (), objects, CATEGORIES - plan.uncounted, fractions, measures)


def valid_mask(plan: Plan) -> npt.NDArray[np.bool_]:
    """Pixels that hold data, bool [H, W]."""
    valid = np.ones((plan.size, plan.size), bool)
    at = np.arange(plan.size) + 0.5
    for a, b, c in plan.edges:
        valid &= a * at[None] + b * at[:, None] <= c
    return valid
