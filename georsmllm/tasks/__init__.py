"""The unified task set: from what is known about an image to requests and answers, one form for every task.

``task`` and ``kind`` of a question say how its answer is scored:

    caption                       sentences; kind "change" for a pair of images
    class                         the class; kind is the class
    qa                            one or two words; kind presence, count, comp (comparison), area, change
    detect, refer, describe       regions, or none; kind is their form: point, box, obb (rotated box), poly
    change                        regions of what changed; kind is their form

A scalar (`Measure`) is answered by the regression head and not by digits, so it has a number for its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmrt.georsmllm.data import Question
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.tasks import ask, locate, wordings
from gmrt.georsmllm.tasks.change import Change, change_requests
from gmrt.georsmllm.tasks.phrases import Phrases
from gmrt.georsmllm.tasks.request import Request, pick

__all__ = ["Change", "Measure", "Request", "measures", "pair_questions", "pair_requests", "questions", "requests"]


@dataclass(frozen=True)
class Measure:
    """A request for a scalar, answered by the regression head: its words, which scalar it is, and the true number."""

    text: str
    name: str
    target: float


def requests(labels: SceneLabels, rng: np.random.Generator) -> list[Request]:
    """Requests of every task that the labels can answer, about twenty where everything is labelled.

    Which things are asked about is drawn from ``rng``; the same state gives the same requests.
    """
    phrases = Phrases(labels)
    return [
        *ask.caption(labels, rng),
        *ask.scene_class(labels),
        *ask.presence(phrases, rng),
        *ask.count(phrases, rng),
        *ask.comparison(phrases, rng),
        *ask.cover(labels, rng),
        *locate.detect(phrases, rng),
        *locate.refer(phrases, rng),
        *locate.describe(phrases, rng),
    ]


def questions(labels: SceneLabels, rng: np.random.Generator) -> list[Question]:
    """`requests`, each in a wording drawn from ``rng``."""
    return [request.question(rng) for request in requests(labels, rng)]


def pair_requests(
    before: SceneLabels, after: SceneLabels, changes: Sequence[Change], rng: np.random.Generator
) -> list[Request]:
    """Requests about what changed between two images of the same ground; ``changes`` lists all of it."""
    return list(change_requests(before, after, changes, rng))


def pair_questions(
    before: SceneLabels, after: SceneLabels, changes: Sequence[Change], rng: np.random.Generator
) -> list[Question]:
    """`pair_requests`, each in a wording drawn from ``rng``."""
    return [request.question(rng) for request in pair_requests(before, after, changes, rng)]


def measures(labels: SceneLabels, rng: np.random.Generator) -> list[Measure]:
    """A request for every scalar that is known of the image, in a wording drawn from ``rng``."""
    return [
        Measure(pick(rng, wordings.MEASURE).format(measure=name), name, target)
        for name, target in sorted(labels.measures.items())
    ]
