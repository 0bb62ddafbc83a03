"""The ``standard`` dialect on onnxruntime: the double on which everything that TensorRT will do is proved.

The cache is one buffer [layers, 2, batch, kv_heads, bucket, head_dim]; a decoder reads the past where it lies, gets the
new rows as one tensor, and copies them once to each row's length. Attention costs the buffer's capacity and not the
length of the text, so capacities come in buckets; and a prompt longer than a profile's chunk is prefilled in pieces.
`gmrt.runtime.backends.tensorrt` shares all of this but the memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends import Decoder
from gmrt.runtime.backends.ort import OrtBackend, Reported
from gmrt.runtime.cache import KVCache
from gmrt.runtime.image import FloatArray
from gmrt.runtime.manifest import CacheGeometry, GraphSpec, Manifest
from gmrt.runtime.profiles import asked_size

if TYPE_CHECKING:
    from gmrt.runtime.bundle import Bundle

IntArray = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]

MASKED = -1e30
"""Added to the score of a row that may not be looked at: its exponential is 0, and no sum with it is infinite."""


class StandardBackend(OrtBackend):
    """A bundle of the ``standard`` dialect on an onnxruntime provider."""

    def __init__(self, bundle: Bundle, provider: str) -> None:
        super().__init__(bundle, provider)
        note = (
            "this bundle is for TensorRT and runs on onnxruntime here, which proves its answers and not its speed; "
            "export with --target cpu for a bundle that is fast here"
        )
        self.notes = (note, *self.notes)
        # Profiles are for one row; here more would run, and on a device they would not.
        self.max_batch = 1

    def _saturable(self, graph: GraphSpec) -> bool:
        # Weights have all 8 bits, the decoder's too: TensorRT sums them in 32, and a double must not saturate at 16.
        return not graph.fits_16_bits

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Allocate an empty cache in host memory."""
        manifest = self._bundle.manifest
        return BucketCache(manifest.cache, capacity, batch, buckets=manifest.buckets)

    def bind(self, cache: KVCache) -> Decoder:
        """Bind the decoder to a cache."""
        assert isinstance(cache, BucketCache)
        return StandardDecoder(self._ort, self._decoder, cache, self._bundle)


class BucketCache(KVCache):
    """A cache in one buffer ``storage`` [layers, 2, batch, kv_heads, bucket, head_dim], whose parts `buffers` are.

    ``bucket`` is the smallest of ``buckets`` that holds ``capacity``; rows behind the capacity are never used.
    """

    def __init__(self, geometry: CacheGeometry, capacity: int, batch: int = 1, *, buckets: tuple[int, ...]) -> None:
        super().__init__(geometry, capacity, batch)
        self.bucket = next(bucket for bucket in buckets if bucket >= capacity)
        self._buckets = buckets
        shape = (geometry.layers, 2, batch, geometry.kv_heads, self.bucket, geometry.head_dim)
        self.storage: npt.NDArray[Any] = np.zeros(shape, geometry.dtype)
        self.buffers = tuple(part for layer in self.storage for part in layer)

    def write(self, rows: npt.NDArray[Any]) -> None:
        """Copy new rows [layers, 2, batch, kv_heads, S, head_dim] behind each row's length, and count them."""
        steps = rows.shape[4]
        for row, length in enumerate(self.lengths):
            self.storage[:, :, row, :, length : length + steps] = rows[:, :, row]
        self.advance(steps)

    def rows(self, start: int, stop: int) -> KVCache:
        """Return a cache over some of the rows, in the same memory; see `KVCache.rows`."""
        part = super().rows(start, stop)
        assert isinstance(part, BucketCache)
        part.storage = self.storage[:, :, start:stop]
        return part

    def _empty(self, capacity: int, batch: int) -> KVCache:
        return BucketCache(self.geometry, capacity, batch, buckets=self._buckets)


def places(lengths: npt.NDArray[np.int32], steps: int, bucket: int) -> dict[str, npt.NDArray[Any]]:
    """Say where ``steps`` new tokens of each row are and what they may look at, by the names of the graph's inputs.

    ``positions`` int64 [batch, steps]; ``past_mask`` float32 [batch, 1, 1, bucket], 0 for the first ``lengths[b]``
    rows; ``new_mask`` float32 [1, 1, steps, steps], 0 up to the token that looks; `MASKED` elsewhere.
    """
    valid = np.arange(bucket) < lengths[:, None, None, None]
    causal = np.tri(steps, dtype=np.bool_)[None, None]
    return {
        "positions": lengths[:, None] + np.arange(steps, dtype=np.int64),
        "past_mask": np.where(valid, np.float32(0), np.float32(MASKED)),
        "new_mask": np.where(causal, np.float32(0), np.float32(MASKED)),
    }


def pieces(steps: int, asked: IntArray, chunk: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut ``steps`` new tokens into (start, stop) of at most ``chunk``, with at most ``most`` of the ``asked`` each."""
    at, start = np.unique(asked), 0
    while start < steps:
        behind = at[at >= start]
        stop = min(start + chunk, steps, *behind[most : most + 1].tolist())
        yield start, stop
        start = stop


class ChunkedDecoder(ABC):
    """A decoder of the ``standard`` dialect, which prefills in pieces; see `gmrt.runtime.backends.Decoder`.

    ``embeds`` and ``logits`` are the memory that a step reads and writes.
    """

    def __init__(self, cache: KVCache, manifest: Manifest, embeds: FloatArray, logits: FloatArray) -> None:
        self.cache = cache
        self.embeds = embeds
        self.logits = logits
        self.last_hidden: FloatArray | None = None
        self._reads_hidden = manifest.heads is not None or manifest.locator is not None
        self._chunk, self._asked = manifest.chunk, asked_size(manifest.profiles)

    @abstractmethod
    def step(self) -> None:
        """Append the token in ``embeds``; its logits are left in ``logits``."""

    @abstractmethod
    def _run(self, embeds: FloatArray, logits_at: IntArray) -> tuple[FloatArray, FloatArray]:
        """Append one piece, embeds [batch, S, D]; returns logits and last hidden states at ``logits_at`` [batch, n]."""

    def prefill(self, embeds: FloatArray, logits_at: IntArray) -> FloatArray:
        """Append embeds [batch, S, D], piece by piece; returns logits [batch, n, V] at ``logits_at`` [batch, n]."""
        steps = embeds.shape[1]
        self.cache.require(steps)
        before = self.cache.lengths.copy()
        logits: FloatArray = np.empty((*logits_at.shape, self.logits.shape[2]), np.float32)
        hidden: FloatArray = np.empty((*logits_at.shape, self.embeds.shape[2]), np.float32)
        try:
            for start, stop in pieces(steps, logits_at, self._chunk, self._asked):
                here = (logits_at >= start) & (logits_at < stop)
                some = here.any(axis=0)
                # An engine's profile wants one position at least, and every row as many.
                at = np.where(here, logits_at - start, 0)[:, some]
                at = at if at.size else np.zeros((self.cache.batch, 1), np.int64)
                found, states = self._run(np.ascontiguousarray(embeds[:, start:stop], np.float32), at)
                if some.any():
                    logits[here], hidden[here] = found[here[:, some]], states[here[:, some]]
        except BaseException:
            self.cache.lengths[:] = before
            raise
        self.last_hidden = hidden if self._reads_hidden else None
        return logits


class StandardDecoder(ChunkedDecoder):
    """The decoder's session on onnxruntime, bound to one cache in host memory."""

    def __init__(self, ort: Any, session: Any, cache: BucketCache, bundle: Bundle) -> None:
        manifest = bundle.manifest
        batch = cache.batch
        embeds: FloatArray = np.zeros((batch, 1, manifest.hidden_size), np.float32)
        logits: FloatArray = np.zeros((batch, 1, manifest.logits_size), np.float32)
        super().__init__(cache, manifest, embeds, logits)
        self._cache = cache
        self._ort, self._session = ort, session
        self._reported = Reported(ort, manifest.decoder.file)
        self._places = places(cache.lengths, 1, cache.bucket)
        self._rows = self._new_rows(1)
        inputs: Arrays = {"inputs_embeds": self.embeds, "logits_at": np.zeros((batch, 1), np.int64), **self._places}
        self._step = self._binding(inputs, {"logits": self.logits, "new_rows": self._rows})

    def step(self) -> None:
        """Append the token in ``embeds``; its logits are left in ``logits``."""
        self.cache.require(1)
        for name, array in places(self._cache.lengths, 1, self._cache.bucket).items():
            self._places[name][:] = array
        with self._reported:
            self._session.run_with_iobinding(self._step)
        self._cache.write(self._rows)

    def _run(self, embeds: FloatArray, logits_at: IntArray) -> tuple[FloatArray, FloatArray]:
        cache, steps = self._cache, embeds.shape[1]
        inputs: Arrays = {"inputs_embeds": embeds, "logits_at": logits_at, **places(cache.lengths, steps, cache.bucket)}
        logits: FloatArray = np.empty((*logits_at.shape, self.logits.shape[2]), np.float32)
        states: FloatArray = np.empty((*logits_at.shape, self.embeds.shape[2]), np.float32)
        rows = self._new_rows(steps)
        outputs = {"logits": logits, "last_hidden": states, "new_rows": rows}
        with self._reported:
            self._session.run_with_iobinding(self._binding(inputs, outputs))
        cache.write(rows)
        return logits, states

    def _new_rows(self, steps: int) -> npt.NDArray[Any]:
        shape = list(self._cache.storage.shape)
        shape[4] = steps
        return np.empty(shape, self._cache.storage.dtype)

    def _binding(self, inputs: Arrays, outputs: Arrays) -> Any:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for index, buffer in enumerate(self.cache.buffers):
            name = f"past_{'value' if index % 2 else 'key'}.{index // 2}"
            binding.bind_ortvalue_input(name, self._ort.OrtValue.ortvalue_from_numpy(buffer))
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding
