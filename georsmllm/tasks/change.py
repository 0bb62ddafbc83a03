"""Pairs of images: whether, what, where and how many. The image before comes first; both show the same ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gmrt.georsmllm.conditions import Category, Measured, Position, format_condition
from gmrt.georsmllm.conditions.evaluate import canonical
from gmrt.georsmllm.conditions.words import MASS, PLACES, plural
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.locate import forms
from gmrt.georsmllm.tasks.phrases import WHERE
from gmrt.georsmllm.tasks.request import IN_VAIN, Request, counted, filled, located, pick
from gmrt.runtime.points import NONE

NOTHING = "nothing has changed"
CLAUSES = 4
"""Kinds of change that a caption names, at most; the commonest come first."""
_NUMBERS = ("", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Change:
    """One thing that is only in the second image ("new") or only in the first ("gone")."""

    what: Literal["new", "gone"]
    thing: SceneObject


def change_requests(
    before: SceneLabels, after: SceneLabels, changes: Sequence[Change], rng: np.random.Generator
) -> Iterator[Request]:
    """All requests about a pair; ``changes`` lists every change there is between the two.

    A category is asked for by name only where both images list all of its instances.
    """
    things = [change.thing for change in changes]
    yield Request("qa", "change", wordings.CHANGED, "yes" if changes else "no")
    yield Request("caption", "change", wordings.WHAT_CHANGED, change_caption(changes))
    for form in forms(rng):
        if answer := located(things, form) if things else NONE:
            yield Request("change", form, wordings.LOCATE_CHANGES[form], answer)
            break
    every = sorted({canonical(name) for name in before.exhaustive & after.exhaustive})
    for what, names in (("new", wordings.NEW), ("gone", wordings.GONE)) if every else ():
        affected = {canonical(change.thing.category) for change in changes if change.what == what}
        known = [name for name in every if name in affected]
        category = pick(rng, known if known and rng.random() >= IN_VAIN else every)
        found = [c.thing for c in changes if c.what == what and canonical(c.thing.category) == category]
        yield from _by_category(category, names, found, rng)


def _by_category(
    category: str, names: Sequence[str], things: Sequence[SceneObject], rng: np.random.Generator
) -> Iterator[Request]:
    bare = format_condition(Category(category), article="")
    name = pick(rng, names).format(bare=bare)
    slots = {"the": f"the {name}", "all": f"all {name}", "bare": name}
    for form in forms(rng):
        if answer := located(things, form) if things else NONE:
            yield Request("change", form, filled(wordings.LOCATE[form], slots), answer)
            break
    yield counted(filled(wordings.COUNT, slots), things)


def change_caption(changes: Sequence[Change]) -> str:
    """What changed, in one sentence: "three ships have appeared on the left and a building has disappeared"."""
    groups: dict[tuple[str, str], list[SceneObject]] = {}
    for change in changes:
        groups.setdefault((canonical(change.thing.category), change.what), []).append(change.thing)
    largest = sorted(groups, key=lambda key: (-len(groups[key]), key))[:CLAUSES]
    *first, last = [_clause(*key, groups[key]) for key in largest] or [NOTHING]
    return f"{', '.join(first)} and {last}" if first else last


def _clause(category: str, what: str, things: Sequence[SceneObject]) -> str:
    many = len(things) > 1
    verb = "appeared" if what == "new" else "disappeared"
    return f"{_counted(category, len(things))} {'have' if many else 'has'} {verb}{_place(things)}"


def _counted(category: str, number: int) -> str:
    if category.rpartition(" ")[2] in MASS:
        return category
    if number == 1:
        return format_condition(Category(category), many=False, article="a")
    return f"{_NUMBERS[number] if number < len(_NUMBERS) else number} {plural(category)}"


def _place(things: Sequence[SceneObject]) -> str:
    """Where in the image all of them are, when one word says so beyond doubt."""
    measured = Measured(things)
    for place in WHERE:
        if (measured.slack(Position(place)) >= 1).all():
            return f" {PLACES[place]}"
    return ""
