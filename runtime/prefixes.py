"""Remember what the decoder made of an image, so that the next question about it starts where the image ends."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from gmrt.runtime.cache import Snapshot
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.prompt import IntArray


def prefix_key(bundle_id: str, spec: ImageSpec, scenes: Iterable[str], prefix_ids: IntArray) -> str:
    """Name the cache rows of a prefix by everything that they depend on.

    ``scenes`` are hashes of decoded pixels in order, never paths, so a file that changed is not mistaken for the old
    one. ``prefix_ids`` covers templates that put words before the image.
    """
    parts = (bundle_id, repr(spec), *scenes)
    return hashlib.sha256("\n".join(parts).encode() + b"\0" + prefix_ids.tobytes()).hexdigest()


class PrefixStore:
    """Snapshots by key, least recently used out first, within a budget of ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, Snapshot] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(snapshot.nbytes for snapshot in self._held.values())

    def get(self, key: str) -> Snapshot | None:
        """Return the snapshot under ``key`` and count it as used now."""
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def put(self, key: str, snapshot: Snapshot) -> None:
        """Keep a snapshot, dropping the oldest until the budget holds; one larger than the budget is not kept."""
        self._held[key] = snapshot
        self._held.move_to_end(key)
        while self.nbytes > self._limit:
            self._held.popitem(last=False)
