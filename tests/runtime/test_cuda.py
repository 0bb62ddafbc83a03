"""The calls of CUDA: their order, and what becomes of their errors, on a stand-in for cuda-python's module."""

from __future__ import annotations

import ast
import ctypes
import gc
import importlib.util
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gmrt.runtime.backends import cuda as module
from gmrt.runtime.backends.cuda import CudaDevice, import_cuda
from gmrt.runtime.errors import MemoryLimitError, ProviderError

Error: Any = IntEnum(
    "Error",
    {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorNoDevice": 100, "cudaErrorIllegalAddress": 700},
)
CONSTANTS = {
    "cudaError_t": Error,
    "cudaStreamNonBlocking": 1,
    "cudaMemcpyKind": SimpleNamespace(cudaMemcpyDefault=4),
    "cudaStreamCaptureMode": SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
}


class Cuda:
    """A module that notes its calls; memory is the host's, and ``fails`` gives calls an error."""

    def __init__(self, **fails: Error) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails
        self.blocks: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in CONSTANTS:
            return CONSTANTS[name]

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            error = self.fails.get(name, Error.cudaSuccess)
            return (error, None) if error else (error, *self._answer(name, *arguments))

        return call

    def _answer(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        if name in ("cudaMalloc", "cudaMallocHost"):
            block = ctypes.create_string_buffer(b"\xff" * arguments[0], arguments[0])
            self.blocks[ctypes.addressof(block)] = block
            return (ctypes.addressof(block),)
        if name == "cudaGetErrorString":
            return (b"an illegal memory access",)
        values = {"cudaStreamCreateWithFlags": 7, "cudaStreamEndCapture": "graph", "cudaGraphInstantiate": "ready"}
        return (values[name],) if name in values else ()

    @property
    def names(self) -> list[str]:
        """The names of the calls."""
        return [call[0] for call in self.calls]


def test_memory_goes_back_when_nobody_has_it() -> None:
    """Guards against memory that leaks with each cache, or that goes while an array still shows it."""
    cuda = Cuda()
    device = CudaDevice(cuda)
    memory = device.allocate(64)
    address = memory.address
    assert cuda.calls[-2:] == [("cudaMalloc", 64), ("cudaMemsetAsync", address, 0, 64, 7)]
    array = device.pinned((2, 3), np.float32)
    assert not array.any()
    view, pinned = array[1:], array.ctypes.data
    del memory, array
    gc.collect()
    assert cuda.calls[-1] == ("cudaFree", address)
    del view
    gc.collect()
    assert cuda.calls[-1] == ("cudaFreeHost", pinned)


def test_copies_and_a_recorded_graph() -> None:
    """Guards against arguments in another order than CUDA's, and a graph that is run while it is recorded."""
    cuda = Cuda()
    device = CudaDevice(cuda)
    launch = device.capture(lambda: device.copy(10, 20, 5))
    assert cuda.names[-5:] == [
        "cudaStreamBeginCapture",
        "cudaMemcpyAsync",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
    ]
    assert cuda.calls[-4] == ("cudaMemcpyAsync", 10, 20, 5, 4, 7)
    launch()
    assert cuda.calls[-1] == ("cudaGraphLaunch", "ready", 7)
    device.copy_rows(1, 100, 2, 40, width=40, rows=6)
    assert cuda.calls[-1] == ("cudaMemcpy2DAsync", 1, 100, 2, 40, 40, 6, 4, 7)
    device.synchronise()
    assert cuda.calls[-1] == ("cudaStreamSynchronize", 7)
    del launch
    gc.collect()
    assert cuda.calls[-1] == ("cudaGraphExecDestroy", "ready")


def test_recording_ends_when_it_fails() -> None:
    """Guards against a stream that records for ever because an engine refused its shapes."""
    cuda = Cuda()
    device = CudaDevice(cuda)

    def refuse() -> None:
        raise ProviderError("no")

    with pytest.raises(ProviderError, match="no"):
        device.capture(refuse)
    assert cuda.names[-2:] == ["cudaStreamBeginCapture", "cudaStreamEndCapture"]


def test_errors_are_sentences() -> None:
    """Guards against a number instead of words, and a full GPU that looks like a broken one."""
    device = CudaDevice(Cuda(cudaMalloc=Error.cudaErrorMemoryAllocation))
    with pytest.raises(MemoryLimitError, match="no 3 MiB left"):
        device.allocate(3 << 20)
    with pytest.raises(ProviderError, match="an illegal memory access"):
        CudaDevice(Cuda(cudaStreamSynchronize=Error.cudaErrorIllegalAddress)).synchronise()


def install(monkeypatch: pytest.MonkeyPatch, **modules: Any) -> None:
    """Put stand-ins for modules of cuda-python in place, and nothing else of it."""
    package = ModuleType("cuda")
    package.__path__ = []  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name == "cuda" or name.startswith("cuda.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda", package)
    for name, found in modules.items():
        full = f"cuda.{name.replace('_', '.')}"
        parent, _, leaf = full.rpartition(".")
        if parent not in sys.modules:
            made = ModuleType(parent)
            made.__path__ = []  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, parent, made)
        monkeypatch.setattr(sys.modules[parent], leaf, found, raising=False)
        monkeypatch.setitem(sys.modules, full, found)


@pytest.mark.parametrize("name", ["bindings_runtime", "cudart"])
def test_both_names_of_the_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Guards against cuda-python 12.6.0 of JetPack 6, whose module has another name than that of 13."""
    there = SimpleNamespace(cudaGetDeviceCount=lambda: (Error.cudaSuccess, 1), cudaError_t=Error)
    install(monkeypatch, **{name: there})
    assert import_cuda() is there


def test_no_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a traceback without cuda-python, without a driver, and without a device."""
    install(monkeypatch)
    with pytest.raises(ProviderError, match="pip install cuda-python"):
        import_cuda()

    def no_library() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    counts = {"no driver here": no_library, "no GPU here": lambda: (Error.cudaErrorNoDevice, 0)}
    for words, count in counts.items():
        install(monkeypatch, cudart=SimpleNamespace(cudaGetDeviceCount=count, cudaError_t=Error))
        with pytest.raises(ProviderError, match=words):
            import_cuda()


def used() -> set[str]:
    """The names of CUDA's runtime API that the runtime uses."""
    folder = Path(module.__file__).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (folder / "cuda.py", folder.parent / "engines.py")]
    attributes = [node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {name for name in attributes if name.startswith("cuda") and name not in ("cuda", "cudart")}


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed here")
def test_every_name_is_there() -> None:
    """Guards against a call that the installed cuda-python does not have."""
    from cuda.bindings import runtime

    kinds = (runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode, runtime.cudaError_t, runtime.cudaDeviceAttr)
    missing = [name for name in used() if not any(hasattr(place, name) for place in (runtime, *kinds))]
    assert missing == []
    assert len(used()) > 15
