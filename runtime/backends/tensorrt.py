"""TensorRT engines as a backend, without onnxruntime.

A decode step is one CUDA graph, recorded once when a cache is bound: the token's embedding, position and mask go up
from pinned memory, the engine runs, the logits come down. Nothing in it depends on the length of the text. One strided
copy behind it, which does, puts the new rows into the cache, and the stream is waited for once.

Memory of the device is allocated when an engine is loaded or a cache is made, not while answering. An engine is of one
capacity of the cache and stays loaded as long as a decoder uses it: each brings its own weights.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends import Decoder, Encoded
from gmrt.runtime.backends.device import Device, Engine, Tensor, address_of
from gmrt.runtime.backends.standard import MASKED, Arrays, ChunkedDecoder, IntArray, places
from gmrt.runtime.cache import KVCache, Snapshot
from gmrt.runtime.errors import CacheFullError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.manifest import CacheGeometry, Manifest
from gmrt.runtime.profiles import Shape

if TYPE_CHECKING:
    from gmrt.runtime.bundle import Bundle

_PREFILL, _DECODE = 0, 1
"""The profiles of a decoder's engine, in the order in which `gmrt.runtime.engines.plan_engines` builds them."""


def open_tensorrt(bundle: Bundle) -> TensorRTBackend:
    """Find the bundle's engines for this device.

    Raises `BundleError` for a bundle of another target, and `ProviderError` in one sentence where TensorRT, a GPU or a
    fitting engine is missing.
    """
    from gmrt.runtime.backends.cuda import CudaDevice, TensorRTEngine, import_cuda
    from gmrt.runtime.engines import find_engine, plan_engines, this_device

    jobs = plan_engines(bundle.root, bundle.manifest, workspace=0)
    here = this_device()
    plans = {job.name: find_engine(bundle.root, job, here) for job in jobs}
    device = CudaDevice(import_cuda())
    return TensorRTBackend(bundle, device, lambda name: TensorRTEngine(plans[name], device))


class TensorRTBackend:
    """A bundle on TensorRT; ``open_engine`` loads an engine by its name, as decoder-256.

    Engines are loaded when they are first needed. Their profiles are for one row, so a cache has one.
    """

    provider = "tensorrt"
    max_batch = 1

    def __init__(self, bundle: Bundle, device: Device, open_engine: Callable[[str], Engine]) -> None:
        self.notes: tuple[str, ...] = ()
        self._bundle, self._device, self._open = bundle, device, open_engine
        self._loading = threading.Lock()
        self._vision: FixedGraph | None = None
        self._heads: FixedGraph | None = None
        self._decoders: weakref.WeakValueDictionary[int, DecoderGraph] = weakref.WeakValueDictionary()

    def prepare_vision(self) -> None:
        """Load the tower, unless that has been done; a call that finds another thread at it waits."""
        manifest = self._bundle.manifest
        made: dict[str, Shape] = {"image_embeds": (1, manifest.image.tokens, manifest.hidden_size)}
        if manifest.locator is not None:
            made["image_places"] = (1, *manifest.places)
        pixels = (1, 3, manifest.image.height, manifest.image.width)
        with self._loading:
            if self._vision is None:
                self._vision = FixedGraph(self._device, self._open("vision"), {"pixels": pixels}, made)

    def encode(self, pixels: FloatArray) -> Encoded:
        """Run tower and connector on pixels float32 [batch, 3, H, W], one image after another."""
        self.prepare_vision()
        assert self._vision is not None
        found = [self._vision.run(image[None]) for image in pixels]
        return Encoded(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def measure(self, last_hidden: FloatArray) -> FloatArray:
        """Run the regression head: last_hidden float32 [n, D] to values float32 [n, K]; the bundle must have one."""
        heads, width = self._bundle.manifest.heads, self._bundle.manifest.hidden_size
        assert heads is not None
        if self._heads is None:
            made: dict[str, Shape] = {"values": (1, len(heads.measures))}
            self._heads = FixedGraph(self._device, self._open("heads"), {"last_hidden": (1, width)}, made)
        values: FloatArray = np.concatenate([self._heads.run(row[None])[0] for row in last_hidden])
        return values

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Allocate an empty cache of one row in the device's memory; raises ValueError for more."""
        manifest = self._bundle.manifest
        return DeviceCache(manifest.cache, capacity, batch, device=self._device, buckets=manifest.buckets)

    def bind(self, cache: KVCache) -> Decoder:
        """Bind the decoder of the cache's capacity, loading its engine first, and record a step."""
        assert isinstance(cache, DeviceCache)
        graph = self._decoders.get(cache.bucket)
        if graph is None:
            engine = self._open(f"decoder-{cache.bucket}")
            graph = DecoderGraph(self._device, engine, self._bundle.manifest, cache.bucket)
            self._decoders[cache.bucket] = graph
        return TensorRTDecoder(graph, cache, self._bundle.manifest)


class DeviceCache(KVCache):
    """A cache of one row in one block of a device's memory, [layers, 2, 1, kv_heads, bucket, head_dim].

    ``bucket`` is the smallest of ``buckets`` that holds ``capacity``. Snapshots live in host memory. Raises ValueError
    for more than one row.
    """

    def __init__(
        self, geometry: CacheGeometry, capacity: int, batch: int, *, device: Device, buckets: tuple[int, ...]
    ) -> None:
        if batch != 1:
            raise ValueError(f"a cache of {batch} rows: engines are built for one")
        super().__init__(geometry, capacity)
        self.buffers = ()  # nothing of it is in host memory
        self.bucket = next(bucket for bucket in buckets if bucket >= capacity)
        self._buckets, self._device = buckets, device
        self._token = geometry.head_dim * np.dtype(geometry.dtype).itemsize
        self._heads = 2 * geometry.layers * geometry.kv_heads
        self._pitch = self.bucket * self._token
        self._memory = device.allocate(self._heads * self._pitch)

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self._memory.nbytes

    def addresses(self) -> dict[str, int]:
        """Where each layer's keys and values begin, by the names of the graph's inputs."""
        geometry, part = self.geometry, self.geometry.kv_heads * self._pitch
        names = (f"past_{kind}.{layer}" for layer in range(geometry.layers) for kind in ("key", "value"))
        return {name: self._memory.address + index * part for index, name in enumerate(names)}

    def keep(self, rows: int, steps: int) -> None:
        """Queue the copy of new rows [layers, 2, 1, kv_heads, steps, head_dim] at an address behind the length."""
        target = self._memory.address + self.length * self._token
        width = steps * self._token
        self._device.copy_rows(target, self._pitch, rows, width, width=width, rows=self._heads)

    def snapshot(self) -> Snapshot:
        """Copy the valid tokens to the host."""
        geometry = self.geometry
        rows = np.empty((2 * geometry.layers, geometry.kv_heads, self.length, geometry.head_dim), geometry.dtype)
        width = self.length * self._token
        if width:
            self._device.copy_rows(
                address_of(rows), width, self._memory.address, self._pitch, width=width, rows=self._heads
            )
            self._device.synchronise()
        return Snapshot(rows)

    def restore(self, snapshot: Snapshot) -> None:
        """Hold exactly the snapshot's tokens; raises `CacheFullError` when they do not fit."""
        if snapshot.length > self.capacity:
            raise CacheFullError(snapshot.length, self.capacity)
        rows = np.ascontiguousarray(snapshot.rows, self.geometry.dtype)
        width = snapshot.length * self._token
        if width:
            self._device.copy_rows(
                self._memory.address, self._pitch, address_of(rows), width, width=width, rows=self._heads
            )
            self._device.synchronise()  # before the rows go
        self.lengths[:] = snapshot.length

    def rows(self, start: int, stop: int) -> KVCache:
        """Return this cache, whose only row is asked for; raises ValueError for another."""
        if (start, stop) != (0, 1):
            raise ValueError(f"rows {start} to {stop} of a cache of one row")
        return self

    def copy_row(self, source: int, target: int) -> None:
        """Do nothing: the only row is a copy of itself."""
        if (source, target) != (0, 0):
            raise ValueError(f"row {source} to row {target} of a cache of one row")

    def _empty(self, capacity: int, batch: int) -> KVCache:
        return DeviceCache(self.geometry, capacity, batch, device=self._device, buckets=self._buckets)


class FixedGraph:
    """An engine of one shape and one input, with memory for what it reads and makes, all of it float32."""

    def __init__(self, device: Device, engine: Engine, read: Mapping[str, Shape], made: Mapping[str, Shape]) -> None:
        self._device, self._engine, self._shapes = device, engine, dict(read)
        self._read, self._made = (
            {name: Tensor(device, shape, np.float32) for name, shape in part.items()} for part in (read, made)
        )
        self._addresses = {name: tensor.address for name, tensor in (self._read | self._made).items()}

    def run(self, array: FloatArray) -> list[FloatArray]:
        """Run on the input's array; returns the outputs in order, in arrays of their own."""
        (tensor,) = self._read.values()
        tensor.host[...] = array
        tensor.upload()
        self._engine.run(0, self._shapes, self._addresses)
        for each in self._made.values():
            each.download()
        self._device.synchronise()
        return [each.host.copy() for each in self._made.values()]


class DecoderGraph:
    """The decoder's engine for one capacity, with memory for the largest piece of a prompt."""

    def __init__(self, device: Device, engine: Engine, manifest: Manifest, bucket: int) -> None:
        self.device, self.engine = device, engine
        (profile,) = (p for p in manifest.profiles if p.name == f"prefill-{bucket}")
        largest = {name: trio[2] for name, trio in profile.shapes.items()}
        steps, asked = largest["inputs_embeds"][1], largest["logits_at"][1]
        self.tensors = step_tensors(device, manifest, bucket, steps, asked)

    def prefill(self, cache: DeviceCache, embeds: FloatArray, logits_at: IntArray) -> tuple[FloatArray, FloatArray]:
        """Run one piece, embeds [1, S, D], and append its rows; logits and hidden states at ``logits_at`` [1, n]."""
        steps = embeds.shape[1]
        inputs: Arrays = {"inputs_embeds": embeds, "logits_at": logits_at, **places(cache.lengths, steps, cache.bucket)}
        for name, array in inputs.items():
            self.tensors[name].view(array.shape)[...] = array
            self.tensors[name].upload(array.shape)
        self.run(_PREFILL, self.tensors, cache, {name: array.shape for name, array in inputs.items()})
        found = []
        for name in ("logits", "last_hidden"):
            shape = (*logits_at.shape, self.tensors[name].host.shape[2])
            self.tensors[name].download(shape)
            found.append(self.tensors[name].view(shape))
        cache.keep(self.tensors["new_rows"].address, steps)
        self.device.synchronise()
        cache.advance(steps)
        logits, hidden = (array.copy() for array in found)
        return logits, hidden

    def run(self, profile: int, tensors: Mapping[str, Tensor], cache: DeviceCache, shapes: dict[str, Shape]) -> None:
        """Queue a run over a cache."""
        geometry, past = cache.geometry, cache.addresses()
        shapes |= dict.fromkeys(past, (1, geometry.kv_heads, cache.bucket, geometry.head_dim))
        self.engine.run(profile, shapes, {name: tensor.address for name, tensor in tensors.items()} | past)


class TensorRTDecoder(ChunkedDecoder):
    """The decoder bound to one cache, with a recorded step; see `gmrt.runtime.backends.Decoder`."""

    def __init__(self, graph: DecoderGraph, cache: DeviceCache, manifest: Manifest) -> None:
        self._tensors = step_tensors(graph.device, manifest, cache.bucket, 1, 1)
        super().__init__(cache, manifest, self._tensors["inputs_embeds"].host, self._tensors["logits"].host)
        self._graph, self._cache, self._device = graph, cache, graph.device
        for name, array in places(cache.lengths, 1, cache.bucket).items():
            self._tensors[name].host[...] = array
        for name in ("new_mask", "logits_at"):  # the same in every step
            self._tensors[name].upload()
        # What an engine puts off to the first run under new shapes must not be recorded.
        self._queue()
        self._device.synchronise()
        self._launch = self._device.capture(self._queue)

    def step(self) -> None:
        """Append the token in ``embeds``; its logits are left in ``logits``."""
        self.cache.require(1)
        length, mask = self._cache.length, self._tensors["past_mask"].host
        self._tensors["positions"].host[...] = length
        mask[..., :length] = 0
        mask[..., length:] = MASKED
        self._launch()
        self._cache.keep(self._tensors["new_rows"].address, 1)
        self._device.synchronise()
        self.cache.advance(1)

    def _run(self, embeds: FloatArray, logits_at: IntArray) -> tuple[FloatArray, FloatArray]:
        return self._graph.prefill(self._cache, embeds, logits_at)

    def _queue(self) -> None:
        for name in ("inputs_embeds", "positions", "past_mask"):
            self._tensors[name].upload()
        inputs = ("inputs_embeds", "positions", "past_mask", "new_mask", "logits_at")
        self._graph.run(_DECODE, self._tensors, self._cache, {name: self._tensors[name].host.shape for name in inputs})
        self._tensors["logits"].download()


def step_tensors(device: Device, manifest: Manifest, bucket: int, steps: int, asked: int) -> dict[str, Tensor]:
    """Memory for what the decoder reads and makes besides the cache, for ``steps`` new tokens and ``asked`` logits."""
    cache, width = manifest.cache, manifest.hidden_size
    shapes: dict[str, tuple[Shape, npt.DTypeLike]] = {
        "inputs_embeds": ((1, steps, width), np.float32),
        "positions": ((1, steps), np.int64),
        "past_mask": ((1, 1, 1, bucket), np.float32),
        "new_mask": ((1, 1, steps, steps), np.float32),
        "logits_at": ((1, asked), np.int64),
        "logits": ((1, asked, manifest.logits_size), np.float32),
        "last_hidden": ((1, asked, width), np.float32),
        "new_rows": ((cache.layers, 2, 1, cache.kv_heads, steps, cache.head_dim), cache.dtype),
    }
    return {name: Tensor(device, shape, dtype) for name, (shape, dtype) in shapes.items()}
