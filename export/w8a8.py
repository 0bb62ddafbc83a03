"""INT8 of the ``standard`` dialect: static symmetric W8A8 graphs of tower and decoder from calibration records.

The decoder's ranges come from the largest magnitude of every input channel of every product in the calibration record;
`gmrt.export.smooth` moves outliers into the weights, as strongly as a search finds best for this model: the strength
whose logits are nearest to the float decoder's (mean Kullback-Leibler divergence over calibration text). The head stays
half precision: its input has no norm behind it that could take a scale without changing what the other heads read, and
it decides between words that are close.

Some products stay half precision, too, where one scale cannot serve: a few tokens, the first of a text above all, drive
single channels of an MLP thousands of times beyond the rest (Sun et al., arXiv 2402.17762), and at every other position
that input would be rounded to almost nothing. Which ones is measured, by what rounding adds to the residual stream at
an ordinary position (`residual_errors`), and the bundle's plan names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from gmrt.calibration.record import Record, TensorRange
from gmrt.export.decoder import DecoderSpec, FloatArray, Weights
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import HEAD_ROWS, float_linear
from gmrt.export.smooth import DOWN, GATE_UP, O_PROJ, QKV, smooth
from gmrt.export.standard import build_standard_decoder
from gmrt.export.static import StaticLayers, quantise_weight
from gmrt.export.tower import OPENING, Layers, build_tower
from gmrt.runtime.backends.ort import session_options
from gmrt.runtime.backends.standard import places

ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Strengths that the search tries; 0 and 1 leave all of the difficulty on one side."""

ROUGH = 0.015
"""Most that rounding may add to the residual stream, as a share of it at the median position, for a product to be
integer."""

_LEAST = 1e-12


@dataclass(frozen=True)
class Smoothing:
    """The strength that was chosen, and the divergence in nats of each that was tried (None: without smoothing).

    ``floats`` are the products that stay half precision, with what rounding adds to the residual stream;
    ``divergence`` is what is left then, None where nothing was searched.
    """

    alpha: float | None
    tried: Mapping[float | None, float] = field(default_factory=dict)
    floats: Mapping[str, float] = field(default_factory=dict)
    divergence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        tried = [{"alpha": alpha, "divergence": float(f"{loss:.5g}")} for alpha, loss in self.tried.items()]
        told = {"method": "SmoothQuant", "alpha": self.alpha, "tried": tried}
        if self.divergence is None:
            return told
        errors = {name: float(f"{error:.4g}") for name, error in self.floats.items()}
        return told | {"limit": ROUGH, "float": errors, "divergence": float(f"{self.divergence:.5g}")}


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


def residual_errors(
    decoder: Any, embeds: Sequence[FloatArray], made: Weights, seen: Mapping[str, FloatArray], absmax: Mapping[str, Any]
) -> dict[str, float]:
    """What W8A8 of each product that writes into the residual stream (o_proj, down_proj) does to it, by name.

    The median over positions of |error of the product| / |residual stream behind its layer|, in a causal language model
    that is run in floats on sequences [S, D]. ``made`` and ``seen`` are its weights and their inputs' largest
    magnitudes after smoothing, ``absmax`` those before.
    """
    found: dict[str, list[FloatArray]] = {}
    errors: dict[str, FloatArray] = {}

    def rounded(name: str, x: FloatArray) -> FloatArray:
        shrunk = np.divide(seen[name], absmax[name], out=np.ones_like(seen[name]), where=absmax[name] > 0)
        weight, step = made[f"model.{name}.weight"], np.float32(seen[name].max() / 127 or 1.0)
        codes, scale = quantise_weight(weight)
        inputs = x * shrunk
        kept: FloatArray = np.clip(np.rint(inputs / step), -128, 127) * step @ (codes * scale[:, None]).T
        return kept - inputs @ weight.T

    def before(name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        return lambda _module, args: errors.__setitem__(name, rounded(name, args[0][0].numpy()))

    def behind(layer: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        def compare(_module: Any, _args: tuple[Any, ...], out: Any) -> None:
            stream = np.linalg.norm((out[0] if isinstance(out, tuple) else out)[0].numpy(), axis=1)
            for product in (O_PROJ, DOWN):
                error = np.linalg.norm(errors.pop(f"{layer}.{product}"), axis=1)
                found.setdefault(f"{layer}.{product}", []).append(error / np.maximum(stream, _LEAST))

        return compare

    handles = []
    for number, layer in enumerate(decoder.model.layers):
        name = f"layers.{number}"
        handles += [
            layer.get_submodule(product).register_forward_pre_hook(before(f"{name}.{product}"))
            for product in (O_PROJ, DOWN)
        ]
        handles.append(layer.register_forward_hook(behind(name)))
    try:
        with torch.inference_mode():
            for sequence in embeds:
                decoder.model(inputs_embeds=torch.from_numpy(sequence)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {name: float(np.median(np.concatenate(shares))) for name, shares in found.items()}


def static_decoder(
    spec: DecoderSpec,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    absmax: Mapping[str, FloatArray],
    alpha: float | None,
    floats: Collection[str] = (),
) -> ir.Model:
    """The decoder with W8A8 products but for ``floats``, smoothed with strength ``alpha`` or not at all."""
    made, seen = (weights, absmax) if alpha is None else smooth(weights, absmax, spec.layers, alpha)
    static, half = StaticLayers(decoder_ranges(seen, spec.layers)), float_linear("float16", "float32")

    def linear(graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None) -> ir.Value:
        return (half if name in floats else static.linear)(graph, name, x, weight, bias)

    head = float_linear("float16", "float32", most=HEAD_ROWS)
    return build_standard_decoder(spec, made, rope, linear=linear, head=head, product="float16")


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


def search_smoothing(
    spec: DecoderSpec,
    decoder: Any,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    absmax: Mapping[str, FloatArray],
    embeds: Sequence[FloatArray],
) -> tuple[ir.Model, Smoothing]:
    """Try each strength on sequences [S, D], and build the decoder whose logits are nearest to the float one's.

    ``decoder`` is the causal language model that ``weights`` are of. What loses more than `ROUGH` at that strength is
    half precision in it.
    """
    plain = float_linear("float32")
    truth = _logits(build_standard_decoder(spec, weights, rope, linear=plain, head=plain), spec, embeds)

    def tell(model: ir.Model) -> float:
        pairs = zip(truth, _logits(model, spec, embeds), strict=True)
        return float(np.mean([_divergence(a, b) for a, b in pairs]))

    tried = {alpha: tell(static_decoder(spec, weights, rope, absmax, alpha)) for alpha in (None, *ALPHAS)}
    alpha = min(tried, key=lambda strength: tried[strength])
    made, seen = (weights, absmax) if alpha is None else smooth(weights, absmax, spec.layers, alpha)
    errors = residual_errors(decoder, embeds, made, seen, absmax)
    floats = {name: error for name, error in errors.items() if error > ROUGH}
    graph = static_decoder(spec, weights, rope, absmax, alpha, floats)
    return graph, Smoothing(alpha, tried, floats, tell(graph) if floats else tried[alpha])


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
