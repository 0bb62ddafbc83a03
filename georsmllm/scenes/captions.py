"""Captions from a small grammar: many ways to say what is true of a scene, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gmrt.georsmllm.objects import SceneLabels, SceneObject

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_OPENINGS = ("this is {a}", "an aerial view of {a}", "the image shows {a}", "{a} seen from above", "here is {a}")
_LANDS = {"crop": "crops", "tree": "trees", "building": "roofs", "solar panel": "solar panels"}
_SCENES = {
    "": "an area",
    "agricultural": "farmland",
    "storage tanks": "a tank farm",
}


def plural(word: str) -> str:
    """More than one of a category."""
    return f"{word}s"


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def number(count: int) -> str:
    """A whole number as a word up to twelve, in digits beyond."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def amount(rng: np.random.Generator, thing: str, count: int) -> str:
    """How many of something, exactly or loosely: "seven cars", "several cars"."""
    if count == 1:
        return article(thing) if rng.random() < 0.7 else f"one {thing}"
    loose = "a few" if 3 <= count <= 4 else "several" if 5 <= count <= 9 else "many" if count > 9 else number(count)
    return f"{loose if rng.random() < 0.35 else number(count)} {plural(thing)}"


def where(group: Sequence[SceneObject]) -> str:
    """The part of the picture that holds all of a group, if there is one: "on the left"; otherwise nothing."""
    points = [point for one in group for point in one.outline]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    upright = "top" if max(ys) < 0.5 else "bottom" if min(ys) > 0.5 else ""
    sideways = "left" if max(xs) < 0.5 else "right" if min(xs) > 0.5 else ""
    if upright and sideways:
        return f"in the {upright} {sideways} corner"
    return f"at the {upright}" if upright else f"on the {sideways}" if sideways else ""


def named(rng: np.random.Generator, group: Sequence[SceneObject]) -> str:
    """Objects of one category in words, at times with the colour that all of them share."""
    colours = Counter(one.attributes.get("colour", "") for one in group)
    colour = next(iter(colours)) if len(colours) == 1 and rng.random() < 0.7 else ""
    return amount(rng, f"{colour} {group[0].category}".strip(), len(group))


def joined(parts: list[str]) -> str:
    """Parts of a sentence with commas and "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(words: str) -> str:
    """Words with a capital at the start and a stop at the end."""
    return f"{words[0].upper()}{words[1:]}."


def captions(labels: SceneLabels, facts: tuple[str, ...], rng: np.random.Generator, count: int = 5) -> tuple[str, ...]:
    """Up to ``count`` different captions for a labelled scene; ``facts`` are clauses known to be true.

    Only categories that are listed to the last one are spoken of.
    """
    groups: dict[str, list[SceneObject]] = {}
    for one in labels.objects:
        if one.category in labels.exhaustive and plural(one.category) != labels.scene_class != one.category:
            groups.setdefault(one.category, []).append(one)
    ranked = sorted(groups.values(), key=lambda group: -len(group) * group[0].area)[:4]
    scene = _SCENES.get(labels.scene_class) or article(labels.scene_class)
    clauses = [*facts, *_land(labels)]
    made: dict[str, None] = {}
    for _ in range(3 * count):
        if len(made) == count:
            break
        made[_caption(rng, scene, ranked, clauses)] = None
    return tuple(made)


def _land(labels: SceneLabels) -> list[str]:
    ranked = sorted(labels.fractions.items(), key=lambda pair: -pair[1])
    names = [_LANDS.get(name, name) for name, _ in ranked]
    if ranked and ranked[0][1] > 0.55:
        return [f"most of the image is covered by {names[0]}"]
    if len(ranked) > 1 and ranked[0][1] + ranked[1][1] > 0.6:
        return [f"the ground is mostly {names[0]} and {names[1]}"]
    return []


def _caption(rng: np.random.Generator, scene: str, groups: list[list[SceneObject]], clauses: list[str]) -> str:
    opening = _OPENINGS[rng.integers(len(_OPENINGS))].format(a=scene)
    kept = [group for group in groups if rng.random() < 0.7]
    told = []
    for group in kept:
        place = where(group)
        told.append(f"{named(rng, group)} {place}" if place and rng.random() < 0.6 else named(rng, group))
    form = int(rng.integers(3))
    if not told:
        words = opening
    elif form == 0:
        words = f"{opening} with {joined(told)}"
    else:
        verb = "is" if len(kept[0]) == 1 else "are"
        listed = f"there {verb} {joined(told)}"
        words = f"{opening}, and {listed}" if form == 1 else f"{listed} in this view of {scene}"
    if clauses and rng.random() < 0.7:
        clause = clauses[rng.integers(len(clauses))]
        words += f"; {clause}" if form == 1 or rng.random() < 0.4 else f", and {clause}"
    return sentence(words)
