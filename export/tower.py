"""Tower and connector as one ONNX graph, constructed from a checkpoint's weights: pixels [B, 3, H, W] → [B, T, D].

A tower with a pyramid gives a second output, the places [B, P, G, G] that the locator reads.

Constructed for the same reason as the decoder, and one more: every value has the name of its layer, so that a
calibration record written today fits the graph that is exported with next year's PyTorch. Batch norms are folded into
their convolutions, and a transformer's q, k and v are one product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.export.graph import CONTRIB, GraphBuilder
from gmrt.export.linear import Convolution, Linear, float_convolution, float_linear
from gmrt.georsmllm.lite import NECK, STAGES
from gmrt.runtime.errors import CheckpointError
from gmrt.runtime.locator import FINE

FloatArray = npt.NDArray[np.float32]
Weights = Mapping[str, FloatArray]

# The batch norm of EfficientNet-Lite, as `gmrt.georsmllm.lite.ConvNorm` has it.
_NORM_EPS = 1e-3


@dataclass(frozen=True)
class Layers:
    """How layers with weights are written; ``shared`` is what a residual sum reads of what a layer read."""

    linear: Linear
    convolution: Convolution
    shared: Callable[[GraphBuilder, ir.Value], ir.Value] = lambda _, value: value


OPENING = ("tower.stem.conv", "tower.blocks.0.depthwise.conv")
"""Convolutions that stay float in an integer tower: what tells soft surfaces apart is a few codes high there."""


def build_tower(
    config: Any,
    weights: Weights,
    dtype: str = "float32",
    *,
    between: str | None = None,
    attention: str | None = None,
    layers: Layers | None = None,
    fused: bool = False,
) -> ir.Model:
    """Construct tower and connector; ``weights`` carry the checkpoint's names.

    ``dtype`` is the type of products and of a whole convolutional tower, which its clips keep small. ``between`` is
    that of all else where it is another one: norms, softmax, GELU and residual sums of a transformer leave the range
    of half precision (cosine 0.65 for SigLIP2: NVIDIA/TensorRT issue 4373). ``attention`` is
    the type of the products of two activations where it is another than ``dtype``; ``layers`` are float without it.
    ``fused`` writes attention and GELU as onnxruntime's own operators, which other readers do not know.

    Raises `CheckpointError` for a kind of tower that is not known here, or a tensor that the checkpoint lacks.
    """
    kind = config.vision_config.model_type
    if kind not in _TOWERS:
        raise CheckpointError(f"tower type {kind!r} cannot be exported: it must be one of {', '.join(_TOWERS)}")
    between = between or dtype
    layers = layers or Layers(float_linear(dtype, between), float_convolution(dtype))
    writer = _Writer(GraphBuilder(), weights, dtype, between, attention or dtype, layers, fused)
    spec = config.image_spec
    pixels = writer.graph.input("pixels", "float32", ("batch", 3, spec.height, spec.width))
    graph = writer.graph
    features, places = _TOWERS[kind](writer, config.vision_config, graph.convert(pixels, "float32", dtype))
    tokens = graph.convert(_connector(writer, config, features), writer.between, "float32")
    width = config.text_config.hidden_size
    outputs = [writer.graph.output(tokens, "image_embeds", "float32", ("batch", spec.tokens, width))]
    if places is not None:
        side = config.grid * FINE
        shape = ("batch", config.places, side, side)
        outputs.append(graph.output(graph.convert(places, dtype, "float32"), "image_places", "float32", shape))
    return writer.graph.model("vision", [pixels], outputs)


@dataclass(frozen=True)
class _Writer:
    """Layers by their name in the checkpoint."""

    graph: GraphBuilder
    weights: Weights
    dtype: str
    between: str
    product: str
    layers: Layers
    fused: bool

    def read(self, name: str) -> FloatArray:
        if name not in self.weights:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}: it does not fit its config.json")
        return self.weights[name].astype(np.float32)

    def narrow(self, value: ir.Value) -> ir.Value:
        """What goes into a product of two activations."""
        return self.graph.convert(value, self.between, self.product)

    def widen(self, value: ir.Value) -> ir.Value:
        """What comes out of one."""
        return self.graph.convert(value, self.product, self.between)

    def patches(self, value: ir.Value) -> ir.Value:
        """What comes out of the convolutions."""
        return self.graph.convert(value, self.dtype, self.between)

    def constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        return self.graph.constant(name, array.astype(self.between))

    def reshape(self, name: str, x: ir.Value, *shape: int) -> ir.Value:
        """Reshape; 0 keeps an axis, -1 takes what is left."""
        return self.graph.op("Reshape", name, x, self.graph.constant(f"{name}.shape", np.array(shape, np.int64)))

    def linear(self, name: str, x: ir.Value, *parts: str) -> ir.Value:
        """One linear layer called ``name``, or the layers ``parts`` on the same input as one."""
        stems = parts or (name,)
        weight = np.concatenate([self.read(f"{stem}.weight") for stem in stems])
        bias = np.concatenate([self.read(f"{stem}.bias") for stem in stems])
        return self.layers.linear(self.graph, name, x, weight, bias)

    def norm(self, name: str, x: ir.Value, eps: float) -> ir.Value:
        scale, bias = (self.constant(f"{name}.{part}", self.read(f"{name}.{part}")) for part in ("weight", "bias"))
        return self.graph.op("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=eps)

    def gelu(self, name: str, x: ir.Value) -> ir.Value:
        """Hyperbolic-tangent GELU: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))). Opset 19 has no operator for it."""
        if self.fused:
            return self.graph.op("FastGelu", name, x, domain=CONTRIB)
        op, half = self.graph.op, self.constant
        cube = op("Mul", f"{name}.cube", op("Mul", f"{name}.square", x, x), x)
        inner = op("Add", f"{name}.inner", x, op("Mul", f"{name}.bent", cube, half("gelu.cubic", np.array(0.044715))))
        slope = op("Mul", f"{name}.slope", inner, half("gelu.slope", np.array(np.sqrt(2 / np.pi))))
        gate = op("Add", f"{name}.gate", op("Tanh", f"{name}.tanh", slope), half("gelu.one", np.array(1.0)))
        return op("Mul", name, op("Mul", f"{name}.gated", x, gate), half("gelu.half", np.array(0.5)))

    def convolution(
        self,
        name: str,
        x: ir.Value,
        weight: FloatArray,
        bias: FloatArray,
        *,
        stride: int,
        pads: tuple[int, int],
        groups: int,
    ) -> ir.Value:
        kernel = weight.shape[-1]
        attributes = {
            "kernel_shape": [kernel, kernel],
            "strides": [stride, stride],
            "pads": [pads[0], pads[0], pads[1], pads[1]],
            "group": groups,
        }
        return self.layers.convolution(self.graph, name, x, weight, bias, attributes)


def _lite(writer: _Writer, config: Any, x: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """EfficientNet-Lite0 → patch features [B, patches, C] and places [B, P, G, G]; see `gmrt.georsmllm.lite`."""
    x = _conv_norm(writer, "tower.stem", x, stride=2)
    index, outputs = 0, {}
    for repeats, _, stage_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            name = f"tower.blocks.{index}"
            # The first block of a stage changes the width or the resolution, the others add to their input.
            stride = stage_stride if repeat == 0 else 1
            outputs[index] = x = _block(writer, name, x, stride=stride, expand=expansion != 1, residual=repeat > 0)
            index += 1
    outputs[None] = x = _conv_norm(writer, "tower.head", x)
    tokens = writer.patches(_tokens(writer, _neck(writer, outputs) if config.neck else x, config.hidden_size))
    return tokens, _pyramid(writer, outputs) if config.places else None


def _block(
    writer: _Writer, name: str, x: ir.Value, *, stride: int = 1, expand: bool = True, residual: bool = True
) -> ir.Value:
    """Inverted residual."""
    y = _conv_norm(writer, f"{name}.expand", x) if expand else x
    y = _conv_norm(writer, f"{name}.depthwise", y, stride=stride, depthwise=True)
    y = _conv_norm(writer, f"{name}.project", y, act=False)
    if not residual:
        return y
    return writer.graph.op("Add", f"{name}.residual", writer.layers.shared(writer.graph, x), y)


def _pyramid(writer: _Writer, outputs: Mapping[int | None, ir.Value]) -> ir.Value:
    """Features of three strides joined at the finest → [B, P, G, G]."""
    stem = "tower.pyramid"
    fine, middle, x = (
        _conv_norm(writer, f"{stem}.{name}", outputs[block], act=False) for name, (block, _) in NECK.items()
    )
    x = writer.graph.op("Add", f"{stem}.joined", middle, _twice(writer, f"{stem}.coarse.twice", x))
    x = _block(writer, f"{stem}.between", x)
    x = writer.graph.op("Add", f"{stem}.added", fine, _twice(writer, f"{stem}.between.twice", x))
    for number in range(2):
        x = _block(writer, f"{stem}.within.{number}", x)
    return _relu6(writer, stem, x)


def _twice(writer: _Writer, name: str, x: ir.Value) -> ir.Value:
    """Every value of a map, twice as wide and twice as high."""
    scales = writer.graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
    modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return writer.graph.op("Resize", name, x, None, scales, **modes)


def _neck(writer: _Writer, outputs: Mapping[int | None, ir.Value]) -> ir.Value:
    """Features of three strides in one cell: convolutions as wide as their stride, summed, ReLU6."""
    parts = (
        _conv_norm(writer, f"tower.neck.{name}", outputs[block], stride=stride, act=False)
        for name, (block, stride) in NECK.items()
    )
    first, *others = parts
    for number, part in enumerate(others):
        first = writer.graph.op("Add", f"tower.neck.sum.{number}", first, part)
    return _relu6(writer, "tower.neck", first)


def _relu6(writer: _Writer, name: str, x: ir.Value) -> ir.Value:
    low, high = (
        writer.graph.constant(f"relu6.{name}", np.array(bound, writer.dtype))
        for name, bound in (("low", 0.0), ("high", 6.0))
    )
    return writer.graph.op("Clip", name, x, low, high)


def _conv_norm(
    writer: _Writer, name: str, x: ir.Value, *, stride: int = 1, depthwise: bool = False, act: bool = True
) -> ir.Value:
    weight = writer.read(f"{name}.conv.weight")
    gamma, beta, mean, variance = (
        writer.read(f"{name}.norm.{part}") for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(variance + np.float32(_NORM_EPS))
    total = weight.shape[-1] - stride  # TensorFlow's SAME for an even input: one pixel less in front than behind
    y = writer.convolution(
        name if not act else f"{name}.conv",
        x,
        weight * factor[:, None, None, None],
        beta - mean * factor,
        stride=stride,
        pads=(total // 2, total - total // 2),
        groups=weight.shape[0] if depthwise else 1,
    )
    if not act:
        return y
    return _relu6(writer, name, y)


def _siglip(writer: _Writer, config: Any, x: ir.Value) -> tuple[ir.Value, None]:
    """Transformers' SigLIP encoder without its pooling head → patch features [B, patches, C]."""
    stem, eps, width = "tower.siglip", config.layer_norm_eps, config.hidden_size
    if config.hidden_act != "gelu_pytorch_tanh":
        raise CheckpointError(
            f"tower activation {config.hidden_act!r} cannot be exported: it must be 'gelu_pytorch_tanh'"
        )
    patch = f"{stem}.embeddings.patch_embedding"
    weight, bias = writer.read(f"{patch}.weight"), writer.read(f"{patch}.bias")
    x = writer.convolution(patch, x, weight, bias, stride=config.patch_size, pads=(0, 0), groups=1)
    position = f"{stem}.embeddings.position_embedding"
    places = writer.constant(f"{position}.weight", writer.read(f"{position}.weight"))
    x = writer.graph.op("Add", position, writer.patches(_tokens(writer, x, width)), places)
    for i in range(config.num_hidden_layers):
        name = f"{stem}.encoder.layers.{i}"
        y = _attention(writer, f"{name}.self_attn", writer.norm(f"{name}.layer_norm1", x, eps), config)
        x = writer.graph.op("Add", f"{name}.attended", x, y)
        y = writer.linear(f"{name}.mlp.fc1", writer.norm(f"{name}.layer_norm2", x, eps))
        y = writer.linear(f"{name}.mlp.fc2", writer.gelu(f"{name}.mlp.gelu", y))
        x = writer.graph.op("Add", f"{name}.out", x, y)
    return writer.norm(f"{stem}.post_layernorm", x, eps), None


def _attention(writer: _Writer, name: str, x: ir.Value, config: Any) -> ir.Value:
    """Full attention [B, S, C] → [B, S, C]; the scale 1/√head_dim is on the queries."""
    op, heads = writer.graph.op, config.num_attention_heads
    size = config.hidden_size // heads
    qkv = writer.linear(f"{name}.qkv", x, *(f"{name}.{part}_proj" for part in "qkv"))
    if writer.fused:
        q, k, v = writer.graph.ops("Split", f"{name}.split", qkv, outputs=(".q", ".k", ".v"), axis=-1, num_outputs=3)
        joined = op("MultiHeadAttention", f"{name}.joined", q, k, v, domain=CONTRIB, num_heads=heads)
        return writer.linear(f"{name}.out_proj", joined)
    split = op(
        "Transpose", f"{name}.by_head", writer.reshape(f"{name}.split", qkv, 0, 0, 3, heads, size), perm=[2, 0, 3, 1, 4]
    )
    first = (writer.graph.constant(f"index.{i}", np.array(i, np.int64)) for i in range(3))
    q, k, v = (op("Gather", f"{name}.{part}", split, i, axis=0) for part, i in zip("qkv", first, strict=True))
    q = op("Mul", f"{name}.scaled", q, writer.constant(f"scale.{size}", np.array(size**-0.5)))
    q, k, v = (writer.narrow(part) for part in (q, k, v))
    scores = op("MatMul", f"{name}.scores", q, op("Transpose", f"{name}.k.T", k, perm=[0, 1, 3, 2]))
    weights = op("Softmax", f"{name}.weights", writer.widen(scores), axis=-1)
    mixed = op("MatMul", f"{name}.mixed", writer.narrow(weights), v)
    joined = op("Transpose", f"{name}.by_token", writer.widen(mixed), perm=[0, 2, 1, 3])
    return writer.linear(f"{name}.out_proj", writer.reshape(f"{name}.joined", joined, 0, 0, config.hidden_size))


def _tokens(writer: _Writer, x: ir.Value, width: int) -> ir.Value:
    """[B, C, rows, columns] → [B, rows · columns, C]."""
    flat = writer.reshape("tower.flat", x, 0, width, -1)
    return writer.graph.op("Transpose", "tower.tokens", flat, perm=[0, 2, 1])


def _connector(writer: _Writer, config: Any, x: ir.Value) -> ir.Value:
    """Pixel shuffle and MLP [B, patches, C] → [B, T, D]; see `gmrt.georsmllm.model.Connector`."""
    if config.shuffle > 1:
        side, fold, width = config.grid // config.shuffle, config.shuffle, config.vision_config.hidden_size
        x = writer.reshape("connector.grid", x, -1, side, fold, side, fold, width)
        x = writer.graph.op("Transpose", "connector.folded", x, perm=[0, 1, 3, 2, 4, 5])
        x = writer.reshape("connector.shuffled", x, -1, side * side, fold * fold * width)
    x = writer.linear("connector.fc1", writer.norm("connector.norm", x, 1e-5))
    x = writer.linear("connector.fc2", writer.gelu("connector.gelu", x))
    if not config.positions:
        return x
    places = writer.constant("connector.positions", writer.read("connector.positions"))
    return writer.graph.op("Add", "connector.placed", writer.norm("connector.scale", x, 1e-5), places)


_TOWERS: Mapping[str, Callable[[_Writer, Any, ir.Value], tuple[ir.Value, ir.Value | None]]] = {
    "efficientnet_lite": _lite,
    "siglip_vision_model": _siglip,
}
