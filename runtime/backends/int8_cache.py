"""Does the installed onnxruntime keep keys and values in 8 bits, and rightly? Asked with a known answer.

GroupQueryAttention's 8-bit cache came to the CPU in the middle of 2026 (onnxruntime pull requests 28576 and 28578).
Of the releases, 1.27 is the first that gives the answer below. Older ones refuse the graph; a build that accepts it and
computes something else would give fluent wrong text, so neither the version nor the absence of an error is taken for
an answer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends import wire
from gmrt.runtime.errors import ProviderError

FloatArray = npt.NDArray[np.float32]

_HEADS, _KV_HEADS, _DIM, _CAPACITY = 2, 1, 16, 8
_STEPS = (3, 1, 2)  # a prompt, a step, a continuation
_CLOSE = 1e-3


def require_int8_cache(what: str) -> None:
    """Raise `ProviderError` when the installed onnxruntime has no right 8-bit cache; ``what`` begins its sentence."""
    if not int8_cache_works():
        import onnxruntime as ort

        raise ProviderError(
            f"{what} keeps its cache in 8 bits, and the attention of the installed onnxruntime {ort.__version__} gives "
            "no right answer from such a cache: install onnxruntime 1.27 or newer, or export without --cache int8"
        )


@lru_cache(maxsize=1)
def int8_cache_works() -> bool:
    """Run a prompt, a step and a continuation through a shared buffer of 8 bits, and compare codes and outputs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(_attention(), options, providers=["CPUExecutionProvider"])
        return _right(ort, session)
    except Exception:  # noqa: BLE001 - each release refuses in its own way, and every way means no
        return False


def _right(ort: Any, session: Any) -> bool:
    random = np.random.default_rng(0)
    scales = {name: random.uniform(0.01, 0.04, (1, _KV_HEADS, 1, _DIM)).astype(np.float32) for name in ("k", "v")}
    shape = (1, _KV_HEADS, _CAPACITY, _DIM)
    buffers = {name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.int8)) for name in scales}
    wanted = {name: np.zeros((0, _DIM), np.int8) for name in scales}
    length = 0
    for steps in _STEPS:
        packed = random.standard_normal((1, steps, (_HEADS + 2 * _KV_HEADS) * _DIM)).astype(np.float32)
        queries, keys, values = np.split(packed[0], [_HEADS * _DIM, (_HEADS + _KV_HEADS) * _DIM], axis=1)
        for name, new in (("k", keys), ("v", values)):
            codes = np.clip(np.round(new / scales[name][0, 0]), -128, 127).astype(np.int8)
            wanted[name] = np.concatenate([wanted[name], codes])
        length += steps
        binding = session.io_binding()
        feeds = {"x": packed, "last": np.array([length - 1], np.int32), "total": np.array([length], np.int32)}
        for name, array in (feeds | {f"{name}_scale": scale for name, scale in scales.items()}).items():
            binding.bind_cpu_input(name, array)
        for name, value in buffers.items():
            binding.bind_ortvalue_input(f"past_{name}", value)
            binding.bind_ortvalue_output(f"present_{name}", value)
        mixed = np.zeros((1, steps, _HEADS * _DIM), np.float32)
        binding.bind_output("y", "cpu", 0, np.float32, mixed.shape, mixed.ctypes.data)
        session.run_with_iobinding(binding)
        k, v = (wanted[name] * scales[name][0, 0] for name in scales)
        if np.abs(mixed[0] - _mixed(queries.reshape(steps, _HEADS, _DIM), k, v)).max() > _CLOSE:
            return False
    return all(np.array_equal(buffers[name].numpy()[0, 0, :length], wanted[name]) for name in scales)


def _mixed(queries: FloatArray, keys: FloatArray, values: FloatArray) -> FloatArray:
    """Causal attention of the last queries [S, heads, D] over keys and values [T, D] → [S, heads · D]."""
    steps, total = len(queries), len(keys)
    scores = np.einsum("shd,td->sht", queries, keys) / np.sqrt(_DIM)
    late = np.arange(total)[None, None] > np.arange(total - steps, total)[:, None, None]
    weights = np.exp(np.where(late, -np.inf, scores))
    weights /= weights.sum(axis=-1, keepdims=True)
    out: FloatArray = np.einsum("sht,td->shd", weights, values).reshape(steps, -1).astype(np.float32)
    return out


def _attention() -> bytes:
    cache, scale = (1, _KV_HEADS, _CAPACITY, _DIM), (1, _KV_HEADS, 1, _DIM)
    width = (_HEADS + 2 * _KV_HEADS) * _DIM
    return wire.one_node(
        "GroupQueryAttention",
        ["x", "", "", "past_k", "past_v", "last", "total", "", "", "", "", "", "k_scale", "v_scale"],
        ["y", "present_k", "present_v"],
        given=[
            ("x", wire.FLOAT, (1, None, width)),
            ("past_k", wire.INT8, cache),
            ("past_v", wire.INT8, cache),
            ("last", wire.INT32, (1,)),
            ("total", wire.INT32, (1,)),
            ("k_scale", wire.FLOAT, scale),
            ("v_scale", wire.FLOAT, scale),
        ],
        made=[
            ("y", wire.FLOAT, (1, None, _HEADS * _DIM)),
            ("present_k", wire.INT8, cache),
            ("present_v", wire.INT8, cache),
        ],
        attributes={
            "num_heads": _HEADS,
            "kv_num_heads": _KV_HEADS,
            "kv_cache_bit_width": 8,
            "k_quant_type": "PER_CHANNEL",
            "v_quant_type": "PER_CHANNEL",
        },
        domain="com.microsoft",
    )
