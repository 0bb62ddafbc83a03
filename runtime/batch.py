"""Many answers at a time: prompts about one image, or one prompt about many, decoded together.

A decode step reads all weights for one token of each row, so rows share that cost. Every answer has one row of a wide
cache. Its prompt is prefilled there by itself, with the very numbers of a single answer (the attention kernel takes
more than one new token behind a past for one row only, and a prefill fills the cores anyway); then the rows step
together, each from its own length. A row that is done is taken by the next answer, or by the last row when none is
waiting, so no step computes an empty row.

The products of one row and of several round differently. So a batched answer equals the single one as long as, at
every token, the two best logits are further apart than `EPSILON`; where they are not, either is as good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from gmrt.runtime.answer import Answer
from gmrt.runtime.backends import Backend, Decoder
from gmrt.runtime.bundle import Bundle
from gmrt.runtime.errors import TruncatedError
from gmrt.runtime.generate import Walk
from gmrt.runtime.image import FloatArray
from gmrt.runtime.prefixes import Prefilled
from gmrt.runtime.reply import Reply
from gmrt.runtime.request import Request

if TYPE_CHECKING:
    from gmrt.runtime.model import View

Finished = list[tuple[int, Answer | TruncatedError]]
"""Answers that became complete, or why one could not, each with its job's index."""

EPSILON = 0.05
"""Logits closer than this may change places between a single and a batched step."""


@dataclass(frozen=True)
class Job:
    """One question to be answered; ``index`` is given back with the answer."""

    index: int
    view: View
    request: Request


class Batch:
    """Answers that are decoded together, each in a row of a wide cache; the first rows are the ones at work.

    ``prefill`` brings a job's prompt into an empty cache of one row, ``reply`` begins its text.
    """

    def __init__(
        self,
        backend: Backend,
        bundle: Bundle,
        *,
        rows: int,
        capacity: int,
        prefill: Callable[[Decoder, View, Request], Prefilled],
        reply: Callable[[View, Request, Prefilled], Reply],
    ) -> None:
        self._table, self._vocabulary = bundle.table, bundle.vocabulary
        self._prefill, self._reply = prefill, reply
        self._eos = frozenset(bundle.manifest.prompt.eos_token_ids)
        self._bind = backend.bind
        self._cache = backend.new_cache(capacity, rows)
        self._decoders: dict[tuple[int, int], Decoder] = {}  # by first row and end
        self._rows: list[_Row] = []

    @property
    def busy(self) -> bool:
        """Whether any row is at work."""
        return bool(self._rows)

    @property
    def full(self) -> bool:
        """Whether every row is."""
        return len(self._rows) == self._cache.batch

    def start(self, job: Job) -> Finished:
        """Give a job a row of a batch that is not full: prefill its prompt and choose the first token."""
        at = len(self._rows)
        decoder = self._decoder(at, at + 1)
        decoder.cache.truncate(0)
        prefilled = self._prefill(decoder, job.view, job.request)
        walk = Walk(
            sampler=job.request.sampler,
            constraint=job.request.constraint,
            eos=self._eos,
            max_tokens=job.request.max_tokens,
            columns=len(prefilled.logits),
            vocabulary=self._vocabulary,
        )
        row = _Row(job.index, walk, self._reply(job.view, job.request, prefilled), perf_counter())
        row.choose(prefilled.logits)
        self._rows.append(row)
        return self._finished()

    def step(self) -> Finished:
        """Run the latest token of every row at work, and choose the next."""
        decoder = self._decoder(0, len(self._rows))
        for at, row in enumerate(self._rows):
            self._table.lookup_into(row.token, decoder.embeds[at, 0])
        decoder.step()
        for at, row in enumerate(self._rows):
            row.choose(decoder.logits[at, 0])
        return self._finished()

    def answers(self, jobs: Iterable[Job]) -> list[tuple[int, Answer]]:
        """Answer jobs, as many at a time as there are rows; raises the first `TruncatedError`."""
        done: Finished = []
        for job in jobs:
            while self.full:
                done += self.step()
            done += self.start(job)
        while self.busy:
            done += self.step()
        return [(index, _answered(answer)) for index, answer in done]

    def _decoder(self, start: int, stop: int) -> Decoder:
        if (start, stop) not in self._decoders:
            self._decoders[start, stop] = self._bind(self._cache.rows(start, stop))
        return self._decoders[start, stop]

    def _finished(self) -> Finished:
        """Take out the answers that are complete; the last row moves into the place of each."""
        done: Finished = []
        for at in reversed(range(len(self._rows))):
            row = self._rows[at]
            if row.walk.finished or row.reply.ended:
                try:
                    row.reply.finish()
                    done.append((row.index, row.reply.answer((perf_counter() - row.started) * 1e3)))
                except TruncatedError as error:
                    done.append((row.index, error))
                last = self._rows.pop()
                if last is not row:
                    self._rows[at] = last
                    self._cache.copy_row(len(self._rows), at)
        return done


def _answered(answer: Answer | TruncatedError) -> Answer:
    if isinstance(answer, TruncatedError):
        raise answer
    return answer


@dataclass
class _Row:
    """An answer in progress; ``token`` is the one to run next."""

    index: int
    walk: Walk
    reply: Reply
    started: float
    token: int = -1

    def choose(self, logits: FloatArray) -> None:
        """Take the next token by its logits."""
        token = self.walk.choose(logits)
        self.reply.take(token)
        self.token = token.id
