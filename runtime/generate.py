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
from gmrt.runtime.sampling import Sampler, greedy


class Token(NamedTuple):
    """A chosen token and its natural-log probability under the model alone (temperature 1, no constraint)."""

    id: int
    logprob: float


class Walk:
    """The way of one answer through the vocabulary: each row of logits becomes the next token.

    ``finished`` turns True with an end token, when the constraint is met, and with the last of ``max_tokens``.
    """

    def __init__(
        self, *, sampler: Sampler, constraint: Constraint | None, eos: frozenset[int], max_tokens: int, vocab_size: int
    ) -> None:
        self._sampler, self._constraint, self._eos = sampler, constraint, eos
        self._left = max_tokens
        self._scratch = np.empty(vocab_size, np.float32)
        self.finished = False

    def choose(self, row: FloatArray) -> Token:
        """Take the next token by its logits float32 [V], which are overwritten.

        Raises `BundleError` when they are not finite.
        """
        best = int(row.argmax())
        log_sum = _log_sum_exp(row, float(row[best]), self._scratch)
        if self._constraint is None and self._sampler is greedy:  # which would look for the same again
            return self._accept(best, float(row[best]) - log_sum)
        # The row is this step's own, so a constraint may spoil it; what it allows keeps its value.
        if self._constraint is not None:
            self._constraint(row)
        token = self._sampler(row)
        return self._accept(token, float(row[token]) - log_sum)

    def follow(self, row: FloatArray, token: int) -> Token:
        """Take a token that `forced` has named, and which needs no look at what the constraint leaves of a row."""
        return Token(token, float(row[token]) - _log_sum_exp(row, float(row.max()), self._scratch))

    def forced(self, most: int) -> list[int]:
        """Move on over the tokens, at most so many, that have to come next whatever the model says."""
        tokens: list[int] = []
        while self._constraint is not None and not self.finished and len(tokens) < most:
            token = self._constraint.forced
            if token is None:
                break
            self._accept(token, 0.0)
            tokens.append(token)
        return tokens

    def _accept(self, token: int, logprob: float) -> Token:
        self._left -= 1
        if self._constraint is not None:
            self._constraint.accept(token)
        met = self._constraint is not None and self._constraint.finished
        self.finished = token in self._eos or met or not self._left
        return Token(token, logprob)


_AHEAD = 16
"""Forced tokens that run together."""


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
    overwritten, like the decoder's own buffers. The last token is not run, because nothing follows from it. Tokens
    that a constraint forces run together with the one before them; their probabilities are the model's all the same.
    However the generation ends, also by closing it, the cache is cut back to ``rewind_to`` tokens.

    Raises `BundleError` when the model returns numbers that are not finite, `CacheFullError` when there is no room.
    """
    walk = Walk(sampler=sampler, constraint=constraint, eos=eos, max_tokens=max_tokens, vocab_size=len(logits))
    row = logits
    try:
        while True:
            token = walk.choose(row)
            ahead = walk.forced(_AHEAD)
            yield token
            if ahead:
                known = [token.id, *ahead]
                # What a forced last token leads to is not asked for, and it is not run either.
                run = known[: len(ahead)] if walk.finished else known
                embeds = table.lookup(np.array(run))[None]
                rows = decoder.prefill(embeds, np.arange(len(run))[None])[0]
                for forced, its_row in zip(ahead, rows, strict=False):
                    yield walk.follow(its_row, forced)
                row = rows[-1]
            if walk.finished:
                return
            if not ahead:
                table.lookup_into(token.id, decoder.embeds[0, 0])
                decoder.step()
                row = decoder.logits[0, 0]
    finally:
        decoder.cache.truncate(rewind_to)


def _log_sum_exp(row: FloatArray, peak: float, scratch: FloatArray) -> float:
    """The natural log of the sum of exp(row), computed in ``scratch``; ``peak``, its maximum, is taken out first."""
    if not math.isfinite(peak):
        raise BundleError("decoder.onnx: the model returned numbers that are not finite: export at another precision")
    np.subtract(row, np.float32(peak), out=scratch)
    np.exp(scratch, out=scratch)
    return peak + math.log(float(scratch.sum()))
