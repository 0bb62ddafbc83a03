"""Pairs of pictures of one place at two times, and what changed between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.scenes.captions import article, joined, named, sentence, where
from gmrt.georsmllm.scenes.item import Item
from gmrt.georsmllm.scenes.labels import labelled, objects_of
from gmrt.georsmllm.scenes.look import Sensor, draw_look
from gmrt.georsmllm.scenes.palettes import Palette
from gmrt.georsmllm.scenes.plan import Plan
from gmrt.georsmllm.scenes.scene import GeneratedScene, make_plan, picture, stream
from gmrt.georsmllm.scenes.styles import Style

ChangeKind = Literal["added", "removed", "changed"]

_COMES = {
    "built": ("house", "building", "storage tank", "swimming pool", "solar panel", "pier"),
    "arrived": ("airplane", "ship", "boat", "car", "truck"),
    "planted": ("tree",),
}
_GOES = {
    "built": ("been demolished", "been removed"),
    "arrived": ("left", "gone"),
    "planted": ("been cut down", "been felled"),
}
_VERBS = {category: verb for verb, categories in _COMES.items() for category in categories}
_REPAINTED = ("house", "building", "storage tank")
_QUIET = (
    "nothing has changed",
    "there is no change",
    "the scene is the same as before",
    "no difference can be seen between the two images",
)


@dataclass(frozen=True)
class Change:
    """One object that was added, removed, or repainted.

    ``object`` is as it looks afterwards, or for what was removed as it looked before; ``was`` is a repainted object's
    former colour.
    """

    kind: ChangeKind
    object: SceneObject
    was: str = ""


@dataclass(frozen=True)
class ScenePair:
    """Two pictures of one place, pixel on pixel; ``changes`` is all that differs but light, season and camera."""

    before: GeneratedScene
    after: GeneratedScene
    changes: tuple[Change, ...]
    captions: tuple[str, ...]


def generate_pair(
    seed: int, *, size: int = 256, kind: str | None = None, style: Style | None = None, sensor: Sensor = "rgb"
) -> ScenePair:
    """Make the pair of a seed; the arguments are those of `generate`. In about a third of all pairs nothing changes.

    The sun, the season and the camera differ in half of them, and that is no change.
    """
    rng = stream(seed, style, use=1)
    plan = make_plan(rng, size=size, kind=kind, style=style, sensor=sensor)
    first = draw_look(rng)
    second = draw_look(rng) if rng.random() < 0.5 else replace(first, seed=int(rng.integers(2**31)))
    second = replace(second, hot_white=first.hot_white)
    chosen = _choose(plan, rng, sensor) if rng.random() > 0.33 else {}
    if chosen:  # what the layout says of the whole may not survive a change
        plan = replace(plan, facts=())
    earlier = replace(plan, items=tuple(item for item in plan.items if chosen.get(id(item), ("",))[0] != "added"))
    later_items = {id(item): _after(item, chosen.get(id(item)), plan.style.palette) for item in plan.items}
    later = replace(plan, items=tuple(item for item in later_items.values() if item is not None))
    changes = _changes(plan, earlier, later, chosen, later_items, sensor)
    spoken = _spoken(changes, rng)
    return ScenePair(picture(earlier, first, sensor, seed), picture(later, second, sensor, seed), changes, spoken)


def _choose(plan: Plan, rng: np.random.Generator, sensor: Sensor) -> dict[int, tuple[str, str]]:
    """What happens to which items, by identity: (kind, new colour)."""
    groups: dict[str, list[Item]] = {}
    for item, _ in labelled(plan):
        if item.category in _VERBS:
            groups.setdefault(item.category, []).append(item)
    if not groups:
        return {}
    names = sorted(groups)
    chosen: dict[int, tuple[str, str]] = {}
    for category in rng.permutation(names)[: 1 if rng.random() < 0.7 else 2]:
        group = groups[str(category)]
        count = min(len(group), int(rng.integers(1, 7)))
        form = rng.random()
        for index in rng.permutation(len(group))[:count]:
            item = group[index]
            if form < 0.2 and category in _REPAINTED and sensor in ("rgb", "rgbn"):
                colours = _paints(item, plan.style.palette)
                others = [word for word in colours if word != item.attributes["colour"]]
                chosen[id(item)] = "changed", others[rng.integers(len(others))]
            elif form < 0.3:
                chosen[id(item)] = ("added" if rng.random() < 0.5 else "removed"), ""
            else:
                chosen[id(item)] = ("added" if form < 0.65 else "removed"), ""
    return chosen


def _paints(item: Item, palette: Palette) -> dict[str, tuple[float, float, float]]:
    return palette.paints if item.category == "storage tank" else palette.roofs


def _after(item: Item, what: tuple[str, str] | None, palette: Palette) -> Item | None:
    """The item as it is afterwards, None when it is gone."""
    if what is None or what[0] == "added":
        return item
    if what[0] == "removed":
        return None
    colours = _paints(item, palette)
    ratio = np.array(colours[what[1]]) / np.array(colours[item.attributes["colour"]])
    painted = np.clip(item.parts.colours * ratio, 0, 255)
    parts = replace(item.parts, colours=painted)
    return replace(item, parts=parts, attributes=item.attributes | {"colour": what[1]})


def _changes(
    plan: Plan,
    earlier: Plan,
    later: Plan,
    chosen: dict[int, tuple[str, str]],
    later_items: dict[int, Item | None],
    sensor: Sensor,
) -> tuple[Change, ...]:
    """The chosen items as objects, described by the picture in which they stand."""
    told = {
        name: {id(item): one for (item, _), one in zip(labelled(side), objects_of(side, sensor), strict=True)}
        for name, side in (("before", earlier), ("after", later))
    }
    changes = []
    for item in plan.items:
        kind = chosen.get(id(item), ("",))[0]
        if kind == "removed":
            changes.append(Change("removed", told["before"][id(item)]))
        elif kind == "added":
            changes.append(Change("added", told["after"][id(item)]))
        elif kind == "changed":
            changes.append(Change("changed", told["after"][id(later_items[id(item)])], item.attributes["colour"]))
    return tuple(changes)


def _spoken(changes: tuple[Change, ...], rng: np.random.Generator, count: int = 3) -> tuple[str, ...]:
    """Up to ``count`` different ways to say what changed."""
    if not changes:
        order = rng.permutation(len(_QUIET))[:count]
        return tuple(sentence(_QUIET[index]) for index in order)
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.kind, change.object.category), []).append(change)
    made: dict[str, None] = {}
    for _ in range(3 * count):
        if len(made) < count:
            made[sentence(joined([_clause(group, rng) for group in groups.values()]))] = None
    return tuple(made)


def _clause(group: list[Change], rng: np.random.Generator) -> str:
    """What happened to objects of one category: "two houses on the left have been built"."""
    objects = [change.object for change in group]
    verb, have = _VERBS[objects[0].category], "has" if len(group) == 1 else "have"
    place = where(objects)
    place = f" {place}" if place and rng.random() < 0.7 else ""
    if group[0].kind == "changed":
        turns = Counter((change.was, change.object.attributes["colour"]) for change in group)
        parts = []
        for (was, now), number in turns.items():
            thing = f"{was} {objects[0].category}"
            parts.append(
                f"{article(thing)} has become {now}" if number == 1 else f"{number} {thing}s have become {now}"
            )
        return joined(parts) + (place if len(turns) == 1 else "")
    words = named(rng, objects)
    if group[0].kind == "removed":
        gone = _GOES[verb]
        return f"{words}{place} {have} {gone[rng.integers(len(gone))]}"
    if rng.random() < 0.3:
        are, were = ("is", "was") if len(group) == 1 else ("are", "were")
        return f"there {are} {words}{place} that {were} not there before"
    return f"{words}{place} {have} {'arrived' if verb == 'arrived' else f'been {verb}'}"
