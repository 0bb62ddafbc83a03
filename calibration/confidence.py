"""Fit the table that turns a model's certainty into the share of answers that are right (`gmrt.runtime.confidence`).

Isotonic regression: the answers are sorted by certainty, and neighbours are pooled until the share of right ones never
falls (pool adjacent violators; Zadrozny and Elkan 2002). Each pool starts with 25 answers or more, and with one right
and one wrong answer imagined in it, so that no table promises 0 or 1 from a handful of answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmrt.runtime.confidence import Knots, read_knots
from gmrt.runtime.errors import GmrtError

TABLE_NAME = "confidence.json"
VERSION = 1
MINIMUM = 100
_POOLS, _LEAST = 20, 25


def fit_confidence(certainties: Sequence[float], right: Sequence[float]) -> Knots:
    """Fit knots to answers: ``certainties`` 0…1 and whether each was ``right`` (0 or 1, or a share), both [n].

    They must come from answers that the model was not trained on, by a model without a table. Raises `GmrtError` for
    fewer than 100 answers, lengths that differ, or numbers that are not from 0 to 1.
    """
    x, y = np.asarray(certainties, np.float64), np.asarray(right, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < MINIMUM:
        raise GmrtError(f"{x.size} certainties and {y.size} answers: a table of confidence needs {MINIMUM} or more")
    if not (np.isfinite(x + y).all() and min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1):
        raise GmrtError("certainties and outcomes must be numbers from 0 to 1")
    order = np.argsort(x, kind="stable")
    pools: list[tuple[float, float, int]] = []  # sum of certainties, sum of outcomes, answers
    for part in np.array_split(order, min(_POOLS, len(x) // _LEAST)):
        pool = float(x[part].sum()), float(y[part].sum()), len(part)
        while pools and (_share(pools[-1]) >= _share(pool) or _certainty(pools[-1]) >= _certainty(pool)):
            before = pools.pop()
            pool = before[0] + pool[0], before[1] + pool[1], before[2] + pool[2]
        pools.append(pool)
    return tuple((_certainty(pool), _share(pool)) for pool in pools)


def _certainty(pool: tuple[float, float, int]) -> float:
    return round(pool[0] / pool[2], 5)


def _share(pool: tuple[float, float, int]) -> float:
    return round((pool[1] + 1) / (pool[2] + 2), 5)


def save_confidence(folder: Path | str, knots: Knots, *, answers: int, source: str, checkpoint: str) -> None:
    """Write ``confidence.json`` beside a checkpoint whose weights have the sha256 ``checkpoint``."""
    facts = {"version": VERSION, "checkpoint": checkpoint, "source": source, "answers": answers}
    text = json.dumps(facts | {"knots": [list(knot) for knot in knots]}, indent=2)
    (Path(folder) / TABLE_NAME).write_text(text + "\n", encoding="utf-8")


def load_confidence(folder: Path | str, checkpoint: str) -> Knots:
    """Read the table beside a checkpoint; empty when there is none, or one of other weights.

    Raises `GmrtError` for a file that is not a table.
    """
    file = Path(folder) / TABLE_NAME
    if not file.is_file():
        return ()
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        knots = read_knots(facts["knots"])
        if facts["version"] != VERSION:
            raise GmrtError(f"{file}: version {facts['version']} is not {VERSION}: fit it again")
        return knots if facts["checkpoint"] == checkpoint else ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GmrtError(f"{file}: not a readable table of confidence ({error}): fit it again") from None
