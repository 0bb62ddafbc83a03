"""Remember what the decoder made of an image, so that the next question about it starts where the image ends."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from time import perf_counter
from typing import NamedTuple

import numpy as np

from gmrt.runtime.backends import Decoder
from gmrt.runtime.bundle import Bundle
from gmrt.runtime.cache import Snapshot
from gmrt.runtime.image import FloatArray, ImageSpec
from gmrt.runtime.prompt import IntArray, Prompt

LONG_OPENING = 16
"""Tokens before the first image that are kept for all images: fewer cost less to compute again than a run of their own.

A run of any length reads all weights, which takes as long as a dozen tokens.
"""


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


class Prefilled(NamedTuple):
    """What a prompt left behind: ``logits`` float32 [V] of the first token and ``hidden`` [1, D], None without a head.

    ``reused`` counts the prompt's tokens that came from the cache, ``ms`` is the time that the others took.
    """

    logits: FloatArray
    hidden: FloatArray | None
    reused: int
    ms: float


class Prefiller:
    """Brings prompts into caches, computing only what it has not kept, in ``limit`` bytes.

    The words before the first image, the images with what stands between them, and the question are run each by itself,
    whether the others are kept or not: what is reused and what is computed are the same numbers.
    """

    def __init__(self, bundle: Bundle, limit: int) -> None:
        self._bundle = bundle
        self._store = PrefixStore(limit)

    def key(self, hashes: Iterable[str], prompt: Prompt) -> str:
        """Name the rows of a prompt's image prefix; ``hashes`` are those of its scenes."""
        return prefix_key(self._bundle.manifest.id, self._bundle.manifest.image, hashes, prompt.ids[: prompt.prefix])

    def prefill(self, decoder: Decoder, prompt: Prompt, hashes: Iterable[str], images: FloatArray) -> Prefilled:
        """Append a prompt to a cache of one row, which is empty or holds the prompt's image prefix.

        ``images`` float32 [N, T, D] are the embeddings of its images.
        """
        started = perf_counter()
        reused = decoder.cache.length
        if not reused:
            reused = self._load(decoder, prompt, self.key(hashes, prompt), images)
        last = np.array([[len(prompt.suffix_ids) - 1]])
        logits = decoder.prefill(self._bundle.table.lookup(prompt.suffix_ids)[None], last)[0, 0]
        hidden = decoder.last_hidden
        return Prefilled(logits, None if hidden is None else hidden[0], reused, (perf_counter() - started) * 1e3)

    def _load(self, decoder: Decoder, prompt: Prompt, key: str, images: FloatArray) -> int:
        """Make an empty cache hold a prompt's image prefix; returns how many of its tokens were kept."""
        snapshot = self._store.get(key)
        if snapshot is not None:
            decoder.cache.restore(snapshot)
            return prompt.prefix
        ids = prompt.ids[: prompt.prefix]
        embeds = self._bundle.table.lookup(ids)
        places = ids == self._bundle.manifest.prompt.image_token_id
        embeds[places] = images.reshape(-1, embeds.shape[1])
        opening, reused = int(places.argmax()), 0
        if opening >= LONG_OPENING:
            name = prefix_key(self._bundle.manifest.id, self._bundle.manifest.image, (), ids[:opening])
            kept = self._store.get(name)
            if kept is None:
                self._append(decoder, embeds[:opening], name)
            else:
                decoder.cache.restore(kept)
                reused = opening
            embeds = embeds[opening:]
        self._append(decoder, embeds, key)
        return reused

    def _append(self, decoder: Decoder, embeds: FloatArray, key: str) -> None:
        """Run embeddings [S, D] for the cache alone, and keep what it holds then."""
        decoder.prefill(embeds[None], np.zeros((1, 0), np.int64))
        self._store.put(key, decoder.cache.snapshot())
