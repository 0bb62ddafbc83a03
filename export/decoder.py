"""The decoder as an ONNX graph, constructed from a checkpoint's weights; here in the ``onnxruntime`` dialect.

Constructed, not traced: the cache of a Hugging Face model is a Python object that changes from release to release, and
tracing it is where exporters of vision-language models break. One builder writes every model whose blocks are RMS norm,
attention with rotary positions, RMS norm, gated MLP (Llama, SmolLM2, Qwen2). What two dialects share is written once,
in `DecoderWriter` and `write_layers`; `gmrt.export.standard` is the other one.

Interface (B rows, S new tokens, n positions asked for, V words, C the cache's capacity):

    inputs_embeds float32 [B, S, D]
    seqlens_k     int32 [B]      valid length after this step, minus one
    total_length  int32 [1]      the longest row's length after this step
    logits_at     int64 [B, n]   positions along S
    past_key.i, past_value.i [B, kv_heads, C, head_dim], of the activations' type or int8

    logits float32 [B, n, V]; last_hidden float32 [B, n, D], after the final norm; present_key.i, present_value.i

Past and present are meant to be bound to the same buffer. q, k and v are one product, gate and up are one (13 % of a
decode step), and behind the last attention only the positions asked for are carried on.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.export.graph import CONTRIB, GraphBuilder
from gmrt.export.linear import Linear
from gmrt.runtime.errors import CheckpointError

FloatArray = npt.NDArray[np.float32]
Weights = Mapping[str, FloatArray]

EMBEDDINGS, HEAD_WEIGHT = "model.embed_tokens.weight", "lm_head.weight"
HEAD_SCALE = "lm_head.smooth"
"""What the head's input is multiplied with before its product, float32 [D]: made by `gmrt.export.smooth`, if at all."""

# Per layer the scales of keys and of values, float32 [kv_heads, head_dim] each.
CacheScales = Sequence[tuple[FloatArray, FloatArray]]

# Constants [1, kv_heads, 1, head_dim] that the codes of an 8-bit cache are multiplied with.
_CACHE_SCALE = re.compile(r"layers\.(?P<layer>\d+)\.(?P<part>key|value)_scale")

# Decoders with these blocks and weight names; a further family is an entry here, or a renaming of its weights.
FAMILIES = ("llama", "qwen2")

# Types whose frequencies do not depend on the length of the text, so that one table serves every step.
STATIC_ROPE = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class DecoderSpec:
    """Geometry of a decoder; ``eps`` is the RMS norm's, ``max_length`` the longest text in tokens."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    eps: float
    max_length: int

    @classmethod
    def from_config(cls, config: Any) -> DecoderSpec:
        """Read a Hugging Face text config; raise `CheckpointError` for what the graph cannot express, by name."""
        kind = config.model_type
        if kind not in FAMILIES:
            raise CheckpointError(f"decoder type {kind!r} cannot be exported: it must be one of {', '.join(FAMILIES)}")
        if config.hidden_act != "silu":
            raise CheckpointError(f"decoder activation {config.hidden_act!r} cannot be exported: it must be 'silu'")
        if getattr(config, "use_sliding_window", False):
            raise CheckpointError("a decoder with a sliding window cannot be exported: set use_sliding_window to false")
        rope = (config.rope_parameters or {}).get("rope_type", "default")
        if rope not in STATIC_ROPE:
            raise CheckpointError(f"rope type {rope!r} cannot be exported: it must be one of {', '.join(STATIC_ROPE)}")
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocab=config.vocab_size,
            eps=config.rms_norm_eps,
            max_length=config.max_position_embeddings,
        )


def rope_tables(inv_freq: FloatArray, scaling: float, max_length: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines float32 [max_length, head_dim / 2], computed in float32 as the checkpoint does.

    ``inv_freq`` [head_dim / 2] and ``scaling`` are the checkpoint's own, with any scaling of positions already in them.
    """
    angles = np.arange(max_length, dtype=np.float32)[:, None] * inv_freq.astype(np.float32)[None, :]
    return np.cos(angles) * np.float32(scaling), np.sin(angles) * np.float32(scaling)


def build_decoder(
    spec: DecoderSpec,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    *,
    linear: Linear,
    head: Linear,
    dtype: str = "float32",
    cache_scales: CacheScales | None = None,
) -> ir.Model:
    """Construct the decoder; ``weights`` carry the names of `LlamaForCausalLM`, ``dtype`` is of activations and cache.

    With ``cache_scales`` the cache is int8: codes of keys, after their rotation, and values, times a scale per channel.
    Raises `CheckpointError` naming the tensor when a weight is missing or has another shape than ``spec`` says.
    """
    writer = OrtWriter(GraphBuilder(), spec, Reader(weights, spec), linear, dtype, scales=cache_scales)
    graph = writer.graph
    embeds = graph.input("inputs_embeds", "float32", ("batch", "seq", spec.hidden))
    writer.lengths = graph.input("seqlens_k", "int32", ("batch",))
    writer.total = graph.input("total_length", "int32", (1,))
    positions = graph.input("logits_at", "int64", ("batch", "n"))
    writer.caches = cache_inputs(graph, spec, writer.stored)
    writer.rope = tuple(
        graph.constant(f"rope.{n}", table.astype(dtype)) for n, table in zip(("cos", "sin"), rope, strict=True)
    )
    outputs = write_layers(writer, writer.cast("embeds", embeds, dtype), positions, head)
    inputs = [embeds, writer.lengths, writer.total, positions, *(value for pair in writer.caches for value in pair)]
    return graph.model("decoder", inputs, [*outputs, *writer.presents])


def cache_inputs(graph: GraphBuilder, spec: DecoderSpec, dtype: str) -> list[tuple[ir.Value, ir.Value]]:
    """Declare past_key.i and past_value.i [batch, kv_heads, capacity, head_dim] of every layer."""
    axes = ("batch", spec.kv_heads, "capacity", spec.head_dim)
    return [
        (graph.input(f"past_key.{i}", dtype, axes), graph.input(f"past_value.{i}", dtype, axes))
        for i in range(spec.layers)
    ]


def write_layers(writer: DecoderWriter, hidden: ir.Value, positions: ir.Value, head: Linear) -> list[ir.Value]:
    """Write all blocks, the last norm and the head; returns the outputs logits and last_hidden at ``positions``."""
    graph, spec = writer.graph, writer.spec
    indices = graph.op("Unsqueeze", "logits_at.indices", positions, graph.constant("last_axis", np.array([-1])))
    update: ir.Value | None = None
    for i in range(spec.layers):
        name = f"layers.{i}"
        normed, hidden = writer.norm(f"{name}.input_layernorm", hidden, update)
        mixed = writer.attention(i, normed)
        if i == spec.layers - 1:
            # Nothing behind the last attention looks at other positions: carry on only those that are asked for.
            mixed = graph.op("GatherND", f"{name}.mixed_at", mixed, indices, batch_dims=1)
            hidden = graph.op("GatherND", f"{name}.hidden_at", hidden, indices, batch_dims=1)
        update = writer.project(f"{name}.self_attn.o_proj", mixed, (spec.hidden, spec.heads * spec.head_dim))
        normed, hidden = writer.norm(f"{name}.post_attention_layernorm", hidden, update)
        update = writer.mlp(name, normed)
    final, _ = writer.norm("norm", hidden, update)
    table = HEAD_WEIGHT if HEAD_WEIGHT in writer.read.weights else EMBEDDINGS
    read = final
    if HEAD_SCALE in writer.read.weights:
        read = graph.op(
            "Mul", HEAD_SCALE, final, graph.constant(f"{HEAD_SCALE}.scale", writer.read(HEAD_SCALE, (spec.hidden,)))
        )
    logits = head(graph, "lm_head", read, writer.read(table, (spec.vocab, spec.hidden)), None)
    return [
        graph.output(writer.cast("logits", logits, "float32"), "logits", "float32", ("batch", "n", spec.vocab)),
        graph.output(writer.cast("hidden", final, "float32"), "last_hidden", "float32", ("batch", "n", spec.hidden)),
    ]


def read_cache_scales(file: Path) -> dict[str, FloatArray]:
    """What the codes of a graph's 8-bit cache are multiplied with: [kv_heads, 1, head_dim] by "key.i", "value.i"."""
    constants = ir.load(file).graph.initializers
    found: dict[str, FloatArray] = {}
    for name, value in constants.items():
        parts = _CACHE_SCALE.fullmatch(name)
        if parts is not None and value.const_value is not None:
            found[f"{parts['part']}.{parts['layer']}"] = value.const_value.numpy()[0]
    return found


@dataclass(frozen=True)
class Reader:
    """Checked access to a checkpoint's tensors."""

    weights: Weights
    spec: DecoderSpec

    def __call__(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """A tensor in float32; raises `CheckpointError` when it is missing or of another shape."""
        if name not in self.weights:
            raise CheckpointError(
                f"the checkpoint's decoder has no tensor {name!r}: it is not a {' or '.join(FAMILIES)} model"
            )
        array = self.weights[name]
        if array.shape != shape:
            raise CheckpointError(f"tensor {name!r} is {list(array.shape)} and the configuration says {list(shape)}")
        return array.astype(np.float32)


@dataclass
class DecoderWriter(ABC):
    """The parts of a block, written into one graph; ``dtype`` is of everything between linear layers."""

    graph: GraphBuilder
    spec: DecoderSpec
    read: Reader
    linear: Linear
    dtype: str
    caches: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)

    @abstractmethod
    def norm(self, name: str, hidden: ir.Value, update: ir.Value | None) -> tuple[ir.Value, ir.Value]:
        """Add ``update`` to the residual stream and normalise: (normed, new residual stream)."""

    @abstractmethod
    def attention(self, index: int, x: ir.Value) -> ir.Value:
        """Causal attention of a layer over its cache: x [B, S, D] to mixed [B, S, heads · head_dim]."""

    def cast(self, name: str, value: ir.Value, dtype: str) -> ir.Value:
        """Cast to or from the activations' type at the border of the graph; nothing where both are float32."""
        return value if self.dtype == "float32" else self.graph.cast(name, value, dtype)

    def scale(self, name: str) -> ir.Value:
        """The weight of a norm."""
        full = f"model.{name}.weight"
        return self.graph.constant(full, self.read(full, (self.spec.hidden,)).astype(self.dtype))

    def packed(self, layer: str, x: ir.Value) -> ir.Value:
        """Queries, keys and values of all heads as one product [B, S, (heads + 2 · kv_heads) · head_dim]."""
        spec = self.spec
        q, kv = (spec.heads * spec.head_dim, spec.hidden), (spec.kv_heads * spec.head_dim, spec.hidden)
        return self.project(f"{layer}.self_attn.", x, q, kv, kv, parts=("q_proj", "k_proj", "v_proj"))

    def project(self, name: str, x: ir.Value, *shapes: tuple[int, int], parts: tuple[str, ...] = ("",)) -> ir.Value:
        """One linear layer, or several on the same input as one: ``name`` + each of ``parts`` are the checkpoint's."""
        weights, biases = [], []
        for part, shape in zip(parts, shapes, strict=True):
            stem = f"model.{name}{part}"
            weights.append(self.read(f"{stem}.weight", shape))
            has_bias = f"{stem}.bias" in self.read.weights
            biases.append(self.read(f"{stem}.bias", shape[:1]) if has_bias else np.zeros(shape[0], np.float32))
        bias = np.concatenate(biases)
        label = name + "_".join(parts)
        return self.linear(self.graph, label, x, np.concatenate(weights), bias if bias.any() else None)

    def mlp(self, layer: str, x: ir.Value) -> ir.Value:
        """down(silu(gate(x)) · up(x)); the width is read off the weight."""
        name = f"{layer}.mlp"
        gate = self.read.weights.get(f"model.{name}.gate_proj.weight")
        inner = 0 if gate is None else gate.shape[0]
        wide = (inner, self.spec.hidden)
        both = self.project(f"{name}.", x, wide, wide, parts=("gate_proj", "up_proj"))
        left, right = self.graph.ops("Split", f"{name}.halves", both, outputs=(".gate", ".up"), axis=-1, num_outputs=2)
        open_ = self.graph.op("Mul", f"{name}.silu", left, self.graph.op("Sigmoid", f"{name}.sigmoid", left))
        return self.project(
            f"{name}.down_proj", self.graph.op("Mul", f"{name}.gated", open_, right), (self.spec.hidden, inner)
        )


@dataclass
class OrtWriter(DecoderWriter):
    """The onnxruntime dialect: contrib operators, past and present in one buffer."""

    lengths: ir.Value | None = None
    total: ir.Value | None = None
    rope: tuple[ir.Value, ...] = ()
    scales: CacheScales | None = None
    presents: list[ir.Value] = field(default_factory=list)

    @property
    def stored(self) -> str:
        """The type of the cache."""
        return self.dtype if self.scales is None else "int8"

    def norm(self, name: str, hidden: ir.Value, update: ir.Value | None) -> tuple[ir.Value, ir.Value]:
        """See `DecoderWriter.norm`."""
        if update is None:
            return self.graph.op(
                "SimplifiedLayerNormalization",
                name,
                hidden,
                self.scale(name),
                epsilon=self.spec.eps,
                axis=-1,
                stash_type=1,
            ), hidden
        outputs = self.graph.ops(
            "SkipSimplifiedLayerNormalization",
            name,
            update,
            hidden,
            self.scale(name),
            outputs=("", ".mean", ".deviation", ".residual"),
            domain=CONTRIB,
            epsilon=self.spec.eps,
        )
        return outputs[0], outputs[3]

    def attention(self, index: int, x: ir.Value) -> ir.Value:
        """See `DecoderWriter.attention`; new rows go into the cache."""
        spec, layer = self.spec, f"layers.{index}"
        eight: dict[str, Any] = {}
        scales: list[ir.Value | None] = []
        if self.scales is not None:
            eight = {"kv_cache_bit_width": 8, "k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
            # Positions, an attention bias and sinks are inputs that come before the scales and are not used.
            pair = zip(("key", "value"), self.scales[index], strict=True)
            scales = [None, None, None, *(self._cache_scale(f"{layer}.{part}_scale", scale) for part, scale in pair)]
        mixed, key, value = self.graph.ops(
            "GroupQueryAttention",
            f"{layer}.attention",
            self.packed(layer, x),
            None,
            None,
            *self.caches[index],
            self.lengths,
            self.total,
            *self.rope,
            *scales,
            outputs=("", ".key", ".value"),
            domain=CONTRIB,
            num_heads=spec.heads,
            kv_num_heads=spec.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            **eight,
        )
        axes = ("batch", spec.kv_heads, "capacity", spec.head_dim)
        for kind, rows in (("key", key), ("value", value)):
            self.presents.append(self.graph.output(rows, f"present_{kind}.{index}", self.stored, axes))
        return mixed

    def _cache_scale(self, name: str, scale: FloatArray) -> ir.Value:
        return self.graph.constant(name, scale.astype(np.float32)[None, :, None, :])
