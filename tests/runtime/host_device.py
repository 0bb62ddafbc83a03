"""A GPU that is not there: memory, a stream and engines in host memory, for the TensorRT backend.

It is strict where a real one goes wrong silently. Work is queued and done by `synchronise` alone, so that what is read
too early is read as it was; a recorded graph is replayed with the addresses and shapes of its recording; every address
must lie in memory that is still allocated, and shapes must be those of the profile.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from gmrt.runtime.backends.device import Memory
from gmrt.runtime.bundle import Bundle
from gmrt.runtime.engines import EngineJob, plan_engines
from gmrt.runtime.errors import ProviderError
from gmrt.runtime.profiles import Shape

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class HostDevice:
    """See `gmrt.runtime.backends.device.Device`; ``queued`` counts what was queued by kind, captures apart."""

    def __init__(self) -> None:
        self._blocks: dict[int, np.ndarray] = {}
        self._queue: list[Callable[[], None]] = []
        self._recording: list[Callable[[], None]] | None = None
        self.queued = {"copy": 0, "copy_rows": 0, "run": 0, "launch": 0, "synchronise": 0, "capture": 0, "allocate": 0}

    @property
    def nbytes(self) -> int:
        """Bytes allocated now."""
        return sum(block.nbytes for block in self._blocks.values())

    def allocate(self, nbytes: int) -> Memory:
        """Allocate zeros."""
        assert self._recording is None, "memory is allocated while a graph is recorded"
        self.queued["allocate"] += 1
        block = np.zeros(nbytes, np.uint8)
        memory = Memory(block.ctypes.data, nbytes)
        self._blocks[memory.address] = block
        weakref.finalize(memory, self._blocks.pop, memory.address)
        return memory

    def pinned(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Allocate an array; here all memory is the host's."""
        return np.zeros(shape, dtype)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Queue a copy; one of its ends is on the device."""
        assert self.holds(target, nbytes) or self.holds(source, nbytes)
        self.enqueue("copy", lambda: ctypes.memmove(target, source, nbytes))

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, *, width: int, rows: int
    ) -> None:
        """Queue a strided copy."""
        assert width <= target_pitch
        assert width <= source_pitch
        ends = [(at, pitch * (rows - 1) + width) for at, pitch in ((target, target_pitch), (source, source_pitch))]
        assert any(self.holds(*end) for end in ends)

        def work() -> None:
            for row in range(rows):
                ctypes.memmove(target + row * target_pitch, source + row * source_pitch, width)

        self.enqueue("copy_rows", work)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what is queued."""
        assert self._recording is None
        assert not self._queue, "recording begins behind work that nobody has waited for"
        self.queued["capture"] += 1
        self._recording = recorded = []
        try:
            work()
        finally:
            self._recording = None
        return lambda: self.enqueue("launch", lambda: [each() for each in recorded])

    def synchronise(self) -> None:
        """Do the work."""
        assert self._recording is None, "a stream is waited for while a graph is recorded"
        self.queued["synchronise"] += 1
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def enqueue(self, kind: str, work: Callable[[], Any]) -> None:
        """Queue work, or record it."""
        if self._recording is not None:
            self._recording.append(work)
        else:
            self.queued[kind] += 1
            self._queue.append(work)

    def holds(self, address: int, nbytes: int) -> bool:
        """Whether memory lies in one allocation."""
        return any(at <= address and address + nbytes <= at + block.nbytes for at, block in self._blocks.items())


class HostEngine:
    """An engine's graph on onnxruntime, that takes the shapes of its profiles and no others."""

    def __init__(self, bundle: Bundle, job: EngineJob, device: HostDevice) -> None:
        self._device, self._job = device, job
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        path = str(bundle.path(job.onnx))
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, profile: int, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:
        """Queue a run."""
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        assert set(shapes) == set(inputs)
        assert set(addresses) == {*inputs, *outputs}, "TensorRT wants an address for every tensor"
        for name, shape in shapes.items():
            least, _, largest = self._job.profiles[profile][name]
            if not all(a <= size <= b for a, size, b in zip(least, shape, largest, strict=True)):
                raise ProviderError(f"{name} {shape} is not within profile {profile}: {least} to {largest}")
        shapes, addresses = dict(shapes), dict(addresses)

        def work() -> None:
            feeds = {name: self._read(inputs[name], addresses[name], shape) for name, shape in shapes.items()}
            for name, array in zip(outputs, self._session.run(list(outputs), feeds), strict=True):
                assert self._device.holds(addresses[name], array.nbytes), name
                ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)

        self._device.enqueue("run", work)

    def _read(self, value: Any, address: int, shape: Shape) -> np.ndarray:
        dtype = np.dtype(_TYPES[value.type])
        nbytes = int(np.prod(shape)) * dtype.itemsize
        assert self._device.holds(address, nbytes), value.name
        return np.frombuffer(ctypes.string_at(address, nbytes), dtype).reshape(shape)


def host_engines(bundle: Bundle, device: HostDevice) -> Callable[[str], HostEngine]:
    """What loads the engines of a bundle by name."""
    jobs = {job.name: job for job in plan_engines(bundle.root, bundle.manifest, workspace=0)}
    return lambda name: HostEngine(bundle, jobs[name], device)
