"""The GPU itself: memory, a stream and engines, by cuda-python and TensorRT and nothing else.

Only here is either of them called while answering; everything above speaks to `gmrt.runtime.backends.device`. The
names used are those that cuda-python has from 12.6 to 13 and TensorRT from 10.3 to 11 (tests/runtime/test_cuda.py).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends.device import Memory
from gmrt.runtime.errors import MemoryLimitError, ProviderError
from gmrt.runtime.profiles import Shape


def import_cuda() -> Any:
    """The module of CUDA's runtime API; raises `ProviderError` where it, the driver or a GPU is missing."""
    try:
        from cuda.bindings import runtime as cuda
    except ImportError:
        try:
            from cuda import cudart as cuda  # its name until cuda-python 12.6.0
        except ImportError:
            raise ProviderError(
                "cuda-python is not installed: pip install cuda-python, of the version of CUDA here (12.6 with JetPack "
                "6, 13 with JetPack 7)"
            ) from None
    try:
        error, count = cuda.cudaGetDeviceCount()
    except RuntimeError as missing:  # libcuda itself is not there
        raise ProviderError(f"CUDA has no driver here ({missing}): run on a machine with an NVIDIA GPU") from None
    if error != cuda.cudaError_t.cudaSuccess or not count:
        raise ProviderError("CUDA finds no GPU here: build and run engines on the device that has one")
    return cuda


class CudaDevice:
    """The first GPU and a stream of it; see `gmrt.runtime.backends.device.Device`."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        # While one thread records a graph, what another one queues would become part of it.
        self._recording = threading.RLock()
        self._default = cuda.cudaMemcpyKind.cudaMemcpyDefault
        self.stream = self._done(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))

    def allocate(self, nbytes: int) -> Memory:
        """Allocate memory of the device, filled with zeros."""
        with self._recording:
            address = int(self._done(self._cuda.cudaMalloc(nbytes), nbytes))
            memory = Memory(address, nbytes)
            weakref.finalize(memory, self._cuda.cudaFree, address)
            self._done(self._cuda.cudaMemsetAsync(address, 0, nbytes, self.stream))
        return memory

    def pinned(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate an array of zeros in page-locked memory of the host."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._done(self._cuda.cudaMallocHost(nbytes), nbytes))
        block = (ctypes.c_char * nbytes).from_address(address)
        weakref.finalize(block, self._cuda.cudaFreeHost, address)  # every view of the array refers to the block
        array: npt.NDArray[Any] = np.frombuffer(memoryview(block), dtype).reshape(shape)
        array[...] = 0
        return array

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Queue a copy from address to address."""
        self._done(self._cuda.cudaMemcpyAsync(target, source, nbytes, self._default, self.stream))

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, *, width: int, rows: int
    ) -> None:
        """Queue one strided copy."""
        self._done(
            self._cuda.cudaMemcpy2DAsync(
                target, target_pitch, source, source_pitch, width, rows, self._default, self.stream
            )
        )

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` queues as a CUDA graph."""
        cuda = self._cuda
        with self._recording:
            mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            self._done(cuda.cudaStreamBeginCapture(self.stream, mode))
            try:
                work()
            except BaseException:
                cuda.cudaStreamEndCapture(self.stream)  # or the stream would record for ever
                raise
            graph = self._done(cuda.cudaStreamEndCapture(self.stream))
        ready = self._done(cuda.cudaGraphInstantiate(graph, 0))
        self._done(cuda.cudaGraphDestroy(graph))
        launch = _Launch(self, ready)
        weakref.finalize(launch, cuda.cudaGraphExecDestroy, ready)
        return launch

    def launch(self, graph: Any) -> None:
        """Queue a recorded graph."""
        self._done(self._cuda.cudaGraphLaunch(graph, self.stream))

    def synchronise(self) -> None:
        """Wait for the stream."""
        self._done(self._cuda.cudaStreamSynchronize(self.stream))

    def _done(self, result: tuple[Any, ...], nbytes: int = 0) -> Any:
        """The value of a call, which returns its error first; raises where there is one."""
        error, *values = result
        if error == self._cuda.cudaError_t.cudaSuccess:
            return values[0] if values else None
        if error == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            raise MemoryLimitError(
                f"the GPU has no {nbytes / 2**20:.0f} MiB left: end what else uses it, or ask with a smaller max_tokens"
            )
        words = self._cuda.cudaGetErrorString(error)[1]
        raise ProviderError(f"CUDA failed ({words.decode() if isinstance(words, bytes) else words}): start again")


class _Launch:
    """A recorded graph as a function; the graph goes when this does."""

    def __init__(self, device: CudaDevice, graph: Any) -> None:
        self._device, self._graph = device, graph

    def __call__(self) -> None:
        self._device.launch(self._graph)


class TensorRTEngine:
    """An engine that `gmrt build` made; see `gmrt.runtime.backends.device.Engine`.

    Each optimisation profile has an execution context of its own: one context cannot be recorded under one profile and
    run under another.
    """

    def __init__(self, plan: Path, device: CudaDevice) -> None:
        import tensorrt as trt

        self._device, self._plan = device, plan
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise ProviderError(f"{plan}: TensorRT cannot read this engine: delete its folder and run gmrt build again")
        self._contexts: dict[int, Any] = {}

    def run(self, profile: int, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:
        """Queue a run."""
        context = self._context(profile)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise ProviderError(f"{self._plan}: {name} does not take the shape {list(shape)}: run gmrt build again")
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise ProviderError(f"{self._plan}: has no tensor {name}: run gmrt build again")
        if not context.execute_async_v3(int(self._device.stream)):
            raise ProviderError(f"{self._plan}: TensorRT did not run the engine; what it said stands above")

    def _context(self, profile: int) -> Any:
        if profile not in self._contexts:
            context = self._engine.create_execution_context()
            if context is None:
                raise MemoryLimitError(f"{self._plan}: the GPU has no memory left for what this engine holds at work")
            if not context.set_optimization_profile_async(profile, int(self._device.stream)):
                raise ProviderError(f"{self._plan}: has no profile {profile}: run gmrt build again")
            self._contexts[profile] = context
        return self._contexts[profile]
