"""The token table: ids to embeddings, read by numpy from a memory map (a lookup needs no session).

An int8 table holds one scale per row: embedding = int8 row · scale[row], which keeps a row's error below half a step
of its own range. float16 and float32 tables are stored as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray

_DTYPES = ("int8", "float16", "float32")


class TokenTable:
    """Rows [V, D] of int8, float16 or float32, with ``scale`` float32 [V] for int8 only."""

    def __init__(self, rows: npt.NDArray[Any], scale: FloatArray | None = None) -> None:
        # Plain array views: indexing a memmap makes a memmap object each time, which costs more than the lookup.
        self._rows = np.asarray(rows)
        self._scale = None if scale is None else np.asarray(scale)

    @property
    def vocab_size(self) -> int:
        """Number of rows."""
        return int(self._rows.shape[0])

    def lookup(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """Return the embeddings of ids [S] as float32 [S, D]; raises IndexError for an id that is not in the table."""
        rows: FloatArray = self._rows[ids].astype(np.float32)
        if self._scale is not None:
            rows *= self._scale[ids, None]
        return rows

    def lookup_into(self, token: int, out: FloatArray) -> None:
        """Write one token's embedding into ``out`` float32 [D]; allocates nothing."""
        if self._scale is None:
            out[...] = self._rows[token]
        else:
            np.multiply(self._rows[token], self._scale[token], out=out, dtype=np.float32)


def open_table(file: Path, scale_file: Path | None, *, vocab_size: int, hidden_size: int) -> TokenTable:
    """Map a table from .npy files; raises `BundleError` when shape or dtype is not what the manifest promises."""
    rows = _map(file)
    if rows.shape != (vocab_size, hidden_size) or rows.dtype.name not in _DTYPES or not rows.flags.c_contiguous:
        raise BundleError(
            f"{file.name}: expected {' or '.join(_DTYPES)} [{vocab_size}, {hidden_size}], "
            f"got {rows.dtype} {list(rows.shape)}: export the bundle again"
        )
    if (rows.dtype == np.int8) != (scale_file is not None):
        raise BundleError(f"{file.name}: a scale belongs to an int8 table, and only to one: export the bundle again")
    if scale_file is None:
        return TokenTable(rows)
    scale = _map(scale_file)
    if scale.shape != (vocab_size,) or scale.dtype != np.float32:
        raise BundleError(
            f"{scale_file.name}: expected float32 [{vocab_size}], got {scale.dtype} {list(scale.shape)}: "
            "export the bundle again"
        )
    return TokenTable(rows, scale)


def _map(file: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise BundleError(f"{file.name}: not a .npy array ({error}): export the bundle again") from None
    if not isinstance(array, np.memmap):
        raise BundleError(f"{file.name}: not a plain .npy array: export the bundle again")
    return array
