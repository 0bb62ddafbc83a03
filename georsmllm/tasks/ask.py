"""Questions answered in words: caption, class, presence, count, comparison, area."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmrt.georsmllm import prompts
from gmrt.georsmllm.conditions import Category, Condition
from gmrt.georsmllm.conditions.words import plural
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.phrases import Phrases, candidates
from gmrt.georsmllm.tasks.request import IN_VAIN, Request, counted, pick, shuffled, worded

CLEAR = 0.01
"""A share of the image this close to a border between two answers is not asked for."""
COUNTED = 100
"""More things than this nobody counts."""


def caption(labels: SceneLabels, rng: np.random.Generator) -> Iterator[Request]:
    """One of the image's captions."""
    if labels.captions:
        yield Request("caption", "", prompts.CAPTION, pick(rng, labels.captions))


def scene_class(labels: SceneLabels) -> Iterator[Request]:
    """The image's class; its kind is the class, too, so that scores can be told apart by it."""
    if labels.scene_class:
        yield Request("class", labels.scene_class, prompts.CLASS, labels.scene_class)


def presence(phrases: Phrases, rng: np.random.Generator) -> Iterator[Request]:
    """Two questions, one for something that is there and one for something that is not, where the scene has both."""
    wanted = {"yes", "no"}
    for condition, number in _clear(phrases, rng):
        answer = "yes" if number else "no"
        if answer in wanted:
            wanted.remove(answer)
            yield Request("qa", "presence", worded(wordings.PRESENCE, condition), answer)
        if not wanted:
            return


def count(phrases: Phrases, rng: np.random.Generator) -> Iterator[Request]:
    """How many of something there are, twice; as rarely as `IN_VAIN` says, there is none of it."""
    clear = [(condition, number) for condition, number in _clear(phrases, rng) if number <= COUNTED]
    some, none = ([pair for pair in clear if bool(pair[1]) is wanted] for wanted in (True, False))
    for _ in range(2):
        pool = none if none and (rng.random() < IN_VAIN or not some) else some
        if pool:
            condition, _ = pool.pop()
            things = [phrases.measured.objects[i] for i in phrases.holding(condition)]
            yield counted(worded(wordings.COUNT, condition), things)


def _clear(phrases: Phrases, rng: np.random.Generator) -> Iterator[tuple[Condition, int]]:
    for condition in candidates(phrases, rng):
        if not phrases.measured.is_ambiguous(condition):
            yield condition, len(phrases.holding(condition))


def comparison(phrases: Phrases, rng: np.random.Generator) -> Iterator[Request]:
    """Whether there are more of one category than of another; as many is not more. Kind "comp", as in RSVQA."""
    if not phrases.present:
        return
    present = pick(rng, phrases.present)
    others = [name for name in phrases.present if name != present]
    if phrases.absent and (rng.random() < IN_VAIN or not others):
        others = list(phrases.absent)
    if not others:
        return
    first, second = shuffled(rng, [present, pick(rng, others)])
    many, few = (len(phrases.holding(Category(name))) for name in (first, second))
    slots = {"first": plural(first), "second": plural(second)}
    said = tuple(words.format(**slots) for words in wordings.COMPARISON)
    yield Request("qa", "comp", said, "yes" if many > few else "no")


def cover(labels: SceneLabels, rng: np.random.Generator) -> Iterator[Request]:
    """The area of land covers: a share to the nearest ten per cent, a "more than half", and which is the largest."""
    names = sorted(labels.fractions)
    if not names:
        return
    name = pick(rng, names)
    tens = labels.fractions[name] * 10
    if abs(tens - np.floor(tens) - 0.5) >= 10 * CLEAR:
        yield Request("qa", "area", _covered(wordings.COVER_SHARE, name), f"{round(tens) * 10} percent")
    name = pick(rng, names)
    if abs(labels.fractions[name] - 0.5) >= CLEAR:
        answer = "yes" if labels.fractions[name] > 0.5 else "no"
        yield Request("qa", "area", _covered(wordings.COVER_HALF, name), answer)
    first, *others = sorted(names, key=lambda n: -labels.fractions[n])
    if all(labels.fractions[first] - labels.fractions[n] >= CLEAR for n in others[:1]):
        yield Request("qa", "area", wordings.COVER_MOST, first)


def _covered(said: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(words.format(cover=plural(name)) for words in said)
