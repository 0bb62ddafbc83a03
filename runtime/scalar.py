"""Scalars: answers whose number comes from the regression head, or is counted by the locator, and not from digits.

The decoder says what is measured, "<value> mean height", and the head says how much, from the last hidden state that
`VALUE` was chosen from. The words after it are held to the names that the bundle knows, so the number always has one.
Where places come from a locator, "<value> count" is how many it finds: what is counted and what is located agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gmrt.runtime.constrain import Constraint
from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray

VALUE = "<value>"
"""The token that opens such an answer; the name of what is measured follows it in words."""

COUNT = "count"
"""The name of how many things the locator finds for a question."""

_DIGITS = 3


@dataclass(frozen=True)
class Measure:
    """A scalar that a bundle answers; ``unit`` is empty for a plain number."""

    name: str
    unit: str


@dataclass(frozen=True)
class Scalars:
    """How a tokenizer spells scalar answers: the id of `VALUE`, and the ids of each measure's name behind it.

    A `COUNT` is the last of the measures, where the bundle counts.
    """

    token: int
    measures: tuple[Measure, ...]
    spellings: tuple[tuple[int, ...], ...]

    @property
    def counting(self) -> Scalars | None:
        """Counts alone; None where the bundle has none."""
        if self.measures[-1].name != COUNT:
            return None
        return Scalars(self.token, self.measures[-1:], self.spellings[-1:])


def read_scalars(tokenizer: Tokenizer, measures: Sequence[Measure], *, counts: bool = False) -> Scalars | None:
    """Read how ``tokenizer`` spells ``measures`` and, with ``counts``, a `COUNT`; None where there is nothing to spell.

    Raises `BundleError` when it has no token `VALUE` and there are measures, or cannot tell two names apart.
    """
    token = tokenizer.token_to_id(VALUE)
    if counts and token is not None:
        measures = (*measures, Measure(COUNT, ""))
    if not measures:
        return None
    spelled = [tokenizer.encode(f"{VALUE} {m.name}", add_special_tokens=False).ids for m in measures]
    if token is None or not all(len(ids) > 1 and ids[0] == token for ids in spelled):
        raise BundleError(f"the tokenizer has no token {VALUE}, which heads.onnx needs: export the bundle again")
    spellings = tuple(tuple(ids[1:]) for ids in spelled)
    if len(set(spellings)) != len(spellings):
        raise BundleError("two measures have the same name to the tokenizer: name one of them in other words")
    return Scalars(token, tuple(measures), spellings)


class ScalarGuard:
    """Leaves an answer to ``otherwise``, unless it opens with `VALUE`: then only names of measures may follow.

    It is finished as soon as one name is left, so a single measure takes no step more. ``index`` is the measure that
    was named, None until then; ``opened`` says whether the answer is a scalar, and ``otherwise`` holds any other. Later
    on `VALUE` may not come: it is a way to open an answer, not a word.
    """

    def __init__(self, scalars: Scalars, eos: Sequence[int], otherwise: Constraint | None) -> None:
        self._scalars, self._eos, self.otherwise = scalars, tuple(eos), otherwise
        self._first = True
        self._left: dict[int, tuple[int, ...]] = {}  # measures that are still possible, and the rest of their names
        self.opened = False
        self.index: int | None = None

    @property
    def counts(self) -> bool:
        """Whether the answer is how many things the locator finds."""
        return self.index is not None and self._scalars.measures[self.index].name == COUNT

    @property
    def finished(self) -> bool:
        """Whether the measure is named, or the other answer complete."""
        if self.opened:
            return self.index is not None
        return self.otherwise is not None and self.otherwise.finished

    @property
    def forced(self) -> int | None:
        """The one token that may come next."""
        if self.opened:
            allowed = self._allowed()
            return int(allowed[0]) if len(allowed) == 1 else None
        return None if self._first or self.otherwise is None else self.otherwise.forced

    @property
    def cut(self) -> bool:
        """Whether the other answer had to end early."""
        return self.otherwise is not None and self.otherwise.cut

    def hides(self, token: int) -> bool:
        """Whether a token that has come is no text to be shown, because a number will stand in its place."""
        return self.opened or token == self._scalars.token

    def __call__(self, row: FloatArray) -> None:
        """Leave the logits of what goes on with a name; in any other answer that of `VALUE` at the first token only."""
        if self.opened:
            allowed = self._allowed()
            kept = row[allowed]
            row.fill(-np.inf)
            row[allowed] = kept
            return
        opening = row[self._scalars.token] if self._first else -np.inf
        if self.otherwise is not None:
            self.otherwise(row)
        row[self._scalars.token] = opening

    def accept(self, token: int) -> None:
        """Move on over ``token``; the first one decides what kind of answer this is."""
        if self.opened:
            taken = () if token in self._eos else (token,)
            self._left = {i: rest[1:] for i, rest in self._left.items() if rest[:1] == taken}
        elif self._first and token == self._scalars.token:
            self.opened, self._left = True, dict(enumerate(self._scalars.spellings))
        elif self.otherwise is not None:
            self.otherwise.accept(token)
        self._first = False
        if self.opened and len(self._left) == 1:
            (self.index,) = self._left

    def _allowed(self) -> npt.NDArray[np.int64]:
        """What may come next: the next tokens of the names that are left, an end token where one is complete."""
        rests = self._left.values()
        ends = () if all(rests) else self._eos
        return np.array(sorted({rest[0] for rest in rests if rest} | set(ends)), np.int64)


def format_value(value: float, unit: str) -> str:
    """A number in words: three significant digits, never an exponent, and its unit: ``3.4 m``."""
    number = np.format_float_positional(value, precision=_DIGITS, unique=False, fractional=False, trim="-")
    number = "0" if float(number) == 0 else number
    return f"{number} {unit}" if unit else number
