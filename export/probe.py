"""The decoder graph of a bundle by itself: every layer's keys and values for a case of the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.export.decoder import read_cache_scales
from gmrt.export.reference import Case
from gmrt.runtime.backends.ort import session_options
from gmrt.runtime.backends.standard import places
from gmrt.runtime.bundle import Bundle

FloatArray = npt.NDArray[np.float32]


class DecoderProbe:
    """The decoder graph alone, run without a shared buffer so that every output can be read."""

    def __init__(self, bundle: Bundle) -> None:
        import onnxruntime as ort

        self._standard = bundle.manifest.target == "tensorrt"
        options = session_options(ort, "cpu", saturable=self._standard)
        graph = bundle.manifest.decoder
        self._session = ort.InferenceSession(str(bundle.path(graph.file)), options, providers=["CPUExecutionProvider"])
        self._geometry = bundle.manifest.cache
        self._vocabulary = bundle.vocabulary
        scales = read_cache_scales(bundle.path(graph.file)) if self._geometry.dtype == "int8" else {}
        self._scales: Mapping[str, FloatArray | float] = scales

    def compare(self, case: Case) -> Iterator[tuple[str, FloatArray, FloatArray]]:
        """Yield (tensor, the checkpoint's, the graph's) for a case."""
        length = len(case.embeds)
        feeds: dict[str, npt.NDArray[Any]] = {
            "inputs_embeds": case.embeds[None],
            "logits_at": np.arange(length - len(case.logits), length, dtype=np.int64)[None],
        }
        hidden, logits, rows = self._standard_run(feeds, length) if self._standard else self._run(feeds, length)
        names = [f"{part}.{i}" for i in range(self._geometry.layers) for part in ("key", "value")]
        truth = [array for pair in case.cache for array in pair]
        for name, ours, theirs in zip(names, truth, rows, strict=True):
            yield name, ours, theirs.astype(np.float32) * self._scales.get(name, 1.0)
        yield "last_hidden", case.last_hidden, hidden[0]
        columns = slice(None) if self._vocabulary is None else self._vocabulary.ids
        yield "logits", case.logits[:, columns], logits[0]

    def _run(self, feeds: dict[str, Any], length: int) -> tuple[FloatArray, FloatArray, list[npt.NDArray[Any]]]:
        """Run the onnxruntime dialect: last_hidden, logits, and rows [kv_heads, S, head_dim] of each layer."""
        lengths = {"seqlens_k": np.array([length - 1], np.int32), "total_length": np.array([length], np.int32)}
        presents = [f"present_{part}.{i}" for i in range(self._geometry.layers) for part in ("key", "value")]
        hidden, logits, *rows = self._session.run(
            ["last_hidden", "logits", *presents], feeds | lengths | self._past(length)
        )
        return hidden, logits, [row[0] for row in rows]

    def _standard_run(
        self, feeds: dict[str, Any], length: int
    ) -> tuple[FloatArray, FloatArray, list[npt.NDArray[Any]]]:
        """Run the standard dialect, over an empty past of one row."""
        where = places(np.zeros(1, np.int32), length, 1)
        hidden, logits, rows = self._session.run(["last_hidden", "logits", "new_rows"], feeds | where | self._past(1))
        return hidden, logits, [part[0] for layer in rows for part in layer]

    def _past(self, capacity: int) -> dict[str, npt.NDArray[Any]]:
        geometry = self._geometry
        empty = np.zeros((1, geometry.kv_heads, capacity, geometry.head_dim), geometry.dtype)
        return {f"past_{part}.{i}": empty for i in range(geometry.layers) for part in ("key", "value")}
