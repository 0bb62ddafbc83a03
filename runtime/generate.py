"""Generation over token ids: knows nothing of text, images or files."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from gmrt.runtime.backends import Decoder
from gmrt.runtime.constrain import Constraint
from gmrt.runtime.embeddings import TokenTable
from gmrt.runtime.errors import BundleError, ConstraintError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.sampling import Sampler, greedy
from gmrt.runtime.vocabulary import Vocabulary


class Token(NamedTuple):
    """A chosen token and its natural-log probability under the model alone (temperature 1, no constraint).

    It is a probability among the words that the bundle's head can give.
    """

    id: int
    logprob: float


class Walk:
    """The way of one answer through the vocabulary: each row of logits becomes the next token.

    ``columns`` is the width of a row, ``vocabulary`` says what the columns are where they are not all words.
    ``finished`` turns True with an end token, when the constraint is met, and with the last of ``max_tokens``.
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        constraint: Constraint | None,
        eos: frozenset[int],
        max_tokens: int,
        columns: int,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._sampler, self._constraint, self._eos = sampler, constraint, eos
        self._left = max_tokens
        self._scratch = np.empty(columns, np.float32)
        self._vocabulary = vocabulary
        self._words = None if vocabulary is None else np.empty(vocabulary.size, np.float32)
        self.finished = False

    def choose(self, row: FloatArray) -> Token:
        """Take the next token by its logits float32 [V], which are overwritten.

        Raises `BundleError` when they are not finite, `ConstraintError` when the head can give nothing that is allowed.
        """
        best = int(row.argmax())
        log_sum = _log_sum_exp(row, float(row[best]), self._scratch)
        if self._constraint is None and self._sampler is greedy:  # which would look for the same again
            token = best if self._vocabulary is None else int(self._vocabulary.ids[best])
            return self._accept(token, float(row[best]) - log_sum)
        if self._vocabulary is not None:
            assert self._words is not None
            self._vocabulary.spread(row, self._words)
            row = self._words
        # The row is this step's own, so a constraint may spoil it; what it allows keeps its value.
        if self._constraint is not None:
            self._constraint(row)
        token = self._sampler(row)
        logit = float(row[token])
        if logit == -math.inf:
            raise ConstraintError("this model has no words for what the answer is held to: ask for something plainer")
        return self._accept(token, logit - log_sum)

    def follow(self, row: FloatArray, token: int) -> Token:
        """Take a token that `forced` has named, and which needs no look at what the constraint leaves of a row."""
        column = token if self._vocabulary is None else self._vocabulary.column(token)
        logit = -math.inf if column is None else float(row[column])
        return Token(token, logit - _log_sum_exp(row, float(row.max()), self._scratch))

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
    vocabulary: Vocabulary | None = None,
) -> Generator[Token, None, None]:
    """Yield up to ``max_tokens`` tokens, an end token included.

    ``logits`` float32 [V] is the row behind the last token of the prompt, which the cache of ``decoder`` holds; its
    columns are the tokens of ``vocabulary``, or all of them without one. It is overwritten, like the decoder's own
    buffers. The last token is not run, because nothing follows from it. Tokens that a constraint forces run together
    with the one before them; their probabilities are the model's all the same.
    However the generation ends, also by closing it, the cache is cut back to ``rewind_to`` tokens.

    Raises `BundleError` when the model returns numbers that are not finite, `CacheFullError` when there is no room.
    """
    walk = Walk(
        sampler=sampler,
        constraint=constraint,
        eos=eos,
        max_tokens=max_tokens,
        columns=len(logits),
        vocabulary=vocabulary,
    )
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
