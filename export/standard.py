"""The decoder in the ``standard`` dialect: plain ONNX that TensorRT reads, with new cache rows as an output.

Interface (B rows, S new tokens, C the capacity of the cache, L layers; n and V as in `gmrt.export.decoder`):

    inputs_embeds float32 [B, S, D]
    positions     int64   [B, S]            place of each new token in the text, for its rotary angle
    past_mask     float32 [B, 1, 1, C]      0 for a row of the past that is valid, a large negative number else
    new_mask      float32 [1, 1, S, S]      the same for new token by new token: 0 on and below the diagonal
    logits_at     int64   [B, n]            positions along S
    past_key.i, past_value.i [B, kv_heads, C, head_dim]

    logits float32 [B, n, V]; last_hidden float32 [B, n, D]; new_rows [L, 2, B, kv_heads, S, head_dim]

One graph serves prefill and decode. Where a row goes, and which rows are valid, is the host's business: nothing in the
graph depends on a value, so a captured CUDA graph of a decode step stays right while the text grows.

The graph is strongly typed. Products (linear layers, scores, the mix of values) take ``product``; all else is float32,
an island between explicit casts: sums of squares, exponentials, products of gates and the residual stream leave the
range of half precision in real models, and none of them costs anything beside a product.

Past and new rows have products of their own, and one softmax over both is written out (maximum, exponentials, sum): the
cache is read where it lies and not copied, and no shape has to be computed. The heads that share keys are rows of one
product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gmrt.export.decoder import (
    DecoderSpec,
    DecoderWriter,
    FloatArray,
    Reader,
    Weights,
    cache_inputs,
    write_layers,
)
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import Linear


def build_standard_decoder(
    spec: DecoderSpec,
    weights: Weights,
    rope: tuple[FloatArray, FloatArray],
    *,
    linear: Linear,
    head: Linear,
    product: str = "float32",
    between: str = "float32",
) -> ir.Model:
    """Construct the decoder; ``weights`` carry the names of `LlamaForCausalLM`.

    ``product`` is the type of the cache and of attention's products, ``between`` that of all else but the linear
    layers; both float16 is half precision without islands, which is there to show what the islands are for.
    Raises `CheckpointError` as `gmrt.export.decoder.build_decoder` does.
    """
    writer = StandardWriter(GraphBuilder(), spec, Reader(weights, spec), linear, between, product=product)
    graph = writer.graph
    embeds = graph.input("inputs_embeds", "float32", ("batch", "seq", spec.hidden))
    positions = graph.input("positions", "int64", ("batch", "seq"))
    masks = {
        "past": graph.input("past_mask", "float32", ("batch", 1, 1, "capacity")),
        "new": graph.input("new_mask", "float32", (1, 1, "seq", "seq")),
    }
    logits_at = graph.input("logits_at", "int64", ("batch", "n"))
    writer.caches = cache_inputs(graph, spec, product)
    writer.prepare(positions, masks, rope)
    outputs = write_layers(writer, writer.cast("embeds", embeds, between), logits_at, head)
    axes = (spec.layers, 2, "batch", spec.kv_heads, "seq", spec.head_dim)
    rows = graph.output(graph.op("Concat", "rows", *writer.rows, axis=0), "new_rows", product, axes)
    inputs = [embeds, positions, *masks.values(), logits_at, *(value for pair in writer.caches for value in pair)]
    return graph.model("decoder", inputs, [*outputs, rows])


@dataclass
class StandardWriter(DecoderWriter):
    """Blocks of plain operators; ``rows`` collects each layer's new keys and values [1, 2, B, kv_heads, S, size]."""

    product: str = "float32"
    rows: list[ir.Value] = field(default_factory=list)
    _shared: dict[str, ir.Value] = field(default_factory=dict)

    def prepare(self, positions: ir.Value, masks: Mapping[str, ir.Value], rope: tuple[FloatArray, FloatArray]) -> None:
        """Write what all layers share: angles of the new tokens, and masks for the rows of a group of heads."""
        op, spec = self.graph.op, self.spec
        for name, table in zip(("cos", "sin"), rope, strict=True):
            rows = op("Gather", f"rope.{name}.rows", self.constant(f"rope.{name}", table), positions, axis=0)
            self._shared[name] = op("Unsqueeze", f"rope.{name}.by_head", rows, self._whole("head_axis", 1))
        group = spec.heads // spec.kv_heads
        new = op("Concat", "new_mask.grouped", *[masks["new"]] * group, axis=2) if group > 1 else masks["new"]
        self._shared["new"] = self.cast("new_mask", new, self.dtype)
        self._shared["past"] = self.cast("past_mask", masks["past"], self.dtype)

    def norm(self, name: str, hidden: ir.Value, update: ir.Value | None) -> tuple[ir.Value, ir.Value]:
        """See `DecoderWriter.norm`: x / √(mean(x²) + ε) · scale."""
        op = self.graph.op
        if update is not None:
            hidden = op("Add", f"{name}.residual", hidden, update)
        square = op("Mul", f"{name}.square", hidden, hidden)
        mean = op("ReduceMean", f"{name}.mean", square, self._whole("last_axis", -1), keepdims=1)
        eps = self.constant("norm.eps", np.array(self.spec.eps))
        size = op("Sqrt", f"{name}.size", op("Add", f"{name}.mean_eps", mean, eps))
        return op("Mul", name, op("Div", f"{name}.unit", hidden, size), self.scale(name)), hidden

    def attention(self, index: int, x: ir.Value) -> ir.Value:
        """See `DecoderWriter.attention`."""
        op, spec, name = self.graph.op, self.spec, f"layers.{index}.attention"
        heads, kv_heads, size = spec.heads, spec.kv_heads, spec.head_dim
        packed = self.packed(f"layers.{index}", x)
        apart = self._reshape(f"{name}.apart", packed, 0, 0, heads + 2 * kv_heads, size)
        by_head = op("Transpose", f"{name}.by_head", apart, perm=[0, 2, 1, 3])
        turning, value = self._split(name, by_head, {"qk": heads + kv_heads, "value": kv_heads})
        query, key = self._split(name, self._rotated(name, turning), {"query": heads, "key": kv_heads})
        query = op("Mul", f"{name}.scaled", query, self.constant("attention.scale", np.array(size**-0.5)))
        query = self._reshape(f"{name}.grouped", query, 0, kv_heads, -1, size)
        query, key, value = (self._narrow(v) for v in (query, key, value))
        past_key, past_value = self.caches[index]
        weights = self._softmax(name, query, {"past": past_key, "new": key})
        mixed = op(
            "Add",
            f"{name}.mixed",
            *(
                self._widen(op("MatMul", f"{name}.mixed.{part}", self._narrow(weights[part]), rows))
                for part, rows in (("past", past_value), ("new", value))
            ),
        )
        self._keep(name, key, value)
        by_token = op(
            "Transpose",
            f"{name}.by_token",
            self._reshape(f"{name}.heads", mixed, 0, heads, -1, size),
            perm=[0, 2, 1, 3],
        )
        return self._reshape(name, by_token, 0, 0, heads * size)

    def constant(self, name: str, array: FloatArray | np.ndarray[Any, Any]) -> ir.Value:
        """A constant of the type between products."""
        return self.graph.constant(name, array.astype(self.dtype))

    def _rotated(self, name: str, x: ir.Value) -> ir.Value:
        """Turn each pair (x[i], x[i + size / 2]) by its token's angle."""
        op, cos, sin = self.graph.op, self._shared["cos"], self._shared["sin"]
        left, right = self.graph.ops("Split", f"{name}.pairs", x, outputs=(".left", ".right"), axis=-1, num_outputs=2)

        def mul(label: str, part: ir.Value, angle: ir.Value) -> ir.Value:
            return op("Mul", f"{name}.{label}", part, angle)

        turned = (
            op("Sub", f"{name}.turned.left", mul("left.cos", left, cos), mul("right.sin", right, sin)),
            op("Add", f"{name}.turned.right", mul("right.cos", right, cos), mul("left.sin", left, sin)),
        )
        return op("Concat", f"{name}.turned", *turned, axis=-1)

    def _softmax(self, name: str, query: ir.Value, keys: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """Attention's weights on past and new rows, whose sum is one over both together."""
        op, axis = self.graph.op, self._whole("last_axis", -1)
        scores, tops = {}, []
        for part, rows in keys.items():
            turned = op("Transpose", f"{name}.{part}.T", rows, perm=[0, 1, 3, 2])
            score = self._widen(op("MatMul", f"{name}.scores.{part}", query, turned))
            scores[part] = op("Add", f"{name}.masked.{part}", score, self._shared[part])
            tops.append(op("ReduceMax", f"{name}.top.{part}", scores[part], axis, keepdims=1))
        top = op("Max", f"{name}.top", *tops)
        powers = {
            part: op("Exp", f"{name}.power.{part}", op("Sub", f"{name}.below.{part}", score, top))
            for part, score in scores.items()
        }
        sums = (op("ReduceSum", f"{name}.sum.{part}", power, axis, keepdims=1) for part, power in powers.items())
        total = op("Add", f"{name}.sum", *sums)
        return {part: op("Div", f"{name}.weights.{part}", power, total) for part, power in powers.items()}

    def _keep(self, name: str, key: ir.Value, value: ir.Value) -> None:
        axes = self.graph.constant("row_axes", np.array([0, 1], np.int64))
        pair = [self.graph.op("Unsqueeze", f"{name}.row.{v.name}", v, axes) for v in (key, value)]
        self.rows.append(self.graph.op("Concat", f"{name}.rows", *pair, axis=1))

    def _split(self, name: str, x: ir.Value, sizes: dict[str, int]) -> tuple[ir.Value, ir.Value]:
        """Cut heads [B, heads, S, head_dim] in two."""
        first, second = sizes
        lengths = self.graph.constant(f"heads.{first}.{second}", np.array(list(sizes.values()), np.int64))
        parts = self.graph.ops("Split", f"{name}.{first}", x, lengths, outputs=("", f".{second}"), axis=1)
        return parts[0], parts[1]

    def _reshape(self, name: str, x: ir.Value, *shape: int) -> ir.Value:
        """Reshape; 0 keeps an axis, -1 takes what is left."""
        return self.graph.op("Reshape", name, x, self.graph.constant(f"{name}.shape", np.array(shape, np.int64)))

    def _whole(self, name: str, *numbers: int) -> ir.Value:
        return self.graph.constant(name, np.array(numbers, np.int64))

    def _narrow(self, value: ir.Value) -> ir.Value:
        """What goes into a product."""
        return self.graph.convert(value, self.dtype, self.product)

    def _widen(self, value: ir.Value) -> ir.Value:
        """What comes out of a product."""
        return self.graph.convert(value, self.product, self.dtype)
