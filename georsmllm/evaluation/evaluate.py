"""``gmrt eval``: one table of scores for a model on a labelled set, beside what needs no image at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.evaluation.ask import Answers, Asked, Item, Progress, ask_all, asked_of, choose_worded
from gmrt.georsmllm.evaluation.predict import Predictor
from gmrt.georsmllm.evaluation.reliability import reliability_table
from gmrt.georsmllm.evaluation.scores import Row, difference, mean_row
from gmrt.georsmllm.evaluation.strangers import FAMILIES, strangers
from gmrt.georsmllm.evaluation.table import Table, outcomes_of, right, tabulate
from gmrt.georsmllm.sources import read_source

STRANGERS = 50
"""Pictures of something else, of each family."""
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?")


@dataclass(frozen=True)
class LabelledSet:
    """A set as it is scored: its name, all examples, and the questions to each; those in ``chosen`` are asked about.

    The others only vote in the baselines.
    """

    name: str
    examples: tuple[Example, ...]
    asked: dict[int, list[Asked]]
    chosen: range


def read_set(path: Path | str, *, reader: str = "", split: str | None = None, images: str = "") -> LabelledSet:
    """Read a parquet file, a table of images, or with a ``reader`` of `gmrt.georsmllm.readers` a public dataset.

    ``images`` is "first:last" as in a slice of Python: "160:", ":100", "-40:". Where a set has objects and no requests
    of its own, every category is located in every image. Raises `DatasetError` for a set that cannot be read, or in
    which there is nothing to ask.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(
            f"there is no dataset at {path}: give a parquet file, a CSV table, or a dataset's folder and --reader"
        )
    examples = tuple(read_source({"path": str(path), "reader": reader, "split": split} if reader else path))
    name = path.stem if path.suffix else path.name
    name += f"-{images.replace(':', '-to-')}" if images else ""
    chosen = range(len(examples))[_slice(images)]
    return labelled_set(name, examples, chosen, every_category=bool(reader) or not _has_requests(path))


def labelled_set(
    name: str, examples: Sequence[Example], chosen: range | None = None, *, every_category: bool = False
) -> LabelledSet:
    """Examples and what is asked about each (`asked_of`); all are ``chosen`` when it is not said.

    Raises `DatasetError` when there is nothing to ask.
    """
    asked = {number: asked_of(each, number, every_category=every_category) for number, each in enumerate(examples)}
    chosen = range(len(examples)) if chosen is None else chosen
    if not any(asked[number] for number in chosen):
        raise DatasetError(f"{name}: no captions, classes, questions or objects to score against")
    return LabelledSet(name, tuple(examples), asked, chosen)


def _slice(text: str) -> slice:
    found = _SLICE.fullmatch(text or ":")
    if found is None:
        raise DatasetError(f"images are chosen as first:last, such as 160: or :100 or -40:, got {text!r}")
    first, last = (int(number) if number else None for number in found.groups())
    return slice(first, last)


def _has_requests(path: Path) -> bool:
    import pyarrow.parquet as pq

    return path.suffix.lower() != ".csv" and path.is_file() and "requests" in pq.read_schema(path).names


@dataclass(frozen=True)
class Scores:
    """What a model gave on a set: the rows by task, and the answers behind them."""

    table: Table
    answers: Answers


def score(
    predictor: Predictor,
    labelled: LabelledSet,
    *,
    tile: int | None = None,
    wordings: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Ask a model everything about the chosen images of a set, and tabulate its answers."""
    chosen = {number: labelled.examples[number] for number in labelled.chosen}
    askable = [one for number, example in chosen.items() if _fits(example, predictor) for one in labelled.asked[number]]
    compared = choose_worded([o for o in askable if tile is None or o.task != "detect"], wordings, seed)
    answers = ask_all(predictor, chosen, labelled.asked, tile=tile, compared=compared, progress=progress)
    if not answers.items:
        raise DatasetError(
            f"{labelled.name} holds pairs of images only, and {predictor.name} takes one image at a time"
        )
    classes = {number: e.scene_class for number, e in enumerate(labelled.examples) if e.scene_class}
    return Scores(tabulate(answers, labelled.asked, classes), answers)


def stranger_rows(predictor: Predictor, count: int = STRANGERS, seed: int = 0) -> list[Row]:
    """Share of pictures of something else that the model flags, by family; nothing when it cannot tell."""
    flags: dict[str, list[float]] = {}
    for family in FAMILIES:
        looks = [predictor.look(scene).unfamiliar for scene in strangers(family, count, seed)]
        if any(flag is None for flag in looks):
            return []
        flags[family] = [float(bool(flag)) for flag in looks]
    every = [flag for group in flags.values() for flag in group]
    rows = [mean_row("flagged, of strangers", every, range(len(every)))]
    return rows + [mean_row(f"flagged, of {family}", group, range(len(group))) for family, group in flags.items()]


def run(
    predictor: Predictor,
    labelled: LabelledSet,
    *,
    against: Predictor | None = None,
    tile: int | None = None,
    wordings: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a model on a set, and with ``against`` how far another model is behind it on the same items.

    Returns a JSON-ready dictionary: model, dataset, images, scores {task: {name: {value, low, high, items, scale}}},
    with ``against`` also {against, difference: {value, low, high}} in each; reliability, cyclic, times in
    milliseconds, notes, and every answer.
    """

    def part(number: int) -> Progress | None:
        models = 1 if against is None else 2
        total = len(labelled.chosen)
        return progress and (lambda done, _total: progress(number * total + done, models * total))

    own = score(predictor, labelled, tile=tile, wordings=wordings, seed=seed, progress=part(0))
    other = against and score(against, labelled, tile=tile, wordings=wordings, seed=seed, progress=part(1))
    if rows := stranger_rows(predictor):
        own.table.setdefault("unfamiliar", []).extend(rows)
    theirs = {(task, row.name): row for task, rows in other.table.items() for row in rows} if other else {}
    return {
        "model": predictor.name,
        **({"against": against.name} if against else {}),
        "dataset": labelled.name,
        "tile": tile,
        "images": len(labelled.chosen),
        "scores": {
            task: {row.name: _numbers(row, theirs.get((task, row.name)), seed) for row in rows}
            for task, rows in own.table.items()
        },
        "reliability": reliability_table(*outcomes_of(own.answers.items)[:2]),
        "cyclic": dict(Counter(each.outcome for each in own.answers.cycles)),
        "times": {
            "look": _median(own.answers.look_ms),
            "answer": _median([item.given.ms for item in own.answers.items]),
        },
        "notes": _notes(predictor, labelled),
        "answers": [_answer(item, labelled) for item in own.answers.items],
    }


def _fits(example: Example, predictor: Predictor) -> bool:
    return example.after is None or predictor.max_images > 1


def _numbers(row: Row, other: Row | None, seed: int) -> dict[str, Any]:
    numbers: dict[str, Any] = {**row.score(seed).to_dict(), "scale": row.scale}
    if other is not None:
        gap = difference(row, other, seed)
        numbers["against"] = other.score(seed).value
        numbers["difference"] = {"value": gap.value, "low": gap.low, "high": gap.high}
    return numbers


def _median(times: Sequence[float]) -> float:
    return float(np.median(times)) if times else 0.0


def _notes(predictor: Predictor, labelled: LabelledSet) -> list[str]:
    pairs = sum(not _fits(labelled.examples[number], predictor) for number in labelled.chosen)
    return [f"{pairs} pairs are left out: this model takes one image at a time"] if pairs else []


def _answer(item: Item, labelled: LabelledSet) -> dict[str, Any]:
    asked, given = item.asked, item.given
    outcome = right(item)
    return {
        "image": labelled.examples[asked.image].name,
        "task": asked.task,
        "kind": asked.kind,
        "question": asked.question,
        "wanted": list(asked.references) if asked.task == "caption" else asked.wanted,
        "given": given.text,
        **({"target": asked.target, "value": given.value} if asked.target is not None else {}),
        "confidence": round(given.confidence, 4),
        "cut": given.cut,
        "right": None if outcome is None else bool(outcome),
    }


def format_table(result: dict[str, Any]) -> str:
    """The scores as a plain table with 95 % intervals: shares in per cent, everything else on its raw scale."""
    paired = "against" in result
    lines = [f"{result['model']} on {result['dataset']}, {result['images']} images"]
    lines += [f"difference: to {result['against']}, with its 95 % interval"] if paired else []
    lines.append(
        f"{result['times']['look']:.0f} ms to look at an image, {result['times']['answer']:.0f} ms an answer (medians)"
    )
    names = [name for table in result["scores"].values() for name in table]
    width = max(map(len, names)) + 2
    head = f"{'task':<20}{'score':<{width}}{'value':>8}   {'95 % interval':<19}{'items':>7}"
    lines += ["", head + ("   difference" if paired else "")]
    for task, table in result["scores"].items():
        for name, numbers in table.items():
            scale, digits = (100, 1) if numbers["scale"] == "percent" else (1, 3)
            value, low, high = (f"{numbers[key] * scale:.{digits}f}" for key in ("value", "low", "high"))
            line = f"{task:<20}{name:<{width}}{value:>8}   {low + ' … ' + high:<19}{numbers['items']:>7}"
            if gap := numbers.get("difference"):
                shown = [f"{gap[key] * scale:+.{digits}f}" for key in ("value", "low", "high")]
                line += f"   {shown[0]} ({shown[1]} … {shown[2]})"
            lines.append(line)
    return "\n".join(lines)
