"""Generation over token ids: knows nothing of text, images or files."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from gmrt.runtime.backends import Decoder
from gmrt.runtime.constrain import Constraint
from gmrt.runtime.embeddings import TokenTable
from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.sampling import Sampler


class Token(NamedTuple):
    """A chosen token and its natural-log probability under the model alone (temperature 1, no constraint)."""

    id: int
    logprob: float


def decode_tokens(
    decoder: Decoder,
    table: TokenTable,
    logits: FloatArray,
    *,
    sampler: Sampler,
    constraint: Constraint | None,
    eos: frozenset[int],
    max_tokens: int,
    rewind_to: int,
) -> Generator[Token, None, None]:
    """Yield up to ``max_tokens`` tokens, an end token included.

    ``logits`` float32 [V] is the row behind the last token of the prompt, which the cache of ``decoder`` holds; it is
    overwritten, like the decoder's own buffers. The last token is not run, because nothing follows from it. However
    the generation ends, also by closing it, the cache is cut back to ``rewind_to`` tokens.

    Raises `BundleError` when the model returns numbers that are not finite, `CacheFullError` when there is no room.
    """
    scratch = np.empty_like(logits)
    row = logits
    try:
        for count in range(1, max_tokens + 1):
            log_sum = _log_sum_exp(row, scratch)
            # The row is this step's own, so a constraint may spoil it; what it allows keeps its value.
            if constraint is not None:
                constraint(row)
            token = sampler(row)
            yield Token(token, float(row[token]) - log_sum)
            if constraint is not None:
                constraint.accept(token)
            if token in eos or count == max_tokens or (constraint is not None and constraint.finished):
                return
            table.lookup_into(token, decoder.embeds[0, 0])
            decoder.step()
            row = decoder.logits[0, 0]
    finally:
        decoder.cache.truncate(rewind_to)


def _log_sum_exp(row: FloatArray, scratch: FloatArray) -> float:
    """The natural log of the sum of exp(row), computed in ``scratch``; the row's maximum is taken out first."""
    peak = float(row.max())
    if not math.isfinite(peak):
        raise BundleError("decoder.onnx: the model returned numbers that are not finite: export at another precision")
    np.subtract(row, np.float32(peak), out=scratch)
    np.exp(scratch, out=scratch)
    return peak + math.log(float(scratch.sum()))
