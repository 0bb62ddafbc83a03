"""What is asked about an example, in which words, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np

from gmrt.georsmllm import prompts
from gmrt.georsmllm.conditions import Category, format_condition
from gmrt.georsmllm.cyclic import Cycle, cycle
from gmrt.georsmllm.data import Example
from gmrt.georsmllm.evaluation.geometry import read_regions
from gmrt.georsmllm.evaluation.predict import Given, Look, Predictor
from gmrt.georsmllm.evaluation.tiles import merge, tiles_of
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.phrases import Phrases
from gmrt.georsmllm.tasks.request import worded
from gmrt.runtime.points import Region, format_regions
from gmrt.runtime.scene import Scene, decode_image, scene_from_array

Progress = Callable[[int, int], None]

PLACES = ("detect", "refer", "describe", "change")
"""Tasks that are answered by regions."""
MAX_TOKENS: Mapping[str, int] = {"caption": 96, "class": 24, "qa": 24, "measure": 24}
"""Where an answer is cut off, by task; `MOST_OF_PLACES` for regions."""
MOST_OF_PLACES = 256
WORDINGS = 10
"""Wordings of one request that are compared, at most."""
CYCLES = 2
"""Regions of an image that are described and located again."""


@dataclass(frozen=True)
class Asked:
    """One thing to ask about an image, and its answer.

    ``image`` is the example's number in its set; ``wordings`` opens with the canonical wording, which is scored.
    ``references`` holds all captions, else the one answer. ``target`` is the number of a measure, which ``kind`` names.
    ``category`` is that of a detection.
    """

    image: int
    task: str
    kind: str
    wordings: tuple[str, ...]
    references: tuple[str, ...]
    target: float | None = None
    category: str = ""

    @property
    def question(self) -> str:
        """The canonical wording."""
        return self.wordings[0]

    @property
    def wanted(self) -> str:
        """The answer; of several captions the first."""
        return self.references[0]

    @property
    def max_tokens(self) -> int:
        """Where the answer is cut off."""
        return MAX_TOKENS.get(self.task, MOST_OF_PLACES)


@dataclass(frozen=True)
class Item:
    """A question and the answer to it."""

    asked: Asked
    given: Given


@dataclass(frozen=True)
class Answers:
    """Everything that a model said about a set.

    ``items`` are answers to the canonical wordings; ``worded`` those to all wordings of some of the questions, the
    canonical one first; ``cycles`` the regions located from a phrase; ``unfamiliar`` whether each image (its number in
    the set) was flagged, without those of which the model cannot tell. ``look_ms`` is the time that seeing them took.
    """

    items: list[Item] = field(default_factory=list)
    worded: list[tuple[Asked, tuple[Given, ...]]] = field(default_factory=list)
    cycles: list[Cycle[int]] = field(default_factory=list)
    unfamiliar: dict[int, bool] = field(default_factory=dict)
    look_ms: list[float] = field(default_factory=list)


def asked_of(example: Example, number: int, *, every_category: bool = False) -> list[Asked]:
    """Caption, class, published questions, requests and measures of an example.

    With ``every_category`` the detections are those of every category that the labels list in full, present or not,
    instead of those among the requests.
    """
    pair = example.after is not None
    asked: list[Asked] = []
    if example.captions:
        said = wordings.WHAT_CHANGED if pair else prompts.CAPTION
        asked.append(Asked(number, "caption", "change" if pair else "", said, example.captions))
    if example.scene_class:
        asked.append(Asked(number, "class", example.scene_class, prompts.CLASS, (example.scene_class,)))
    left_out = {one.task for one in asked}
    if every_category and example.labels is not None:
        asked += _detections(example.labels, number)
        left_out.add("detect")
    asked += [Asked(number, q.task, q.kind, (q.text,), (q.answer,)) for q in example.questions]
    asked += [
        Asked(number, request.task, request.kind, request.wordings, (request.answer,))
        for request in example.requests
        if request.task not in left_out
    ]
    asked += [Asked(number, "measure", m.name, (m.text,), ("",), m.target) for m in example.measures]
    return asked


def _detections(labels: SceneLabels, number: int) -> Iterator[Asked]:
    phrases = Phrases(labels)
    for name in sorted((*phrases.present, *phrases.absent)):
        condition = Category(name)
        boxes = [phrases.measured.objects[i].as_region("box") for i in phrases.holding(condition)]
        said = worded(wordings.LOCATE["box"], condition)
        yield Asked(number, "detect", "box", said, (format_regions(boxes),), category=name)


def choose_worded(asked: Sequence[Asked], count: int, seed: int = 0) -> frozenset[Asked]:
    """Up to ``count`` questions to ask in every wording, as many of each task as there can be; no captions."""
    rng = np.random.default_rng(seed)
    by_task: dict[tuple[str, str], list[Asked]] = {}
    for index in rng.permutation(len(asked)):
        one = asked[int(index)]
        if len(one.wordings) > 1 and one.task != "caption":
            by_task.setdefault((one.task, one.kind if one.task == "qa" else ""), []).append(one)
    chosen: list[Asked] = []
    while len(chosen) < count and any(by_task.values()):
        chosen.extend(group.pop() for _, group in sorted(by_task.items()) if group)
    return frozenset(chosen[:count])


def ask_all(
    predictor: Predictor,
    examples: Mapping[int, Example],
    asked: Mapping[int, Sequence[Asked]],
    *,
    tile: int | None = None,
    compared: frozenset[Asked] = frozenset(),
    progress: Progress | None = None,
) -> Answers:
    """Ask everything about every example, both by the example's number in its set.

    ``tile`` is the size in pixels of the tiles that detections are asked on; those in ``compared`` are asked in every
    wording. A pair is left out when the model takes one image only.
    """
    answers = Answers()
    for done, (number, example) in enumerate(examples.items(), start=1):
        scenes = [decode_image(data) for data in (example.image, example.after) if data is not None]
        if len(scenes) <= predictor.max_images:
            whole = [one for one in asked[number] if tile is None or one.task != "detect"]
            started = perf_counter()
            look = predictor.look(*scenes)
            answers.look_ms.append((perf_counter() - started) * 1e3)
            if look.unfamiliar is not None:
                answers.unfamiliar[number] = look.unfamiliar
            _ask_whole(look, whole, compared, answers)
            answers.cycles.extend(_cycles(look, example, number))
            if tile is not None:
                on_tiles = [one for one in asked[number] if one.task == "detect"]
                answers.items.extend(_ask_on_tiles(predictor, scenes[0], on_tiles, tile))
        if progress:
            progress(done, len(examples))
    return answers


def _ask_whole(look: Look, asked: Sequence[Asked], compared: frozenset[Asked], answers: Answers) -> None:
    for one in asked:
        given = look.ask(one.question, one.max_tokens)
        answers.items.append(Item(one, given))
        if one in compared:
            others = (look.ask(words, one.max_tokens) for words in one.wordings[1:WORDINGS])
            answers.worded.append((one, (given, *others)))


def _ask_on_tiles(predictor: Predictor, scene: Scene, asked: Sequence[Asked], size: int) -> Iterator[Item]:
    """Ask for the same places on every tile, and put the answers together as one."""
    if not asked:
        return
    height, width = scene.rgb.shape[:2]
    tiles = tiles_of(width, height, size)
    given: list[list[Given]] = []
    for tile in tiles:
        column, row, across, down = tile
        part = slice(row, row + down), slice(column, column + across)
        look = predictor.look(scene_from_array(scene.rgb[part], scene.valid[part]))
        given.append([look.ask(one.question, one.max_tokens) for one in asked])
    for one, parts in zip(asked, zip(*given, strict=True), strict=True):
        # What one tile says that is no location is lost with that tile alone.
        found = [(tile, read_regions(part.text) or ()) for tile, part in zip(tiles, parts, strict=True)]
        yield Item(
            one,
            Given(
                text=format_regions(merge(found, width, height)),
                confidence=float(np.exp(np.mean([np.log(max(part.confidence, 1e-9)) for part in parts]))),
                cut=any(part.cut for part in parts),
                ms=sum(part.ms for part in parts),
            ),
        )


def _cycles(look: Look, example: Example, number: int) -> Iterator[Cycle[int]]:
    """Some labelled things, each said in a phrase that singles it out and located by the phrase.

    The model does not describe regions, so the phrases follow from the labels (`tasks.phrases`).
    """
    if example.labels is None or example.after is not None:
        return
    phrases = Phrases(example.labels)
    rng = np.random.default_rng((number, 3))
    found = 0
    for target in rng.permutation(len(phrases.measured.objects)):
        condition = phrases.referring(int(target), rng)
        if condition is None:
            continue
        phrase = format_condition(condition, many=False)
        region = phrases.measured.objects[target].as_region("box")
        yield cycle(number, region, lambda _image, _region, said=phrase: said, partial(_locate, look))
        found += 1
        if found == CYCLES:
            return


def _locate(look: Look, _image: int, phrase: str) -> Sequence[Region]:
    said = wordings.LOCATE_ONE["box"][0].format(one=phrase)
    return read_regions(look.ask(said, MOST_OF_PLACES).text) or ()
