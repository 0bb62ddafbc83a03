"""INT8 of the ``standard`` dialect: static symmetric W8A8 graphs of tower and decoder from calibration records.

The decoder's ranges come from the largest magnitude of every input channel of every product in the calibration record;
`gmrt.export.smooth` moves outliers into the weights, as strongly as a search finds best for this model: the strength
whose logits are nearest to the float decoder's (mean Kullback-Leibler divergence over calibration text). The head stays
half precision: its input has no norm behind it that could take a scale without changing what the other heads read, and
it decides between words that are close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.record import Record, TensorRange
from gmrt.export.decoder import DecoderSpec, FloatArray, Weights
from gmrt.export.linear import HEAD_ROWS, float_linear
from gmrt.export.smooth import DOWN, GATE_UP, O_PROJ, QKV, smooth
from gmrt.export.standard import build_standard_decoder
from gmrt.export.static import StaticLayers
from gmrt.export.tower import OPENING, Layers, build_tower
from gmrt.runtime.backends.ort import session_options
from gmrt.runtime.backends.standard import places

ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8)
"""Strengths that the search tries; 0 and 1 leave all of the difficulty on one side."""


@dataclass(frozen=True)
class Smoothing:
    """The strength that was chosen, and the divergence in nats of each that was tried (None: without smoothing)."""

    alpha: float | None
    tried: Mapping[float | None, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        tried = [{"alpha": alpha, "divergence": float(f"{loss:.5g}")} for alpha, loss in self.tried.items()]
        return {"method": "SmoothQuant", "alpha": self.alpha, "tried": tried}


def static_tower(config: Any, weights: Weights, record: Record, pixel_range: tuple[float, float]) -> ir.Model:
    """The tower with symmetric signed codes; ``pixel_range`` is the widest that preprocessing can give.

    Attention's own products are float16. Raises `GmrtError` when the record is of another model.
    """
    ranges = dict(record.tensors)
    ranges["pixels"] = TensorRange(*pixel_range, ranges["pixels"].mean if "pixels" in ranges else ())
    static = StaticLayers(ranges, floats=OPENING)
    layers = Layers(static.linear, static.convolution, static.shared)
    return build_tower(config, weights, layers=layers, attention="float16")


def input_absmax(record: Record, layers: int) -> dict[str, FloatArray]:
    """Largest magnitude [K] of each input channel of a decoder's products; raises `GmrtError` where one is missing."""
    names = (f"layers.{i}.{name}" for i in range(layers) for name in (QKV, O_PROJ, GATE_UP, DOWN))
    return {name: record.channels(name).absmax for name in names}


def static_decoder(
    spec: DecoderSpec,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    absmax: Mapping[str, FloatArray],
    alpha: float | None,
) -> ir.Model:
    """The decoder with W8A8 products, smoothed with strength ``alpha`` or not at all."""
    made, seen = (weights, absmax) if alpha is None else smooth(weights, absmax, spec.layers, alpha)
    static = StaticLayers(decoder_ranges(seen, spec.layers))
    head = float_linear("float16", "float32", most=HEAD_ROWS)
    return build_standard_decoder(spec, made, rope, linear=static.linear, head=head, product="float16")


def decoder_ranges(absmax: Mapping[str, FloatArray], layers: int) -> dict[str, TensorRange]:
    """Ranges by the names that the tensors have in the graph of `build_standard_decoder`."""
    tensors = {QKV: "input_layernorm", GATE_UP: "post_attention_layernorm", DOWN: "mlp.gated", O_PROJ: "attention"}
    ranges = {}
    for i in range(layers):
        for product, tensor in tensors.items():
            # What the last attention made is cut to the positions asked for before it is read.
            name = "mixed_at" if product == O_PROJ and i == layers - 1 else tensor
            top = float(absmax[f"layers.{i}.{product}"].max())
            ranges[f"layers.{i}.{name}"] = TensorRange(-top, top)
    return ranges


def search_alpha(
    spec: DecoderSpec,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    absmax: Mapping[str, FloatArray],
    embeds: Sequence[FloatArray],
) -> Smoothing:
    """Try each strength on sequences [S, D] and keep the one whose logits are nearest to the float decoder's."""
    plain = float_linear("float32")
    truth = _logits(build_standard_decoder(spec, weights, rope, linear=plain, head=plain), spec, embeds)
    tried: dict[float | None, float] = {}
    for alpha in (None, *ALPHAS):
        found = _logits(static_decoder(spec, weights, rope, absmax, alpha), spec, embeds)
        tried[alpha] = float(np.mean([_divergence(a, b) for a, b in zip(truth, found, strict=True)]))
    return Smoothing(min(tried, key=lambda alpha: tried[alpha]), tried)


def _logits(model: ir.Model, spec: DecoderSpec, embeds: Sequence[FloatArray]) -> list[FloatArray]:
    """Logits [S, V] at every position of each sequence, over an empty past."""
    import onnxruntime as ort

    options = session_options(ort, "cpu", saturable=True)
    data = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    dtype = model.graph.inputs[-1].dtype
    assert dtype is not None
    past: npt.NDArray[Any] = np.zeros((1, spec.kv_heads, 1, spec.head_dim), dtype.numpy())
    pasts = {f"past_{kind}.{i}": past for i in range(spec.layers) for kind in ("key", "value")}
    found = []
    for sequence in embeds:
        where = places(np.zeros(1, np.int32), len(sequence), 1)
        feeds = {"inputs_embeds": sequence[None], "logits_at": where["positions"], **where}
        found.append(session.run(["logits"], feeds | pasts)[0][0])
    return found


def _divergence(truth: FloatArray, found: FloatArray) -> float:
    """Mean Kullback-Leibler divergence in nats of predictions [S, V] from the true ones."""

    def log_softmax(x: FloatArray) -> npt.NDArray[np.float64]:
        shifted = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
        made: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return made

    p, q = log_softmax(truth), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())
