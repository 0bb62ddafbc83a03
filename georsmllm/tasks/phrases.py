"""Conditions worth asking about a scene: the one that singles a thing out, and descriptions of several conditions.

Only categories of which every instance is labelled take part: of the others nobody knows what else fulfils a condition.
Nothing ambiguous is returned (`Measured.is_ambiguous`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import get_args

import numpy as np

from gmrt.georsmllm.conditions import And, Attribute, Category, Condition, Measured, Not, Or, Position, Relation, Size
from gmrt.georsmllm.conditions.evaluate import canonical
from gmrt.georsmllm.conditions.tree import Link, Place, is_rank
from gmrt.georsmllm.conditions.words import ADJECTIVE_OF
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.tasks.request import pick, shuffled

WHERE: tuple[Place, ...] = (
    *("top left", "top right", "bottom left", "bottom right"),
    *("left", "right", "top", "bottom", "centre"),
)
"""Places in the image, the narrowest first."""
PLACES = tuple(map(Position, WHERE))
RANKS: tuple[Condition, ...] = (
    *(Size("largest"), Size("smallest")),
    *(Position("leftmost"), Position("rightmost"), Position("topmost"), Position("bottommost")),
)
COLOURS = ("white", "grey", "red", "blue", "green", "yellow", "black", "brown")
"""Colours to ask for in vain."""
LONGER = 0.3
"""Share of referring expressions that say more than they must, as people do."""
TRIES = 12


class Phrases:
    """What can be said about the countable objects of one scene."""

    def __init__(self, labels: SceneLabels) -> None:
        every = {canonical(category) for category in labels.exhaustive}
        self.measured = Measured(thing for thing in labels.objects if canonical(thing.category) in every)
        self.present = tuple(sorted(set(self.measured.categories)))
        self.absent = tuple(sorted(every - set(self.present)))

    def holding(self, condition: Condition) -> np.ndarray:
        """Indices of the objects that fulfil a condition."""
        return np.flatnonzero(self.measured.slack(condition) > 0)

    def referring(self, target: int, rng: np.random.Generator) -> Condition | None:
        """A short condition that holds for this object alone; None when nothing of up to three parts does."""
        category = Category(self.measured.categories[target])
        true = [part for part in self._parts(category.name) if self._holds(And((category, part)), target)]
        pairs = [(a, b) for i, a in enumerate(true) for b in true[i + 1 :] if not (is_rank(a) and is_rank(b))]
        levels: list[list[Condition]] = [[category], [And((category, part)) for part in true]]
        levels.append([And((category, *pair)) for pair in pairs if type(pair[0]) is not type(pair[1])])
        best = None
        for level in levels:
            if unique := next((c for c in shuffled(rng, level) if self._singles_out(c, target)), None):
                if best is not None or rng.random() >= LONGER:
                    return unique
                best = unique
        return best

    def _holds(self, condition: Condition, target: int) -> bool:
        return bool(self.measured.slack(condition)[target] >= 1)

    def _singles_out(self, condition: Condition, target: int) -> bool:
        return bool(np.array_equal(self.holding(condition), [target])) and not self.measured.is_ambiguous(condition)

    def _parts(self, category: str) -> list[Condition]:
        """Everything that could be said of the things of a category beside its name."""
        ranks = RANKS if self.measured.categories.count(category) > 1 else ()
        return [*self.attributes(category), *PLACES, *ranks, *self._relations(category)]

    def attributes(self, category: str) -> list[Condition]:
        """Attributes that some of the category have and that an adjective can say."""
        pairs = zip(self.measured.attributes, self.measured.categories, strict=True)
        held = {pair for words, name in pairs if name == category for pair in words.items()}
        return [Attribute(*pair) for pair in sorted(held & set(ADJECTIVE_OF))]

    def _relations(self, category: str) -> list[Condition]:
        others = [Category(name) for name in self.present if name != category]
        return [Relation(link, other) for link, other in product(get_args(Link), others)]

    def described(self, rng: np.random.Generator, *, empty: bool, most: int) -> Condition | None:
        """Several conditions on a category that hold for none (``empty``) or for some of its objects, up to ``most``.

        None when no such description is found in some tries.
        """
        if not self.present:
            return None
        for _ in range(TRIES):
            category = pick(rng, self.present)
            condition = pick(rng, _SHAPES)(self, category, rng)
            if condition is None or self.measured.is_ambiguous(condition):
                continue
            count = len(self.holding(condition))
            if (count == 0) if empty else (0 < count <= most and not self._says_nothing(condition, category)):
                return condition
        return None

    def _says_nothing(self, condition: Condition, category: str) -> bool:
        return bool(np.array_equal(self.holding(condition), self.holding(Category(category))))

    def some(self, kind: str, category: str, rng: np.random.Generator) -> Condition | None:
        """One condition of a kind that fits the category, true of some of its things or not."""
        if kind == "attribute":
            return self._some_attribute(category, rng)
        if kind == "rank":
            return pick(rng, RANKS)
        if kind == "relation":
            relations = self._relations(category)
            return pick(rng, relations) if relations else None
        return pick(rng, PLACES)

    def _some_attribute(self, category: str, rng: np.random.Generator) -> Condition | None:
        held = self.attributes(category)
        coloured = any(isinstance(part, Attribute) and part.kind == "colour" for part in held)
        if coloured and rng.random() < 0.2:
            return Attribute("colour", pick(rng, COLOURS))
        return pick(rng, held) if held else None


Shape = Callable[[Phrases, str, np.random.Generator], Condition | None]


def _both(*kinds: str) -> Shape:
    """A category with several conditions; "not rank" and so on negate."""

    def shape(phrases: Phrases, category: str, rng: np.random.Generator) -> Condition | None:
        parts: list[Condition] = [Category(category)]
        for kind in kinds:
            part = phrases.some(kind.removeprefix("not "), category, rng)
            if part is None:
                return None
            parts.append(Not(part) if kind.startswith("not ") else part)
        return And(tuple(parts))

    return shape


def _either(*kinds: str) -> Shape:
    """A category with one of two conditions, perhaps with a third."""

    def shape(phrases: Phrases, category: str, rng: np.random.Generator) -> Condition | None:
        parts = [phrases.some(kind, category, rng) for kind in kinds]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or known[0] == known[1]:
            return None
        return And((Category(category), Or(tuple(known[:2])), *known[2:]))

    return shape


def _except_the_ones(phrases: Phrases, category: str, rng: np.random.Generator) -> Condition | None:
    """Such as "the tanks, but not the white ones on the left"."""
    left_out = _both("attribute", "place")(phrases, category, rng)
    if not isinstance(left_out, And):
        return None
    return And((Category(category), Not(And(left_out.parts[1:]))))


def _two_categories(phrases: Phrases, category: str, rng: np.random.Generator) -> Condition | None:
    """Such as "the white tanks and the ships"; no place, which could be meant for one of them or for both."""
    others = [name for name in (*phrases.present, *phrases.absent) if name != category]
    if not others:
        return None
    part = phrases.some("attribute", category, rng)
    first = Category(category) if part is None else And((Category(category), part))
    return Or((first, Category(pick(rng, others))))


_SHAPES: tuple[Shape, ...] = (
    _both("attribute", "place"),
    _both("attribute", "relation"),
    _both("place", "relation"),
    _both("attribute", "place", "relation"),
    _both("not attribute"),
    _both("not place"),
    _both("not attribute", "place"),
    _both("attribute", "not place"),
    _both("relation", "not attribute"),
    _both("not relation"),
    _both("not rank"),
    _both("attribute", "not rank"),
    _both("place", "not rank"),
    _either("attribute", "attribute"),
    _either("attribute", "place"),
    _either("attribute", "attribute", "place"),
    _except_the_ones,
    _two_categories,
)


def candidates(phrases: Phrases, rng: np.random.Generator) -> Iterator[Condition]:
    """Simple conditions for yes-or-no and counting: categories, present and absent, alone and with one part."""
    for category in shuffled(rng, (*phrases.present, *phrases.absent)):
        yield Category(category)
        part = phrases.some(pick(rng, ("attribute", "place")), category, rng)
        if part is not None:
            yield And((Category(category), part))
