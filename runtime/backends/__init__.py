"""What runs a bundle's graphs. One protocol, so that generation, caching and views do not know what is below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from gmrt.runtime.cache import KVCache
from gmrt.runtime.errors import ProviderError
from gmrt.runtime.image import FloatArray

if TYPE_CHECKING:
    from gmrt.runtime.bundle import Bundle

PROVIDERS = ("cpu", "cuda", "tensorrt")


@dataclass(frozen=True)
class Encoded:
    """What tower and connector made of a batch of images: ``embeds`` float32 [batch, T, D] for the decoder.

    ``places`` float32 [batch, P, G, G] says what is where, for the locator; None where the bundle has none.
    """

    embeds: FloatArray
    places: FloatArray | None = None


class Decoder(Protocol):
    """A decoder bound to one cache, with everything that a step needs made once.

    ``embeds`` float32 [batch, 1, D] is where the next token's embedding is written, ``logits`` float32 [batch, 1, V]
    is where `step` leaves its result; both are overwritten by every step. ``cache`` is advanced by `prefill` and
    `step`, and may be truncated or restored between calls. ``last_hidden`` float32 [batch, n, D] is what the logits of
    the latest `prefill` were computed from, a new array each time; None where the bundle has no head to read it.
    V is the number of words that the bundle's head can give (`Manifest.logits_size`).
    """

    cache: KVCache
    embeds: FloatArray
    logits: FloatArray
    last_hidden: FloatArray | None

    def prefill(self, embeds: FloatArray, logits_at: npt.NDArray[np.int64]) -> FloatArray:
        """Append embeds [batch, S, D] to the cache.

        Returns logits float32 [batch, n, V] at the positions ``logits_at`` int64 [batch, n] along S (n may be 0).
        A cache that already holds tokens takes S > 1 only for a batch of one (a limit of the attention kernel).
        Raises `CacheFullError`, leaving the cache as it was.
        """

    def step(self) -> None:
        """Append the token in ``embeds`` to the cache and leave its logits in ``logits``; raises `CacheFullError`."""


class Backend(Protocol):
    """A loaded bundle on one provider. ``notes`` are sentences that the user should know about how it runs.

    ``max_batch`` is how many rows of a cache a step carries well; 1 where a cache's rows cannot be bound one by one.
    """

    provider: str
    notes: tuple[str, ...]
    max_batch: int

    def prepare_vision(self) -> None:
        """Load the tower now; `encode` does it otherwise. Calling it again does nothing; any thread may call it."""

    def encode(self, pixels: FloatArray) -> Encoded:
        """Run tower and connector on pixels float32 [batch, 3, H, W]."""

    def measure(self, last_hidden: FloatArray) -> FloatArray:
        """Run the regression head, loading it first: last_hidden float32 [n, D] to values [n, K] in their units."""

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Allocate an empty cache where this backend wants it."""

    def bind(self, cache: KVCache) -> Decoder:
        """Bind the decoder to a cache made by `new_cache` (or a fork of one)."""


def create_backend(bundle: Bundle, provider: str) -> Backend:
    """Load a bundle's decoder for a provider; raises `ProviderError` when it cannot be had here."""
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
    if provider == "tensorrt":
        from gmrt.runtime.backends.tensorrt import open_tensorrt

        return open_tensorrt(bundle)
    if bundle.manifest.target == "tensorrt":
        from gmrt.runtime.backends.standard import StandardBackend

        return StandardBackend(bundle, provider)
    from gmrt.runtime.backends.ort import OrtBackend

    return OrtBackend(bundle, provider)
