"""Samplers: a row of logits in, a token out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.image import FloatArray

Sampler = Callable[[FloatArray], int]
"""Chooses a token from logits float32 [V], where −inf marks what is not allowed; leaves the row as it is."""

_NEGLIGIBLE = 1e-7
"""Tokens less likely than this times the likeliest are never drawn: sorting the whole vocabulary costs milliseconds."""


def greedy(row: FloatArray) -> int:
    """Take the likeliest token; the lower id when two are equal."""
    return int(row.argmax())


def make_sampler(*, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> Sampler:
    """Return `greedy` for a temperature of 0, else a sampler with a random state of its own, started from ``seed``.

    Logits are divided by ``temperature``; then only the ``top_k`` likeliest tokens stay (0: all), and of these the
    fewest whose share reaches ``top_p``. Raises `ConstraintError` for a number out of range.
    """
    if not (math.isfinite(temperature) and temperature >= 0 and top_k >= 0 and 0 < top_p <= 1 and seed >= 0):
        raise ConstraintError(
            f"temperature {temperature}, top_k {top_k}, top_p {top_p}, seed {seed}: expected a temperature, top_k and "
            "seed of at least 0 and a top_p above 0 and up to 1"
        )
    if temperature == 0:
        return greedy
    random = np.random.default_rng(seed)
    inverse = np.float32(1 / temperature) if temperature > 1e-6 else np.float32(1e6)

    def sample(row: FloatArray) -> int:
        weights = np.exp((row - row.max()) * inverse)
        kept = np.flatnonzero(weights > _NEGLIGIBLE)
        order = kept[np.argsort(-weights[kept], kind="stable")]
        if top_k:
            order = order[:top_k]
        share = np.cumsum(weights[order], dtype=np.float64)
        share = share[: int(np.searchsorted(share, top_p * share[-1])) + 1]
        drawn = int(np.searchsorted(share, random.random() * share[-1], side="right"))
        return int(order[min(drawn, len(share) - 1)])

    return sample
