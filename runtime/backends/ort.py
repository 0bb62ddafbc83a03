"""onnxruntime as the backend: sessions made once, buffers bound once.

A decode step writes one embedding, counts two numbers up and runs. Measured on the CPU provider (onnxruntime 1.31,
2 cores): numpy arrays given to `IOBinding.bind_cpu_input` and to `bind_output` with their address are shared, not
copied, so the decoder reads its past from, and writes its present to, the very buffers of the cache.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends import Decoder, Encoded
from gmrt.runtime.backends.int8_cache import require_int8_cache
from gmrt.runtime.backends.machine import int8_products_saturate, large_blocks_apart, physical_cores
from gmrt.runtime.cache import KVCache, Snapshot
from gmrt.runtime.errors import BundleError, CacheFullError, ProviderError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.manifest import CacheGeometry, GraphSpec

if TYPE_CHECKING:
    from gmrt.runtime.bundle import Bundle

_EXECUTION_PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CPU_ROWS = 8
"""Rows of a batched step."""
_STEP_INPUTS = ("inputs_embeds", "seqlens_k", "total_length", "logits_at")


class OrtBackend:
    """A bundle on onnxruntime's CPU or CUDA provider. The tower's session is made when the first image comes."""

    def __init__(self, bundle: Bundle, provider: str) -> None:
        self._ort = _import_onnxruntime(bundle.manifest.min_onnxruntime)
        self._bundle = bundle
        self._vision: Any = None
        self._loading = threading.Lock()
        self._heads: Any = None
        self.provider = provider
        if _EXECUTION_PROVIDER[provider] not in self._ort.get_available_providers():
            raise ProviderError(
                f"this onnxruntime has no {_EXECUTION_PROVIDER[provider]}: use the provider cpu, or install "
                'onnxruntime-gpu in its place with pip install "gmrt[gpu]"'
            )
        if bundle.manifest.cache.dtype == "int8":
            require_int8_cache("this bundle")
        self.notes = _notes(bundle, provider)
        self.max_batch = _CPU_ROWS if provider == "cpu" else 1
        self._decoder = self._session(bundle.manifest.decoder)

    def prepare_vision(self) -> None:
        """Load the tower, unless that has been done; a call that finds another thread at it waits."""
        with self._loading:
            if self._vision is None:
                self._vision = self._session(self._bundle.manifest.vision)

    def encode(self, pixels: FloatArray) -> Encoded:
        """Run tower and connector on pixels float32 [batch, 3, H, W]."""
        self.prepare_vision()
        manifest = self._bundle.manifest
        expected: dict[str, tuple[int, ...]] = {
            "image_embeds": (len(pixels), manifest.image.tokens, manifest.hidden_size)
        }
        if manifest.locator is not None:
            expected["image_places"] = (len(pixels), *manifest.places)
        with Reported(self._ort, manifest.vision.file):
            made: list[FloatArray] = self._vision.run(list(expected), {"pixels": pixels})
        for array, shape in zip(made, expected.values(), strict=True):
            if array.shape != shape:
                raise BundleError(f"{manifest.vision.file}: returned {list(array.shape)} instead of {list(shape)}")
        return Encoded(*made)

    def measure(self, last_hidden: FloatArray) -> FloatArray:
        """Run the regression head: last_hidden float32 [n, D] to values float32 [n, K]; the bundle must have one."""
        heads = self._bundle.manifest.heads
        assert heads is not None
        if self._heads is None:
            self._heads = self._session(heads)
        with Reported(self._ort, heads.file):
            values: FloatArray = self._heads.run(["values"], {"last_hidden": last_hidden})[0]
        expected = (len(last_hidden), len(heads.measures))
        if values.shape != expected:
            raise BundleError(f"{heads.file}: returned {list(values.shape)} instead of {list(expected)}")
        return values

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Allocate an empty cache in the memory of the provider."""
        geometry = self._bundle.manifest.cache
        if self.provider == "cpu":
            return KVCache(geometry, capacity, batch)
        return DeviceKVCache(geometry, capacity, batch, ort=self._ort, device=self.provider)

    def bind(self, cache: KVCache) -> Decoder:
        """Bind the decoder to a cache."""
        return OrtDecoder(self._ort, self._decoder, cache, self._bundle, rebind=self.provider != "cpu")

    def _saturable(self, graph: GraphSpec) -> bool:
        return graph is self._bundle.manifest.vision and not graph.fits_16_bits

    def _session(self, graph: GraphSpec) -> Any:
        options = session_options(self._ort, self.provider, saturable=self._saturable(graph))
        providers = [_EXECUTION_PROVIDER[self.provider]]
        with Reported(self._ort, graph.file), large_blocks_apart():
            session = self._ort.InferenceSession(str(self._bundle.path(graph.file)), options, providers=providers)
        _check_io(session, graph)
        return session


class OrtDecoder:
    """The decoder session bound to one cache; see `gmrt.runtime.backends.Decoder`.

    ``rebind``: inputs in host memory are copied to the device when they are bound, so they are bound again each run.
    """

    def __init__(self, ort: Any, session: Any, cache: KVCache, bundle: Bundle, *, rebind: bool) -> None:
        manifest = bundle.manifest
        batch = cache.batch
        self.cache = cache
        self.embeds: FloatArray = np.zeros((batch, 1, manifest.hidden_size), np.float32)
        self.logits: FloatArray = np.zeros((batch, 1, manifest.logits_size), np.float32)
        self.last_hidden: FloatArray | None = None
        self._reads_hidden = manifest.heads is not None or manifest.locator is not None
        self._ort, self._session, self._rebind = ort, session, rebind
        self._reported = Reported(ort, manifest.decoder.file)
        # The last valid position after a step of one token is the number of tokens before it: the cache's own counter.
        self._total = np.zeros(1, np.int32)
        self._inputs = (self.embeds, cache.lengths, self._total, np.zeros((batch, 1), np.int64))
        # A value for each buffer is made once: it takes 2 µs, and a model has dozens of them.
        self._values = [
            buffer if isinstance(buffer, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(buffer)
            for buffer in cache.buffers
        ]
        self._step = self._binding()
        self._bind(self._step, self._inputs, self.logits)
        self._prefill = self._binding()

    def prefill(self, embeds: FloatArray, logits_at: npt.NDArray[np.int64]) -> FloatArray:
        """Append embeds [batch, S, D]; returns logits [batch, n, V] at ``logits_at`` [batch, n]."""
        steps = embeds.shape[1]
        self.cache.require(steps)
        logits: FloatArray = np.empty((*logits_at.shape, self.logits.shape[2]), np.float32)
        ends = self.cache.lengths + np.int32(steps - 1)
        total = np.array([self.cache.length + steps], np.int32)
        embeds = np.ascontiguousarray(embeds, np.float32)
        self._bind(self._prefill, (embeds, ends, total, logits_at), logits)
        if self._reads_hidden:
            hidden: FloatArray = np.empty((*logits_at.shape, self.embeds.shape[2]), np.float32)
            self._prefill.bind_output("last_hidden", "cpu", 0, np.float32, hidden.shape, hidden.ctypes.data)
            self.last_hidden = hidden
        with self._reported:
            self._session.run_with_iobinding(self._prefill)
        self.cache.advance(steps)
        return logits

    def step(self) -> None:
        """Append the token in ``embeds``; its logits are left in ``logits``."""
        length = self.cache.length
        if length == self.cache.capacity:
            raise CacheFullError(length + 1, self.cache.capacity)
        self._total[0] = length + 1
        if self._rebind:
            self._bind_inputs(self._step, self._inputs)
        with self._reported:
            self._session.run_with_iobinding(self._step)
        self.cache.advance(1)

    def _binding(self) -> Any:
        """The cache's buffers as past and as present; what a run brings and takes is bound by `_bind`."""
        binding = self._session.io_binding()
        for index, value in enumerate(self._values):
            name = f"{'value' if index % 2 else 'key'}.{index // 2}"
            binding.bind_ortvalue_input(f"past_{name}", value)
            binding.bind_ortvalue_output(f"present_{name}", value)
        return binding

    def _bind(self, binding: Any, inputs: tuple[npt.NDArray[Any], ...], logits: FloatArray) -> None:
        self._bind_inputs(binding, inputs)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)

    @staticmethod
    def _bind_inputs(binding: Any, inputs: tuple[npt.NDArray[Any], ...]) -> None:
        for name, array in zip(_STEP_INPUTS, inputs, strict=True):
            binding.bind_cpu_input(name, array)


class DeviceKVCache(KVCache):
    """A cache whose buffers are OrtValues in a device's memory; its snapshots live in host memory.

    onnxruntime copies whole values between host and device, so `snapshot` and `restore` move all buffers.
    """

    def __init__(self, geometry: CacheGeometry, capacity: int, batch: int, *, ort: Any, device: str) -> None:
        super().__init__(geometry, capacity, batch)
        self._ort, self._device = ort, device
        self._bytes = super().nbytes
        self.buffers = tuple(ort.OrtValue.ortvalue_from_numpy(buffer, device, 0) for buffer in self.buffers)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return self._bytes

    def snapshot(self) -> Snapshot:
        """Copy the valid tokens of a cache of batch 1 to the host; raises ValueError for a wider one."""
        if self.batch != 1:
            raise ValueError(f"a snapshot is of one row, this cache has {self.batch}")
        return Snapshot(np.stack([value.numpy()[0, :, : self.length] for value in self.buffers]))

    def restore(self, snapshot: Snapshot) -> None:
        """Make every row hold exactly the snapshot's tokens; raises `CacheFullError` when they do not fit."""
        if snapshot.length > self.capacity:
            raise CacheFullError(snapshot.length, self.capacity)
        for value, rows in zip(self.buffers, snapshot.rows, strict=True):
            whole = value.numpy()
            whole[:, :, : snapshot.length] = rows
            value.update_inplace(whole)
        self.lengths[:] = snapshot.length

    def rows(self, start: int, stop: int) -> KVCache:
        """Return this cache where all rows are asked for; raises ValueError for a part, which cannot be bound."""
        if (start, stop) != (0, self.batch):
            raise ValueError(f"rows {start} to {stop} of {self.batch}: a device's buffer is bound as a whole")
        return self

    def _empty(self, capacity: int, batch: int) -> KVCache:
        return DeviceKVCache(self.geometry, capacity, batch, ort=self._ort, device=self._device)


class Reported:
    """Turn onnxruntime's own exceptions inside a ``with`` into `BundleError`: the graph is at fault, not the caller."""

    def __init__(self, ort: Any, file: str) -> None:
        state = ort.capi.onnxruntime_pybind11_state
        names = (
            "EPFail",
            "EngineError",
            "Fail",
            "InvalidArgument",
            "InvalidGraph",
            "InvalidProtobuf",
            "NoModel",
            "NoSuchFile",
            "NotImplemented",
            "RuntimeException",
        )
        # A run over bound buffers reports a shape that does not fit as a plain RuntimeError.
        self._kinds = (RuntimeError, *(getattr(state, name) for name in names))
        self._file = file

    def __enter__(self) -> None:
        """Do nothing: only the way out matters."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise `BundleError` in place of an exception of onnxruntime."""
        if kind is not None and issubclass(kind, self._kinds):
            first = str(error).splitlines()[0] if str(error) else kind.__name__
            raise BundleError(f"{self._file}: onnxruntime refused the graph ({first[:300]})") from error


def _import_onnxruntime(minimum: str) -> Any:
    """Import onnxruntime, refusing a version older than ``minimum``."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(f'onnxruntime cannot be imported ({error}): pip install "gmrt[cpu]"') from None
    if _release(ort.__version__) < _release(minimum):
        raise ProviderError(
            f"this bundle needs onnxruntime {minimum} or newer and {ort.__version__} is installed: "
            f'pip install "onnxruntime>={minimum}"'
        )
    return ort


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def session_options(ort: Any, provider: str, *, saturable: bool) -> Any:
    """Make the options of every session of the field; ``saturable``: sums of its 8-bit products may pass 16 bits."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = physical_cores()
    options.inter_op_num_threads = 1
    # Workers may spin between operators, as is onnxruntime's default: with both of 2 cores free a nano step took
    # 0.5 ms against 0.9 ms without; on cores that others keep busy it is the other way round, up to 1.8 times.
    # The arena keeps the peak of every shape it has seen; without it the heap gives memory back.
    options.enable_cpu_mem_arena = False
    if provider == "cpu" and saturable and int8_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _notes(bundle: Bundle, provider: str) -> tuple[str, ...]:
    if provider == "cpu" and bundle.manifest.precision == "fp16":
        note = (
            "this fp16 bundle is only stored in half precision here: a CPU computes it in fp32, so it is no faster; "
            "int8 is the precision for a CPU"
        )
        return (note,)
    return ()


def _check_io(session: Any, graph: GraphSpec) -> None:
    """Refuse a graph whose inputs and outputs are not those that the manifest lists."""
    for kind, wanted, found in (
        ("input", graph.inputs, session.get_inputs()),
        ("output", graph.outputs, session.get_outputs()),
    ):
        names = {value.name for value in found}
        if names != set(wanted):
            missing = ", ".join(sorted(set(wanted) ^ names)[:4])
            raise BundleError(
                f"{graph.file}: its {kind}s differ from the manifest in {missing}: export the bundle again"
            )
