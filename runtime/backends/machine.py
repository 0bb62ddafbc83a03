"""What this machine offers: cores that may be used, and how its 8-bit kernels behave."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gmrt.runtime.backends import wire


def physical_cores() -> int:
    """Count the physical cores that this process may use: affinity and container quota respected, at least 1.

    Two hardware threads of one core share its arithmetic units, so a matrix product gains nothing from the second.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return max(1, os.cpu_count() or 1)
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _container_quota()))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with ``cpu``, as the kernel writes them; the cpu alone when unknown."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.is_file() else str(cpu)


def _container_quota() -> int:
    """Whole cores that a cgroup v2 quota leaves (``cpu.max`` = "quota period", or "max"); large without one."""
    path = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = path.read_text().partition(" ") if path.is_file() else ("max", "", "")
    return 1 << 16 if quota == "max" else max(1, round(int(quota) / int(period)))


# Parameters of glibc's mallopt(3), and where its limit of mapped blocks ends up by itself once large ones were freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LOADING, _USUAL = 256 << 10, 32 << 20


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Give blocks of 256 KiB and more back to the system once they are freed, where the C library is glibc.

    Loading frees more than once the bytes of a graph's weights, and glibc keeps that in its heaps, each thread's own:
    edge-256m peaked at 661 MB instead of 512. Behind it the limit is glibc's usual one again: with activations mapped,
    too, the peak is 434 MB, and making their pages anew takes 5 % of that tower's time and 30 % of georsmllm-nano's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LOADING)
    mallopt(_TRIM_THRESHOLD, _LOADING)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _USUAL)
        mallopt(_TRIM_THRESHOLD, 2 * _USUAL)


@lru_cache(maxsize=1)
def int8_products_saturate() -> bool:
    """Ask onnxruntime's CPU kernels for a known answer: does a sum of 8-bit products overflow its 16-bit step?

    x86 without VNNI multiplies pairs with ``vpmaddubsw``, whose sum saturates at 32 767: 2 · 255 · 127 does not fit.
    Every static Q/DQ convolution and matmul is wrong there (cosine 0.45 after ten layers) unless the session option
    ``session.x64quantprecision`` makes the weights unsigned first, which costs about 1.3 times the time. VNNI and Arm
    kernels sum in 32 bits and need nothing, so the choice is made by the answer and not by the name of the CPU.
    """
    import onnxruntime as ort

    depth = 64
    session = ort.InferenceSession(_matmul_integer(), _quiet_options(ort), providers=["CPUExecutionProvider"])
    left = np.full((2, depth), 255, np.uint8)
    right = np.full((depth, 16), 127, np.int8)
    (answer,) = session.run(None, {"a": left, "b": right})
    return bool((np.asarray(answer) != depth * 255 * 127).any())


def _quiet_options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _matmul_integer() -> bytes:
    """The product y int32 = MatMulInteger(a uint8 [2, 64], b int8 [64, 16])."""
    return wire.one_node(
        "MatMulInteger",
        ["a", "b"],
        ["y"],
        given=[("a", wire.UINT8, (2, 64)), ("b", wire.INT8, (64, 16))],
        made=[("y", wire.INT32, (2, 16))],
    )
