"""One thing to ask about an image: all its wordings and its one answer; and how regions are written in an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gmrt.georsmllm.conditions import Condition, format_condition
from gmrt.georsmllm.data import Question
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.shapes import area, box_outline, iou, minimal_rotated_box, simplify
from gmrt.runtime.peaks import ROWS, UPRIGHT
from gmrt.runtime.points import GRID, Kind, Region, format_regions, from_grid, region

T = TypeVar("T")

MOST: dict[Kind, int] = {"point": 20, "box": 20, "obb": 12, "poly": 6}
"""More regions than this are not asked for: an answer stays below about 150 tokens."""
IN_VAIN = 0.2
"""Share of requests for something that is not there, so that "none" and 0 are answers like others."""
CORNERS = 12
"""Corners of a polygon in an answer, at most."""
FIT = 0.9
"""A polygon that does not keep this overlap with the true outline is not asked for."""


@dataclass(frozen=True)
class Request:
    """What can be asked in any of ``wordings``, and its answer; ``task`` and ``kind`` are those of a `Question`.

    Of a count ``counted`` is what is counted, as boxes in the form of an answer, where its places are known.
    """

    task: str
    kind: str
    wordings: tuple[str, ...]
    answer: str
    counted: str = ""

    def question(self, rng: np.random.Generator) -> Question:
        """The request in a wording drawn at random."""
        return Question(pick(rng, self.wordings), self.answer, self.task, self.kind)

    def canonical(self) -> Question:
        """The request in its first wording, which scores are reported for."""
        return Question(self.wordings[0], self.answer, self.task, self.kind)


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def shuffled(rng: np.random.Generator, things: Sequence[T]) -> list[T]:
    """The things in a random order."""
    return [things[int(i)] for i in rng.permutation(len(things))]


def worded(wordings: Sequence[str], condition: Condition) -> tuple[str, ...]:
    """The wordings with a condition said in their slots."""
    slots = {
        "the": format_condition(condition),
        "all": format_condition(condition, article="all"),
        "bare": format_condition(condition, article=""),
        "a": format_condition(condition, many=False, article="a"),
        "one": format_condition(condition, many=False),
    }
    return filled(wordings, slots)


def filled(wordings: Sequence[str], slots: dict[str, str]) -> tuple[str, ...]:
    """The wordings with their slots filled; after a phrase with a comma the form stands behind a comma, too."""
    if any("," in words for words in slots.values()):
        wordings = [words.replace("} as ", "}, as ").replace("} with ", "}, with ") for words in wordings]
    return tuple(words.format(**slots) for words in wordings)


def reading_order(things: Iterable[SceneObject]) -> list[SceneObject]:
    """Things in rows from top to bottom, within a row from left to right, by their centres.

    A set has no order and text has one, so the model is taught a single one; it has to be seen in the image, not in the
    labels. Rows, because of two things side by side nobody could say which is a thousandth higher.
    """
    return sorted(things, key=lambda thing: (int(thing.centre[1] * ROWS), thing.centre[0], thing.centre[1]))


def as_region(thing: SceneObject, form: Kind) -> Region | None:
    """A thing in a form; None when its label does not hold that form (a box has no outline) or 12 corners do not do."""
    if form in ("point", "box"):
        return thing.as_region(form)
    if form == "obb":
        return None if thing.exact == "box" else region("obb", _rotated(thing))
    if thing.exact != "poly":
        return None
    found = region("poly", simplify(thing.points, CORNERS, flat=0.5 / GRID**2))
    written = np.array([[from_grid(x), from_grid(y)] for x, y in found.points])
    return found if iou(written, np.clip(thing.points, 0, 1)) >= FIT else None


def _rotated(thing: SceneObject) -> Sequence[tuple[float, float]]:
    upright, rotated = box_outline(*thing.box), minimal_rotated_box(thing.points)
    chosen = upright if area(rotated) > UPRIGHT * area(upright) else rotated
    return [(float(x), float(y)) for x, y in chosen]


def counted(said: tuple[str, ...], things: Sequence[SceneObject]) -> Request:
    """How many things there are, asked in the wordings ``said``."""
    places = format_regions([thing.as_region("box") for thing in reading_order(things)])
    return Request("qa", "count", said, str(len(things)), places)


def located(things: Sequence[SceneObject], form: Kind) -> str | None:
    """Things as a location answer, in reading order; None when one of them has no such form, or they are too many."""
    if len(things) > MOST[form]:
        return None
    regions = [found for thing in reading_order(things) if (found := as_region(thing, form)) is not None]
    return format_regions(regions) if len(regions) == len(things) else None
