"""A head for a part of the words: which tokens its columns of logits stand for.

The head is a product with one row for each word, and a decode step reads all of it. Where an export leaves out words
that answers do not use, the rows of logits are shorter. Columns become token ids in one place, when a token is chosen;
whatever knows tokens only, a constraint or a sampler, sees a row of all words in which those left out have −inf.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray

Ids = npt.NDArray[np.int64]

_MAX_HEADER = 128  # bytes of a .npy file before its numbers, as numpy writes them for one axis


class Vocabulary:
    """The token ``ids`` int64 [n], ascending, of the columns of logits; ``size`` is that of the whole table."""

    def __init__(self, ids: Ids, size: int) -> None:
        self.ids = ids
        self.size = size
        self._columns = np.full(size, -1, np.int32)
        self._columns[ids] = np.arange(len(ids), dtype=np.int32)

    def column(self, token: int) -> int | None:
        """The column of a token, None for one that the head cannot give."""
        column = int(self._columns[token])
        return None if column < 0 else column

    def holds(self, tokens: Iterable[int]) -> bool:
        """Whether the head can give every one of ``tokens``."""
        return bool((self._columns[np.fromiter(tokens, np.int64)] >= 0).all())

    def spread(self, row: FloatArray, out: FloatArray) -> None:
        """Write a row of logits [n] as a row of all words into ``out`` [size]; −inf for those that are left out."""
        out.fill(-np.inf)
        out[self.ids] = row


def open_vocabulary(file: Path, *, columns: int, size: int, needed: Iterable[int]) -> Vocabulary:
    """Read the ids of ``columns`` logits out of a table of ``size`` tokens; ``needed`` must be among them.

    Raises `BundleError` for anything but ascending ids int32 [columns] within the table.
    """
    if file.stat().st_size > _MAX_HEADER + 4 * columns:
        raise _refusal(file, f"larger than {columns} ids")
    try:
        ids = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise _refusal(file, f"not a .npy array ({error})") from None
    if not isinstance(ids, np.ndarray) or ids.dtype != np.int32 or ids.shape != (columns,):
        raise _refusal(file, f"expected int32 [{columns}]")
    if ids[0] < 0 or ids[-1] >= size or (np.diff(ids) <= 0).any():
        raise _refusal(file, f"its ids must ascend, each once, from 0 to {size - 1} at most")
    vocabulary = Vocabulary(ids.astype(np.int64), size)
    if not vocabulary.holds(needed):
        raise _refusal(file, "it has no token that ends an answer")
    return vocabulary


def _refusal(file: Path, why: str) -> BundleError:
    return BundleError(f"{file.name}: {why}: export the bundle again")
