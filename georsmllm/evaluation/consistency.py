"""Whether the same request in other words gets the same answer, right or wrong.

Two answers in words agree when they are the same after `scores.normalise`; two locations when F1@0.5 of one against
the other is 0.5 or more, so that half of their regions have a partner. An answer that is no location where one was
asked for agrees with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from gmrt.georsmllm.evaluation.ask import PLACES, Asked
from gmrt.georsmllm.evaluation.geometry import AGREE, read_regions, set_f1
from gmrt.georsmllm.evaluation.predict import Given
from gmrt.georsmllm.evaluation.scores import Row, mean_row, normalise

Worded = tuple[Asked, tuple[Given, ...]]


def agree(task: str, a: str, b: str) -> bool:
    """Whether two answers to the same request agree."""
    if task not in PLACES:
        return normalise(a) == normalise(b)
    first, second = read_regions(a), read_regions(b)
    return first is not None and second is not None and set_f1(first, second) >= AGREE


def consistency_rows(worded: Sequence[Worded]) -> list[Row]:
    """Share of wordings whose answer agrees with the canonical wording's: of all requests, of words, of locations.

    Beside it, the share of any two wordings that agree, and of requests whose wordings all agree with the canonical
    one. Each is a mean over requests.
    """
    groups = {
        "": list(worded),
        ", words": [one for one in worded if one[0].task not in PLACES],
        ", locations": [one for one in worded if one[0].task in PLACES],
    }
    rows = []
    for name, group in groups.items():
        if not group or (name and len(group) == len(worded)):
            continue
        images = [asked.image for asked, _ in group]
        as_first = [_share_as_first(*one) for one in group]
        rows.append(mean_row(f"as the first wording{name}", as_first, images))
        rows.append(mean_row(f"any two wordings{name}", [_share_of_pairs(*one) for one in group], images))
        rows.append(mean_row(f"all wordings{name}", [float(share == 1) for share in as_first], images))
    return rows


def _share_as_first(asked: Asked, given: Sequence[Given]) -> float:
    first, *others = (answer.text for answer in given)
    return sum(agree(asked.task, first, other) for other in others) / len(others)


def _share_of_pairs(asked: Asked, given: Sequence[Given]) -> float:
    pairs = list(combinations((answer.text for answer in given), 2))
    return sum(agree(asked.task, a, b) for a, b in pairs) / len(pairs)
