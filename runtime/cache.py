"""The KV cache: buffers allocated once, a length per row, and nothing hidden.

Per layer one buffer for K and one for V, each ``[batch, kv_heads, capacity, head_dim]``. The decoder reads its past
from a buffer and writes the new rows behind it into the same buffer, so a step copies nothing and the length is the
only state. Rows at or behind ``lengths[b]`` are left over and never read.

Bytes = 2 · layers · kv_heads · head_dim · bytes per number · capacity · batch. The nano shape (6 layers, 5 heads of
64, float32) takes 15 360 bytes per token; 30 layers with 3 heads of 64 take 46 080.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import CacheFullError
from gmrt.runtime.manifest import CacheGeometry


@dataclass(frozen=True)
class Snapshot:
    """The first ``length`` tokens of a cache of batch 1, independent of that cache and of its capacity.

    ``rows`` is [2 · layers, kv_heads, length, head_dim], K and V of a layer next to each other.
    """

    rows: npt.NDArray[Any]

    @property
    def length(self) -> int:
        """Tokens held."""
        return int(self.rows.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.rows.nbytes)


class KVCache:
    """Preallocated keys and values of one decoder.

    ``buffers`` holds 2 · layers arrays ``[batch, kv_heads, capacity, head_dim]`` in the order key 0, value 0, key 1, …
    ``lengths`` int32 [batch] counts the valid tokens of each row; the decoder binds it, so it is changed in place.

    Raises ValueError for a capacity that is not between 1 and the geometry's ``max_length``.
    """

    def __init__(self, geometry: CacheGeometry, capacity: int, batch: int = 1) -> None:
        if not 0 < capacity <= geometry.max_length:
            raise ValueError(f"a capacity of {capacity} is not between 1 and {geometry.max_length}")
        shape = (batch, geometry.kv_heads, capacity, geometry.head_dim)
        self.geometry = geometry
        self.capacity = capacity
        # Zeroed memory comes from the system untouched, so a buffer costs what is written to it, not its capacity.
        self.buffers: tuple[Any, ...] = tuple(np.zeros(shape, geometry.dtype) for _ in range(2 * geometry.layers))
        self.lengths: npt.NDArray[np.int32] = np.zeros(batch, np.int32)

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def length(self) -> int:
        """Valid tokens of the longest row."""
        return int(self.lengths.max())

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self.buffers)

    def require(self, tokens: int) -> None:
        """Raise `CacheFullError` unless every row has room for ``tokens`` more."""
        needed = self.length + tokens
        if needed > self.capacity:
            raise CacheFullError(needed, self.capacity)

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` rows, which a step has just written behind every row's length, as valid."""
        self.lengths += tokens

    def truncate(self, length: int) -> None:
        """Forget every token from position ``length`` on; rows that are shorter stay as they are."""
        if length < 0:
            raise ValueError(f"cannot truncate to {length}")
        np.minimum(self.lengths, length, out=self.lengths)

    def snapshot(self) -> Snapshot:
        """Copy the valid tokens of a cache of batch 1; raises ValueError for a wider one."""
        if self.batch != 1:
            raise ValueError(f"a snapshot is of one row, this cache has {self.batch}")
        return Snapshot(np.stack([buffer[0, :, : self.length] for buffer in self.buffers]))

    def restore(self, snapshot: Snapshot) -> None:
        """Make every row hold exactly the snapshot's tokens; raises `CacheFullError` when they do not fit."""
        if snapshot.length > self.capacity:
            raise CacheFullError(snapshot.length, self.capacity)
        for buffer, rows in zip(self.buffers, snapshot.rows, strict=True):
            buffer[:, :, : snapshot.length] = rows
        self.lengths[:] = snapshot.length

    def fork(self, batch: int, capacity: int | None = None) -> KVCache:
        """Return a cache of ``batch`` rows, each a copy of this cache's only row: many questions about one image."""
        forked = self._empty(capacity or self.capacity, batch)
        forked.restore(self.snapshot())
        return forked

    def rows(self, start: int, stop: int) -> KVCache:
        """Return a cache over some of the rows, in the same memory: what happens to either happens to both."""
        part = copy(self)
        part.buffers = tuple(buffer[start:stop] for buffer in self.buffers)
        part.lengths = self.lengths[start:stop]
        return part

    def copy_row(self, source: int, target: int) -> None:
        """Make a row hold exactly the tokens of another one."""
        length = self.lengths[source]
        for buffer in self.buffers:
            buffer[target, :, :length] = buffer[source, :, :length]
        self.lengths[target] = length

    def _empty(self, capacity: int, batch: int) -> KVCache:
        return KVCache(self.geometry, capacity, batch)


def planned_capacity(tokens: int, geometry: CacheGeometry, *, limit: int | None = None, step: int = 64) -> int:
    """Return the capacity for a request of ``tokens``: rounded up to ``step``, at most the limit and the geometry.

    Attention and memory cost capacity, so it follows the request, in steps that keep reallocation rare. Raises
    `CacheFullError` when the request is larger than what is allowed.
    """
    allowed = geometry.max_length if limit is None else min(limit, geometry.max_length)
    if tokens > allowed:
        raise CacheFullError(tokens, allowed)
    return min(-(-tokens // step) * step, allowed)
