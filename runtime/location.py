"""The constraint on locations: an answer that is a set of points is a whole one, whatever the model and the budget.

Token by token, only what goes on to a well-formed answer of `gmrt.runtime.points` is left: a tag, its whole numbers,
the next tag, the end. Tokens are counted against the budget with the longest spelling of a number: a region is not
begun, and a polygon gets no further corner, when there might not be room to finish and to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.lexicon import WORDS, Ids, Lexicon, Node
from gmrt.runtime.points import GRID, KINDS, NONE, Kind

_SIZES = {"point": 2, "box": 4, "obb": 8, "poly": 6}
"""Whole numbers that a region takes, a polygon at least."""
_BOX, _POLY, _NONE = KINDS.index("box"), KINDS.index("poly"), WORDS.index(NONE)
_NOTHING = GRID
"""As the smallest number that may come: no number may."""


class _Draft(NamedTuple):
    """How far the answer is: regions begun, the last one's kind, how many numbers it has, and its first two."""

    regions: int = 0
    kind: int = _NONE
    numbers: int = 0
    x: int = 0
    y: int = 0


class _Turn(NamedTuple):
    """What may come where a word begins: numbers from ``low`` on, ``words``, the ``end``.

    ``barred_low`` and ``barred`` are the numbers and words that would be well-formed and do not fit the budget.
    """

    root: Node
    low: int = _NOTHING
    words: int = 0
    end: bool = False
    barred_low: int = _NOTHING
    barred: int = 0


class Location:
    """A set of regions, at most ``max_regions`` of them and of these ``kinds``, within ``max_tokens``.

    ``none`` are the tokens of the empty set where the answer begins; without them it is not on offer. Where the budget
    bars what the model likes best, the answer ends there and is ``cut``. The first region is begun even where
    ``max_tokens`` is less than `tokens_for_one`. ``longest`` is the most tokens that an answer can take.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        *,
        kinds: Sequence[Kind],
        eos: Sequence[int],
        max_tokens: int,
        max_regions: int | None = None,
        none: Sequence[int] = (),
    ) -> None:
        opening = Node()
        for at, token in enumerate(lexicon.tags):
            opening.add([token], word=1 << at)
        if none:
            opening.add(none, word=1 << _NONE)
        opening.prepare()
        self._lexicon = lexicon
        self._kinds = sum(1 << KINDS.index(kind) for kind in kinds)
        self._costs = tuple(lexicon.longest_tag + _SIZES[kind] * lexicon.longest_number + 1 for kind in KINDS)
        self._max_regions = max_regions
        self._eos = np.array([*eos], np.int64)
        self._ends = frozenset(eos)
        self._left = max_tokens
        self._ended = False
        self.cut = False
        self.longest = max_tokens
        if max_regions is not None and "poly" not in kinds:
            largest = max(self._costs[KINDS.index(kind)] for kind in kinds)
            self.longest = min(max_tokens, max(max_regions * largest, len(none)))
        self._draft = _Draft()
        self._turn = _Turn(opening, words=self._kinds | (1 << _NONE if none else 0))
        self._node = opening
        self._look()

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may follow, and not for want of room."""
        return self._ended or (not self._barred and len(self._allowed) == 1 and self._allowed[0] is self._eos)

    @property
    def forced(self) -> int | None:
        """The one token that may come next, None when there are several or the answer is complete."""
        if self.finished or self._barred:
            return None
        tokens = set(np.concatenate(self._allowed).tolist())
        return tokens.pop() if len(tokens) == 1 else None

    def __call__(self, row: FloatArray) -> None:
        """Leave only the logits of tokens that lead to a whole location."""
        allowed = self._allowed
        if self._barred and _best(row, self._barred) > _best(row, allowed):
            # Something else in the place of what has no room would be made up, so the answer ends.
            allowed, self.cut = (self._eos,), True
        kept = [row[tokens] for tokens in allowed]
        row.fill(-np.inf)
        for tokens, values in zip(allowed, kept, strict=True):
            row[tokens] = values

    def accept(self, token: int) -> None:
        """Move on over ``token``, which `__call__` has allowed."""
        self._left -= 1
        if token in self._ends:
            self._ended = True
            return
        child = self._node.children.get(token)
        if child is None:  # the word before is complete, and the next one begins
            assert self._next is not None
            self._draft, self._turn = self._next
            child = self._turn.root.children[token]
        self._node = child
        self._look()

    def _look(self) -> None:
        """Work out what may follow: the rest of this word, and what comes behind it when it may be complete."""
        node, turn = self._node, self._turn
        allowed = [*node.tokens(turn.low, turn.words)]
        barred = [*node.tokens(turn.barred_low, turn.barred)]
        self._next: tuple[_Draft, _Turn] | None = None
        if node.word or node.number >= turn.low:
            draft = self._grown(node)
            following = self._turn_behind(draft)
            self._next = draft, following
            allowed += following.root.tokens(following.low, following.words)
            barred += following.root.tokens(following.barred_low, following.barred)
            if following.end:
                allowed.append(self._eos)
        self._allowed = tuple(tokens for tokens in allowed if tokens.size)
        self._barred = tuple(tokens for tokens in barred if tokens.size)

    def _grown(self, node: Node) -> _Draft:
        """The draft with the word that is complete at ``node``."""
        draft = self._draft
        if node.word:
            return _Draft(draft.regions + 1, node.word.bit_length() - 1)
        draft = draft._replace(numbers=draft.numbers + 1)
        if draft.numbers > 2:
            return draft
        return draft._replace(x=node.number) if draft.numbers == 1 else draft._replace(y=node.number)

    def _turn_behind(self, draft: _Draft) -> _Turn:
        """What may follow a draft, with what is left of the budget."""
        behind = self._lexicon.behind_number if draft.numbers else self._lexicon.behind_tag
        if draft.kind == _NONE:
            return _Turn(behind, end=True)
        polygon = draft.kind == _POLY
        missing = _SIZES[KINDS[draft.kind]] - draft.numbers
        if missing > 0 or (polygon and draft.numbers % 2):
            corner = draft.kind == _BOX and draft.numbers >= 2
            return _Turn(behind, low=(draft.x, draft.y)[draft.numbers - 2] if corner else 0)
        room = self._left > 2 * self._lexicon.longest_number
        fitting = sum(1 << at for at, cost in enumerate(self._costs) if cost <= self._left)
        kinds = self._kinds if self._max_regions is None or draft.regions < self._max_regions else 0
        return _Turn(
            behind,
            low=0 if polygon and room else _NOTHING,
            words=kinds & fitting,
            end=True,
            barred_low=0 if polygon and not room else _NOTHING,
            barred=kinds & ~fitting,
        )


def tokens_for_one(lexicon: Lexicon, kinds: Sequence[Kind], none: Sequence[int]) -> int:
    """The most tokens that the empty set or one region of any of ``kinds`` takes, an end token included."""
    return max(len(none), *(1 + _SIZES[kind] * lexicon.longest_number for kind in kinds)) + 1


class Guard:
    """Leaves an answer free, unless its first token is one of ``tags``: then it is held to the `Location` of ``begin``.

    The first token itself is free: where the budget does not hold the region that it opens, the answer is cut off.
    """

    forced = None

    def __init__(self, tags: Sequence[int], begin: Callable[[], Location]) -> None:
        self._tags = frozenset(tags)
        self._begin = begin
        self._first = True
        self._held: Location | None = None

    @property
    def finished(self) -> bool:
        """Whether a location is complete; free text ends by itself."""
        return self._held is not None and self._held.finished

    @property
    def cut(self) -> bool:
        """Whether a location was ended by the budget."""
        return self._held is not None and self._held.cut

    def __call__(self, row: FloatArray) -> None:
        """Leave the row as it is, or as a location allows."""
        if self._held is not None:
            self._held(row)

    def accept(self, token: int) -> None:
        """Move on over ``token``; the first one decides."""
        if self._held is not None:
            self._held.accept(token)
        elif self._first:
            self._first = False
            if token in self._tags:
                self._held = self._opened(token)

    def _opened(self, token: int) -> Location | None:
        try:
            held = self._begin()
        except ConstraintError:  # a tokenizer that cannot be held to locations; nobody asked for one
            return None
        held.accept(token)
        return held


def _best(row: FloatArray, parts: Sequence[Ids]) -> float:
    return max(float(row[tokens].max()) for tokens in parts)
