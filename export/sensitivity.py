"""What each layer costs when it alone is quantised: cosine and KL at the logits.

Everything else stays float, so that the loss is the layer's own. The decoder's graph is built once a layer and width,
with the very operator of the export; the tower's is quantised with all other layers kept float, and what it then says
of a picture goes through the float decoder. KL (in nats, of the float distribution to the other, averaged over the
positions that a token is chosen at) tells what cosine does not: whether the best words change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.record import Record
from gmrt.export.checkpoint import Checkpoint
from gmrt.export.decoder import build_decoder
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import Linear, block_linear, float_linear
from gmrt.export.precision import RECIPES
from gmrt.export.quantize import integer_layers, quantise_tower
from gmrt.export.reference import Case, answer_cases
from gmrt.runtime.manifest import Precision

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

FLOAT, INT8, INT4 = "float32", "int8", "int4"
LINEARS: Mapping[str, Linear] = {
    FLOAT: float_linear("float32"),
    INT8: block_linear(8),
    INT4: RECIPES["int4"].linear,
}


@dataclass(frozen=True)
class Choice:
    """A layer in one precision: its bytes, and the logits' cosine and KL when it alone is so."""

    precision: str
    bytes: int
    cosine: float
    kl: float


@dataclass(frozen=True)
class LayerScan:
    """A layer of the component ``vision`` or ``decoder`` in each precision that it may have, float first."""

    component: str
    layer: str
    choices: tuple[Choice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the object of the report."""
        return asdict(self)


def scan(
    checkpoint: Checkpoint,
    tower: ir.Model,
    record: Record,
    pixel_range: tuple[float, float],
    pictures: Iterable[FloatArray],
    questions: Sequence[str],
    precision: Precision,
    progress: Progress | None = None,
) -> tuple[LayerScan, ...]:
    """Scan every layer that ``precision`` would quantise, on pictures [3, H, W] and questions about each.

    ``tower`` is the float graph, ``record`` its calibration. Takes one build and run of a graph for each layer.
    """
    cases = [list(answer_cases(checkpoint, pixels, questions)) for pixels in pictures]
    probe = _Probe(checkpoint, cases)
    tower_layers, names = integer_layers(tower), linear_names(checkpoint)
    widths = {name: _widths(name, precision) for name in names}
    total, done = len(tower_layers) + sum(map(len, widths.values())), 0
    found: list[LayerScan] = []

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for layer in tower_layers:
        alone = ir.from_proto(quantise_tower(tower, record, pixel_range, tower_layers.keys() - {layer}))
        cosine, kl = probe.tower(alone)
        choices = Choice(FLOAT, _bytes(tower, layer), 1.0, 0.0), Choice(INT8, _bytes(alone, layer), cosine, kl)
        found.append(LayerScan("vision", layer, choices))
        step()
    for name in names:
        choices = (Choice(FLOAT, _bytes(probe.float_decoder, name), 1.0, 0.0),)
        for width in widths[name]:
            graph = probe.build({name: width})
            choices += (Choice(width, _bytes(graph, name), *probe.decoder(graph)),)
            step()
        found.append(LayerScan("decoder", name, choices))
    return tuple(found)


def linear_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Name the decoder's linear layers, as its graph calls them, the head last."""
    names: list[str] = []

    def note(graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None) -> ir.Value:
        names.append(name)
        return LINEARS[FLOAT](graph, name, x, weight, bias)

    spec = checkpoint.decoder
    build_decoder(spec, checkpoint.weights("decoder."), checkpoint.rope(spec.max_length), linear=note, head=note)
    return tuple(names)


def by_layer(chosen: Mapping[str, str], otherwise: Linear) -> Linear:
    """Write the layers of ``chosen`` in the precision that it names, all others with ``otherwise``."""

    def write(graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None) -> ir.Value:
        linear = LINEARS[chosen[name]] if name in chosen else otherwise
        return linear(graph, name, x, weight, bias)

    return write


def divergence(truth: FloatArray, other: FloatArray) -> float:
    """Mean KL, in nats, of the distributions of logits ``truth`` [n, V] to those of ``other`` [n, V]."""
    ours, theirs = _log_softmax(truth), _log_softmax(other)
    return float((np.exp(ours) * (ours - theirs)).sum(axis=-1).mean())


def _log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    out: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return out


def _widths(name: str, precision: Precision) -> tuple[str, ...]:
    """Precisions below float that a linear layer may have; a head is never narrower than 8 bits."""
    return (INT8, INT4) if precision == "int4" and name != "lm_head" else (INT8,)


def _bytes(model: ir.Model, layer: str) -> int:
    """Bytes of a layer's constants, which all begin with its name."""
    constants = (v for name, v in model.graph.initializers.items() if name.startswith(f"{layer}."))
    return sum(v.const_value.nbytes for v in constants if v.const_value is not None)


class _Probe:
    """Runs one changed graph after another on the same cases, and compares with the float decoder's logits."""

    def __init__(self, checkpoint: Checkpoint, cases: Sequence[Sequence[Case]]) -> None:
        self._source, self._cases = checkpoint, cases
        self._weights, self._rope = checkpoint.weights("decoder."), checkpoint.rope(checkpoint.decoder.max_length)
        self.float_decoder = self.build({})
        self._float = _session(self.float_decoder)
        self._truth = np.concatenate([self._logits(self._float, case, case.embeds) for case in self._flat()])

    def build(self, chosen: Mapping[str, str]) -> ir.Model:
        """Build the decoder in floats but for the layers of ``chosen``."""
        linear = by_layer(chosen, LINEARS[FLOAT])
        return build_decoder(self._source.decoder, self._weights, self._rope, linear=linear, head=linear)

    def decoder(self, graph: ir.Model) -> tuple[float, float]:
        """Cosine and KL of another decoder's logits, fed with the checkpoint's own embeddings."""
        session = _session(graph)
        return self._compare([self._logits(session, case, case.embeds) for case in self._flat()])

    def tower(self, graph: ir.Model) -> tuple[float, float]:
        """Cosine and KL of the float decoder's logits, fed with another tower's images."""
        session = _session(graph)
        token, logits = self._source.processor.prompt_layout.image_token_id, []
        for cases in self._cases:
            (image,) = session.run(["image_embeds"], {"pixels": cases[0].pixels[None]})
            for case in cases:
                embeds = case.embeds.copy()
                embeds[np.flatnonzero(self._source.processor.encode(case.question).ids == token)] = image[0]
                logits.append(self._logits(self._float, case, embeds))
        return self._compare(logits)

    def _compare(self, logits: Sequence[FloatArray]) -> tuple[float, float]:
        other = np.concatenate(logits)
        a, b = self._truth.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        return round(cosine, 9), round(divergence(self._truth, other), 9)

    def _logits(self, session: Any, case: Case, embeds: FloatArray) -> FloatArray:
        spec, length = self._source.decoder, len(embeds)
        empty = np.zeros((1, spec.kv_heads, length, spec.head_dim), np.float32)
        feeds = {
            "inputs_embeds": embeds[None],
            "seqlens_k": np.array([length - 1], np.int32),
            "total_length": np.array([length], np.int32),
            "logits_at": np.arange(length - len(case.logits), length, dtype=np.int64)[None],
            **{f"past_{part}.{i}": empty for i in range(spec.layers) for part in ("key", "value")},
        }
        logits: FloatArray = session.run(["logits"], feeds)[0][0]
        return logits

    def _flat(self) -> Iterator[Case]:
        return (case for cases in self._cases for case in cases)


def _session(graph: ir.Model) -> Any:
    import onnxruntime as ort

    from gmrt.runtime.backends.ort import session_options

    options = session_options(ort, "cpu", saturable=False)
    serialised = ir.to_proto(graph).SerializeToString()
    return ort.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
