"""Requests answered by places: open-vocabulary detection, referring expressions, described objects.

The kind of a question is the form of its answer: "point", "box", "obb" or "poly". Where a prompt does not say which
form it wants, the answer is boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmrt.georsmllm.conditions import Category, Condition
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.phrases import Phrases
from gmrt.georsmllm.tasks.request import IN_VAIN, MOST, Request, located, pick, shuffled, worded
from gmrt.runtime.points import KINDS, NONE, Kind

BOXES = 0.5
"""Share of requests answered by boxes, the form that every kind of label has; the rest is spread over the others."""


def detect(phrases: Phrases, rng: np.random.Generator, number: int = 2) -> Iterator[Request]:
    """All things of a category, or "none"."""
    present = shuffled(rng, phrases.present)
    for _ in range(number):
        if phrases.absent and (rng.random() < IN_VAIN or not present):
            yield from _several("detect", phrases, Category(pick(rng, phrases.absent)), rng)
        elif present:
            yield from _several("detect", phrases, Category(present.pop()), rng)


def refer(phrases: Phrases, rng: np.random.Generator, number: int = 3) -> Iterator[Request]:
    """The one thing that a phrase singles out."""
    for target in rng.permutation(len(phrases.measured.objects))[:number]:
        condition = phrases.referring(int(target), rng)
        thing = phrases.measured.objects[target]
        if condition is None:
            continue
        for form in forms(rng):
            if answer := located([thing], form):
                yield Request("refer", form, worded(wordings.LOCATE_ONE[form], condition), answer)
                break


def describe(phrases: Phrases, rng: np.random.Generator, number: int = 3) -> Iterator[Request]:
    """All things that fulfil several conditions, with and, or and not; or "none"."""
    for _ in range(number):
        condition = phrases.described(rng, empty=bool(rng.random() < IN_VAIN), most=MOST["box"])
        if condition is not None:
            yield from _several("describe", phrases, condition, rng)


def _several(task: str, phrases: Phrases, condition: Condition, rng: np.random.Generator) -> Iterator[Request]:
    things = [phrases.measured.objects[i] for i in phrases.holding(condition)]
    for form in forms(rng):
        if answer := located(things, form) if things else NONE:
            yield Request(task, form, worded(wordings.LOCATE[form], condition), answer)
            return


def forms(rng: np.random.Generator) -> list[Kind]:
    """Forms to try, in this order: boxes first as often as `BOXES` says."""
    others = shuffled(rng, [form for form in KINDS if form != "box"])
    return ["box", *others] if rng.random() < BOXES else [*others, "box"]
