"""What is asked about one image in one pass of the training, drawn from everything that is known about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gmrt.georsmllm import prompts
from gmrt.georsmllm.data import Example, Question, names_place
from gmrt.georsmllm.packing import Turn, value_answer
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.request import pick, shuffled

if TYPE_CHECKING:
    from gmrt.georsmllm.tasks import Request

BRANCHES: Mapping[str, int] = {"caption": 3, "class": 1, "is_class": 1, "qa": 3, "request": 8, "measure": 1}
"""Questions of each kind that are packed behind one image."""
LOCATED = ("detect", "refer", "describe", "change")
"""Tasks that are answered by regions."""
REWORDED = 0.3
"""Share of questions that are said with another ending or more politely."""


def turns(
    example: Example,
    classes: Sequence[str],
    branches: Mapping[str, int],
    rng: np.random.Generator,
    *,
    upright: bool,
    whole: bool = True,
) -> list[Turn]:
    """Draw questions and answers about one view of an image or a pair, up to ``branches`` of each kind.

    ``classes`` are those of the example's own source: the wrong ones for "is this a …?" come from there. What names a
    direction or a place is only asked when the view is ``upright`` (neither turned nor mirrored), and what an exact
    label counts or measures only when it is ``whole`` (nothing is cut off at its edges).
    """
    drawn = [
        *_captions(example, branches.get("caption", 0), rng, upright),
        *_classes(example, classes, branches, rng),
        *_questions(example, branches.get("qa", 0), rng, upright),
        *_requests(example, branches.get("request", 0), rng, upright, whole),
    ]
    if whole:
        chosen = shuffled(rng, example.measures)[: branches.get("measure", 0)]
        drawn += [Turn(measure.text, value_answer(measure.name), measure.target, measure.name) for measure in chosen]
    return [_reworded(turn, rng) for turn in drawn]


def askable(example: Example, branches: Mapping[str, int]) -> bool:
    """Whether ``branches`` ask anything of the image as it is: what is known about it and asked do not always meet."""
    known = {
        "caption": example.captions,
        "class": example.scene_class,
        "is_class": example.scene_class,
        "qa": example.questions,
        "request": example.requests,
        "measure": example.measures,
    }
    return any(branches.get(kind, 0) and given for kind, given in known.items())


def _captions(example: Example, count: int, rng: np.random.Generator, upright: bool) -> Iterator[Turn]:
    said = wordings.WHAT_CHANGED if example.after else prompts.CAPTION
    usable = [caption for caption in example.captions if upright or not names_place(caption)]
    for caption in shuffled(rng, usable)[:count]:
        yield Turn(pick(rng, said), caption)


def _classes(
    example: Example, classes: Sequence[str], branches: Mapping[str, int], rng: np.random.Generator
) -> Iterator[Turn]:
    if not example.scene_class:
        return
    for _ in range(branches.get("class", 0)):
        yield Turn(pick(rng, prompts.CLASS), example.scene_class)
    others = [name for name in classes if name != example.scene_class]
    for _ in range(branches.get("is_class", 0)):
        asked = pick(rng, others) if others and rng.random() < 0.5 else example.scene_class
        yield Turn(pick(rng, prompts.IS_CLASS).format(asked), "yes" if asked == example.scene_class else "no")


def _questions(example: Example, count: int, rng: np.random.Generator, upright: bool) -> Iterator[Turn]:
    usable = [question for question in example.questions if upright or not question.directional]
    for question in shuffled(rng, usable)[:count]:
        yield Turn(question.text, question.answer)


def _requests(example: Example, count: int, rng: np.random.Generator, upright: bool, whole: bool) -> Iterator[Turn]:
    for request in shuffled(rng, example.requests):
        if count == 0:
            return
        question = request.question(rng)
        if _holds(request, question, upright, whole):
            count -= 1
            located = question.task in LOCATED
            yield Turn(
                question.text,
                question.answer,
                form=question.kind if located else "",
                single=located and question.task == "refer",
                counted=request.counted,
            )


def _holds(request: Request, question: Question, upright: bool, whole: bool) -> bool:
    """Whether the answer is still true of the view; a caption's and a class's are, of most of an image."""
    return (upright or not (question.directional or request.counted)) and (
        whole or request.task in ("caption", "class")
    )


def _reworded(turn: Turn, rng: np.random.Generator) -> Turn:
    if rng.random() >= REWORDED:
        return turn
    return replace(turn, question=prompts.reword(turn.question, rng))
