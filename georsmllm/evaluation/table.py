"""From answers to rows of scores, by task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gmrt.georsmllm.cyclic import cyclic_agreement
from gmrt.georsmllm.evaluation.ask import PLACES, Answers, Asked, Item
from gmrt.georsmllm.evaluation.consistency import consistency_rows
from gmrt.georsmllm.evaluation.geometry import Match, count_error, count_exact, count_in, found, match, read_regions
from gmrt.georsmllm.evaluation.reliability import reliability_rows
from gmrt.georsmllm.evaluation.scores import (
    Row,
    caption_rows,
    majority_baseline,
    mean_row,
    normalise,
    r2_row,
    ratio_row,
)

Table = dict[str, list[Row]]

NAMES = {"point": "points", "box": "boxes", "obb": "rotated boxes", "poly": "polygons"}


def tabulate(answers: Answers, examples_asked: Mapping[int, Sequence[Asked]], classes: Mapping[int, str]) -> Table:
    """All rows that the answers allow, by task, in the order of the table.

    ``examples_asked`` holds the questions of the whole set, also of images that were not asked about: the baselines
    vote among them. ``classes`` gives the class of every image that has one.
    """
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in answers.items:
        by_task[item.asked.task].append(item)
    places = [item for task in PLACES for item in by_task[task]]
    table: Table = {
        "caption": _captions([i for i in by_task["caption"] if i.asked.kind != "change"]),
        "class": [_mean("accuracy", by_task["class"], map(right, by_task["class"]))] if by_task["class"] else [],
        **_questions(by_task["qa"], examples_asked, classes),
        "count": _counts([i for i in by_task["qa"] if i.asked.kind == "count"]),
        "detect": _sets(by_task["detect"]),
        "refer": _referring(by_task["refer"]),
        "describe": _sets(by_task["describe"]),
        "polygon": _polygons(places),
        "change": [
            *_accuracy("yes or no", [i for i in by_task["qa"] if i.asked.kind == "change"]),
            *_sets(by_task["change"]),
        ],
        "change caption": _captions([i for i in by_task["caption"] if i.asked.kind == "change"]),
        "regression": _measures(by_task["measure"]),
        "location": _form(places),
        "cyclic": _cyclic(answers),
        "wordings": consistency_rows(answers.worded),
        "confidence": _confidence(answers.items),
        "unfamiliar": _unfamiliar(answers),
    }
    return {task: rows for task, rows in table.items() if rows}


def right(item: Item) -> float | None:
    """1 for a right answer, 0 for a wrong one, None for what has no such outcome (captions, measures).

    A set of places is right when nothing is missed and nothing is too much.
    """
    asked = item.asked
    if asked.task in ("class", "qa"):
        return float(normalise(asked.wanted) == normalise(item.given.text))
    if asked.task == "refer":
        return found(read_regions(asked.wanted) or (), read_regions(item.given.text))
    if asked.task in PLACES:
        return float(_match(item).f1 == 1)
    return None


def _images(items: Iterable[Item]) -> list[int]:
    return [item.asked.image for item in items]


def _mean(name: str, items: Sequence[Item], values: Iterable[float | None]) -> Row:
    return mean_row(name, [float(value or 0.0) for value in values], _images(items))


def _accuracy(name: str, items: Sequence[Item]) -> list[Row]:
    return [_mean(name, items, map(right, items))] if items else []


def _captions(items: Sequence[Item]) -> list[Row]:
    if not items:
        return []
    return caption_rows([i.given.text for i in items], [i.asked.references for i in items], _images(items))


def _questions(
    items: Sequence[Item], examples_asked: Mapping[int, Sequence[Asked]], classes: Mapping[int, str]
) -> Table:
    """Accuracy of all questions, of those answered by yes or no, and by kind, beside the baselines."""
    if not items:
        return {}
    asked = [one for group in examples_asked.values() for one in group if one.task == "qa"]
    texts = [normalise(one.question) for one in asked]
    keys = {"question only": texts}
    if classes:
        seen = [f"{classes.get(one.image, '')}: {text}" for one, text in zip(asked, texts, strict=True)]
        keys["question and class"] = seen
    answers, images = [normalise(one.wanted) for one in asked], [one.image for one in asked]
    outcomes: dict[str, Mapping[Asked, float | None]] = {"qa": {item.asked: right(item) for item in items}}
    for name, key in keys.items():
        outcomes[name] = dict(zip(asked, majority_baseline(key, answers, images), strict=True))
    groups = {"all": list(items)}
    yes_no = [item for item in items if normalise(item.asked.wanted) in ("yes", "no")]
    if 0 < len(yes_no) < len(items):
        groups["yes or no"] = yes_no
    kinds = sorted({item.asked.kind for item in items})
    groups.update({kind: [i for i in items if i.asked.kind == kind] for kind in kinds if len(kinds) > 1})
    return {
        task: [_mean(name, group, (outcome[i.asked] for i in group)) for name, group in groups.items()]
        for task, outcome in outcomes.items()
    }


def _counts(items: Sequence[Item]) -> list[Row]:
    """Exact rate and mean absolute error; an answer without a number counts as nothing there, and is not exact."""
    counted = [(item, count) for item in items if (count := count_in(item.asked.wanted)) is not None]
    if not counted:
        return []
    images = _images(item for item, _ in counted)
    exact = [count_exact(count, item.given.text) for item, count in counted]
    errors = [count_error(count, item.given.text) for item, count in counted]
    return [mean_row("exact", exact, images), mean_row("mean absolute error", errors, images, "raw")]


def _match(item: Item) -> Match:
    return match(read_regions(item.asked.wanted) or (), read_regions(item.given.text))


def _sets(items: Sequence[Item]) -> list[Row]:
    """F1@0.5 pooled over all regions, by form, by category, and how often "none" is said where it is true."""
    if not items:
        return []
    rows = [_pooled("F1@0.5", items)]
    for label, key in (("as {}", lambda i: NAMES[i.asked.kind]), ("{}", lambda i: i.asked.category)):
        groups = sorted({key(item) for item in items} - {""})
        if len(groups) > 1:
            rows += [
                _pooled(f"F1@0.5 {label.format(group)}", [i for i in items if key(i) == group]) for group in groups
            ]
    empty = [item for item in items if read_regions(item.asked.wanted) == ()]
    return [*rows, *_accuracy("none, where none is", empty)]


def _pooled(name: str, items: Sequence[Item]) -> Row:
    matches = [_match(item) for item in items]
    hits = [2.0 * each.hits for each in matches]
    return ratio_row(name, hits, [float(each.wanted + each.given) for each in matches], _images(items))


def _referring(items: Sequence[Item]) -> list[Row]:
    """Acc@0.5 and mean overlap, of all and by form; points have no overlap."""
    if not items:
        return []
    groups = {"": list(items)}
    forms = [form for form in NAMES if any(item.asked.kind == form for item in items)]
    if len(forms) > 1:
        groups.update({f" as {NAMES[form]}": [i for i in items if i.asked.kind == form] for form in forms})
    rows = [_mean(f"Acc@0.5{name}", group, map(right, group)) for name, group in groups.items()]
    for name, group in groups.items():
        if areas := [item for item in group if item.asked.kind != "point"]:
            rows.append(_mean(f"mIoU{name}", areas, (_match(item).mean_iou for item in areas)))
    return rows


def _polygons(items: Sequence[Item]) -> list[Row]:
    polygons = [i for i in items if i.asked.kind == "poly" and read_regions(i.asked.wanted)]
    return [_mean("mIoU", polygons, (_match(item).mean_iou for item in polygons))] if polygons else []


def _measures(items: Sequence[Item]) -> list[Row]:
    """R² and mean absolute error by measure, when the model gives numbers at all.

    An answer without a number counts as the mean of the true ones, which is what one would guess without looking.
    """
    rows = []
    if any(item.given.value is not None for item in items):
        rows.append(_mean("answered by a number", items, (item.given.value is not None for item in items)))
    for name in sorted({item.asked.kind for item in items}) if rows else ():
        group = [item for item in items if item.asked.kind == name]
        targets = [item.asked.target or 0.0 for item in group]
        guess = float(np.mean(targets))
        given = [guess if item.given.value is None else item.given.value for item in group]
        errors = [abs(a - b) for a, b in zip(targets, given, strict=True)]
        rows.append(r2_row(f"R² {name}", targets, given, _images(group)))
        rows.append(mean_row(f"mean absolute error {name}", errors, _images(group), "raw"))
    return rows


def _form(items: Sequence[Item]) -> list[Row]:
    """Of answers that should be locations: how many are, how many are whole, how many have the form asked for."""
    if not items:
        return []
    given = [read_regions(item.given.text) for item in items]
    rows = [
        _mean("is a location", items, (regions is not None for regions in given)),
        _mean("not cut off", items, (not item.given.cut for item in items)),
    ]
    shaped = [(item, regions) for item, regions in zip(items, given, strict=True) if regions]
    if shaped:
        as_asked = [float(all(r.kind == item.asked.kind for r in regions)) for item, regions in shaped]
        rows.append(mean_row("in the form asked for", as_asked, _images(item for item, _ in shaped)))
    return rows


def _cyclic(answers: Answers) -> list[Row]:
    cycles = answers.cycles
    return [mean_row("agreement", cyclic_agreement(cycles), [c.image for c in cycles])] if cycles else []


def outcomes_of(items: Iterable[Item]) -> tuple[list[float], list[float], list[int]]:
    """Confidence, right or wrong, and image of every answer that is right or wrong."""
    judged = [(item, value) for item in items if (value := right(item)) is not None]
    confidences = [min(max(item.given.confidence, 0.0), 1.0) for item, _ in judged]
    return confidences, [value for _, value in judged], _images(item for item, _ in judged)


def _confidence(items: Sequence[Item]) -> list[Row]:
    confidences, outcomes, images = outcomes_of(items)
    return reliability_rows(confidences, outcomes, images) if outcomes else []


def _unfamiliar(answers: Answers) -> list[Row]:
    flags = answers.unfamiliar
    return [mean_row("flagged, of this set", [float(flag) for flag in flags.values()], list(flags))] if flags else []
