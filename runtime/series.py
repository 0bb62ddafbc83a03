"""The same questions about many images: read ahead, encoded one by one, decoded together, given out in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gmrt.runtime.answer import Answer
from gmrt.runtime.batch import Batch, Finished, Job
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.request import Request
from gmrt.runtime.scene import Scene

if TYPE_CHECKING:
    from gmrt.runtime.model import View

AHEAD = 2
"""Images that are read and prepared before the tower is ready for them."""
HELD_BYTES = 64 << 20
"""Pictures and embeddings of images that are encoded and not given out yet; one image may exceed it alone.

With `AHEAD` and the one being read this bounds what a series holds, however many images it has.
"""

Source = str | os.PathLike[str] | Scene


@dataclass(frozen=True)
class Outcome:
    """What became of one image of many.

    ``source`` is the image as it was given. ``view`` and ``answers``, one to each prompt in order, belong together;
    where the image could not be read they are None and empty, and ``error`` says why.
    """

    source: Source
    view: View | None
    answers: tuple[Answer, ...]
    error: GmrtError | None


@dataclass
class _Pending:
    """An image that is not given out yet; ``answers`` by number of the prompt, ``missing`` counts those to come."""

    source: Source
    seen: View | GmrtError
    missing: int
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that the image holds."""
        if isinstance(self.seen, GmrtError):
            return 0
        encoded = self.seen.encoded
        places = 0 if encoded.places is None else encoded.places.nbytes
        return encoded.embeds.nbytes + places + sum(s.rgb.nbytes + s.valid.nbytes for s in self.seen.scenes)

    def outcome(self) -> Outcome:
        """What became of it."""
        if isinstance(self.seen, GmrtError):
            return Outcome(self.source, None, (), self.seen)
        return Outcome(self.source, self.seen, tuple(self.answers[at] for at in sorted(self.answers)), None)


class Series:
    """Images on their way through a batch; ``request`` makes the question of a number, ``prompts`` of them an image."""

    def __init__(self, batch: Batch, prompts: int, request: Callable[[int], Request]) -> None:
        self._batch, self._prompts, self._request = batch, prompts, request
        self._pending: deque[_Pending] = deque()
        self._given = 0  # images that were given out: the number of the first pending one

    def outcomes(self, images: Iterable[tuple[Source, View | GmrtError]]) -> Iterator[Outcome]:
        """Yield an outcome for each image, in order."""
        for source, seen in images:
            failed = isinstance(seen, GmrtError)
            self._pending.append(_Pending(source, seen, missing=0 if failed else self._prompts))
            if not isinstance(seen, GmrtError):
                first = (self._given + len(self._pending) - 1) * self._prompts
                for number in range(self._prompts):
                    while self._batch.full:
                        yield from self._complete(self._batch.step())
                    yield from self._complete(self._batch.start(Job(first + number, seen, self._request(number))))
            yield from self._complete([])
            while self._batch.busy and sum(image.nbytes for image in self._pending) > HELD_BYTES:
                yield from self._complete(self._batch.step())
        while self._batch.busy:
            yield from self._complete(self._batch.step())

    def _complete(self, finished: Finished) -> Iterator[Outcome]:
        """File answers, and yield the images at the front that have all of theirs."""
        for index, answer in finished:
            at, number = divmod(index, self._prompts)
            image = self._pending[at - self._given]
            image.answers[number] = answer
            image.missing -= 1
        while self._pending and not self._pending[0].missing:
            self._given += 1
            yield self._pending.popleft().outcome()
