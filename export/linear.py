"""How a linear layer is written into a graph: float, or quantised in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.blocks import BLOCK, Blocks, quantise_blocks
from gmrt.export.graph import CONTRIB, GraphBuilder

FloatArray = npt.NDArray[np.float32]

# (graph, name, x [..., K], weight [N, K], bias [N] or None) -> [..., N]
Linear = Callable[[GraphBuilder, str, ir.Value, FloatArray, FloatArray | None], ir.Value]

HEAD_ROWS = 32_768
"""Words that one product of a decoder's head gives for TensorRT, which finds no scratch memory for 150 000 on an Orin
Nano."""

_PART = ":"

# (graph, name, x [B, K, rows, columns], weight [N, K / groups, ...], bias [N], ONNX attributes) -> [B, N, ...]
Convolution = Callable[[GraphBuilder, str, ir.Value, FloatArray, FloatArray, Mapping[str, Any]], ir.Value]


def float_convolution(dtype: str) -> Convolution:
    """Write convolutions as Conv with weights of ``dtype``."""

    def write(
        graph: GraphBuilder,
        name: str,
        x: ir.Value,
        weight: FloatArray,
        bias: FloatArray,
        attributes: Mapping[str, Any],
    ) -> ir.Value:
        constants = (
            graph.constant(f"{name}.{part}", array.astype(dtype))
            for part, array in (("weight", weight), ("bias", bias))
        )
        return graph.op("Conv", name, x, *constants, **attributes)

    return write


def float_linear(dtype: str, between: str | None = None, *, most: int | None = None) -> Linear:
    """Write linear layers as MatMul (+ Add) with weights of ``dtype``.

    ``between`` is the type of what comes and goes, and of the bias, where it is another one: the product stands
    between casts then. A layer of more than ``most`` outputs is several products of at most so many, joined.
    """
    outside = between or dtype

    def write(graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None) -> ir.Value:
        x = graph.convert(x, outside, dtype)
        size = most or len(weight)
        starts = range(0, len(weight), size)
        names = [name if len(starts) == 1 else f"{name}{_PART}{start // size}" for start in starts]
        parts = [
            graph.op("MatMul", part, x, graph.constant(f"{part}.weight", weight[start : start + size].T.astype(dtype)))
            for part, start in zip(names, starts, strict=True)
        ]
        product = parts[0] if len(parts) == 1 else graph.op("Concat", name, *parts, axis=-1)
        y = graph.convert(product, dtype, outside)
        if bias is None:
            return y
        return graph.op("Add", f"{name}.biased", y, graph.constant(f"{name}.bias", bias.astype(outside)))

    return write


def whole_layer(name: str) -> str:
    """The layer that a product belongs to, where `float_linear` has written it in parts."""
    return name.partition(_PART)[0]


def block_linear(bits: int, made: Mapping[str, Blocks] | None = None) -> Linear:
    """Write linear layers as MatMulNBits: ``bits``-bit weights in blocks along K, activations quantised on the fly.

    ``made`` holds, by name, weights that are quantised already; the others are rounded to nearest. Accuracy level 4
    asks for integer kernels; on a CPU the float kernels (level 0) are 10 to 40 times slower.
    """

    def write(graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None) -> ir.Value:
        blocks = (made or {}).get(name) or quantise_blocks(weight, bits)
        optional: list[ir.Value | None] = [
            graph.constant(f"{name}.zero", blocks.packed_zeros()) if blocks.zeros is not None else None,
            None,
            graph.constant(f"{name}.bias", bias) if bias is not None else None,
        ]
        while optional and optional[-1] is None:
            optional.pop()
        attributes: dict[str, Any] = {
            "N": weight.shape[0],
            "K": weight.shape[1],
            "bits": blocks.bits,
            "block_size": BLOCK,
            "accuracy_level": 4,
        }
        return graph.op(
            "MatMulNBits",
            name,
            x,
            graph.constant(f"{name}.weight", blocks.packed()),
            graph.constant(f"{name}.scale", blocks.scales),
            *optional,
            domain=CONTRIB,
            **attributes,
        )

    return write
