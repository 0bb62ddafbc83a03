"""What the tower should see in an image, as arrays: the targets of its warm-up.

Labels of an image become maps on a grid of `GRID` × `GRID` cells (centres and extents of objects, as in Zhou et al.'s
"Objects as Points", arXiv 1904.07850) and targets for the image as a whole (class, words of its captions, answers to
yes-or-no questions, shares of land cover, measures). What is not labelled is masked, so datasets of every kind mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.centres import splat
from gmrt.georsmllm.data import Example, names_place
from gmrt.georsmllm.evaluation.scores import normalise
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.scenes.raster import coverage
from gmrt.georsmllm.shapes import minimal_rotated_box, turned_rectangle

GRID = 32
"""Cells along a side: four times as fine as the tower's tokens at 256 px."""
ORIENTATIONS = ("horizontal", "vertical", "diagonal")
"""Directions of an object's long side."""
LEAST = 12
"""A word or a question that fewer images carry is not a target."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """The names of everything that is predicted, in the order of the outputs."""

    classes: tuple[str, ...]
    categories: tuple[str, ...]
    colours: tuple[str, ...]
    tags: tuple[str, ...]
    covers: tuple[str, ...]
    measures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Targets:
    """Targets of one image; NaN where something is not known.

    ``heat`` and ``mask`` float32 [K, GRID, GRID] with ``known`` bool [K]; ``places`` int64 [N, 3] (category, row,
    column) with ``boxes`` float32 [N, 4] (offset of the centre in cells, natural log of width and height in cells),
    ``rectangles`` float32 [N, 4] (natural log of the turned box's long and short side, cosine and sine of twice its
    angle), ``colour`` and ``orientation`` int64 [N], −1 where none is told; ``scene_class`` −1 or its index; ``tags``,
    ``covers`` and ``measures`` float32.
    """

    heat: FloatArray
    mask: FloatArray
    known: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int64]
    boxes: FloatArray
    rectangles: FloatArray
    colour: npt.NDArray[np.int64]
    orientation: npt.NDArray[np.int64]
    scene_class: int
    tags: FloatArray
    covers: FloatArray
    measures: FloatArray


def tags_of(example: Example) -> dict[str, float]:
    """Share of the captions that hold each word, and 1 or 0 for each question answered with yes or no.

    What is said of a pair is said of its difference, which one image does not show.
    """
    tags: dict[str, float] = {}
    if example.after is not None:
        return tags
    if example.captions:
        held = Counter(word for caption in example.captions for word in set(normalise(caption).split()))
        tags |= {word: number / len(example.captions) for word, number in held.items()}
    for question in example.questions:
        if question.answer in ("yes", "no"):
            tags[normalise(question.text)] = float(question.answer == "yes")
    return tags


def vocabulary(examples: Sequence[Example]) -> Vocabulary:
    """Collect the names that occur, sorted; rare words and questions are left out."""
    tags = Counter(tag for example in examples for tag in tags_of(example))
    objects = [thing for e in examples if e.labels for thing in e.labels.objects]
    labels = [e.labels for e in examples if e.labels]

    def names(found: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({name for name in found if name}))

    return Vocabulary(
        classes=names(e.scene_class for e in examples),
        categories=names(thing.category for thing in objects),
        colours=names(thing.attributes.get("colour", "") for thing in objects),
        tags=names(tag for tag, number in tags.items() if number >= LEAST),
        covers=names(name for one in labels for name in one.fractions),
        measures=names(name for one in labels for name in one.measures),
    )


def turn_labels(labels: SceneLabels, turn: int) -> SceneLabels:
    """Labels of the image as `gmrt.georsmllm.features.turned` turns it; words for a direction go with it."""
    if turn % 8 == 0:
        return labels
    return replace(labels, objects=tuple(_turned(thing, turn) for thing in labels.objects))


def _turned(thing: SceneObject, turn: int) -> SceneObject:
    points = thing.points
    if turn >= 4:
        points = np.stack([1 - points[:, 0], points[:, 1]], axis=1)
    for _ in range(turn % 4):  # np.rot90 takes the right edge to the top
        points = np.stack([points[:, 1], 1 - points[:, 0]], axis=1)
    words = dict(thing.attributes)
    if turn % 2 and words.get("orientation") in ("horizontal", "vertical"):
        words["orientation"] = "vertical" if words["orientation"] == "horizontal" else "horizontal"
    return replace(thing, outline=tuple((float(x), float(y)) for x, y in points), attributes=words)


def targets(example: Example, names: Vocabulary, turn: int = 0) -> Targets:
    """Targets of an image in one of its eight symmetries."""
    labels = turn_labels(example.labels or SceneLabels(), turn)
    kinds = {name: index for index, name in enumerate(names.categories)}
    heat = np.zeros((len(kinds), GRID, GRID), np.float32)
    mask = np.zeros_like(heat)
    places, boxes, rectangles, colour, orientation = [], [], [], [], []
    for thing in labels.objects:
        if thing.category not in kinds:
            continue
        kind = kinds[thing.category]
        x0, y0, x1, y1 = (np.clip(v, 0, 1) * GRID for v in thing.box)
        x, y, wide, high = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        column, row = min(int(x), GRID - 1), min(int(y), GRID - 1)
        splat(heat[kind], column, row, wide, high)
        patch = coverage(thing.points * GRID, GRID, GRID)
        if not patch.empty:
            window = mask[kind, patch.rows, patch.columns]
            np.maximum(window, patch.planes[0], out=window)
        places.append((kind, row, column))
        boxes.append((x - column, y - row, np.log(max(wide, 0.1)), np.log(max(high, 0.1))))
        rectangles.append(_rectangle(thing))
        colour.append(_index(names.colours, thing.attributes.get("colour", "")))
        orientation.append(_index(ORIENTATIONS, thing.attributes.get("orientation", "")))
    known = np.array([name in labels.exhaustive for name in names.categories], bool)
    tags = tags_of(example)
    silent = 0.0 if example.captions and example.after is None else np.nan

    def tag_of(tag: str) -> float:
        """A word that no caption uses is absent; a question that was not asked is not answered; nor what has turned."""
        if turn % 8 and names_place(tag):
            return np.nan
        return tags.get(tag, np.nan if " " in tag else silent)

    return Targets(
        heat,
        mask,
        known,
        np.array(places, np.int64).reshape(-1, 3),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(rectangles, np.float32).reshape(-1, 4),
        np.array(colour, np.int64),
        np.array(orientation, np.int64),
        _index(names.classes, example.scene_class),
        np.array([tag_of(tag) for tag in names.tags], np.float32),
        _table(labels.fractions, names.covers, 0.0 if labels.fractions else np.nan),
        _table(labels.measures, names.measures, np.nan),
    )


def _rectangle(thing: SceneObject) -> tuple[float, float, float, float]:
    if thing.exact == "box":
        return (np.nan,) * 4
    long, short, cosine, sine = turned_rectangle(minimal_rotated_box(thing.points))
    return np.log(max(long * GRID, 0.1)), np.log(max(short * GRID, 0.1)), cosine, sine


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _table(values: dict[str, float], names: Sequence[str], absent: float) -> FloatArray:
    return np.array([values.get(name, absent) for name in names], np.float32)
