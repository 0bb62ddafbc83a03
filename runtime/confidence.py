"""What a model's own certainty has been worth: a table from certainty to the share of answers that were right.

A model's certainty (exp of the mean log probability of its tokens) ranks its answers, but 0.9 need not mean that nine
in ten are right (Guo et al. 2017, arXiv:1706.04599). Where a bundle brings a table, fitted on validation answers, the
certainty is looked up in it; the order of answers stays, because the table never falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

MAX_KNOTS = 64

Knots = tuple[tuple[float, float], ...]
"""Pairs (certainty, share right), both 0…1, the first rising, the second never falling; empty for no table."""


def apply_knots(certainty: float, knots: Knots) -> float:
    """Look up a certainty in 0…1 by straight lines between knots, flat outside them; unchanged without a table."""
    if not knots:
        return certainty
    certainties, shares = zip(*knots, strict=True)
    return float(np.interp(certainty, certainties, shares))


def read_knots(data: object) -> Knots:
    """Read knots from decoded JSON; raise ValueError when they are not as `Knots` says."""
    if not isinstance(data, Sequence) or isinstance(data, str) or len(data) > MAX_KNOTS:
        raise ValueError(f"expected a list of at most {MAX_KNOTS} pairs")
    pairs = tuple((_share(certainty), _share(share)) for certainty, share in data)
    for (before, low), (after, high) in pairwise(pairs):
        if not before < after or not low <= high:
            raise ValueError("certainties must rise and shares must not fall")
    return pairs


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{value!r:.40} is not a number from 0 to 1")
    return float(value)
