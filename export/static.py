"""Static symmetric 8-bit layers (W8A8) for the ``standard`` dialect: Q/DQ where TensorRT fuses it.

Each quantised product reads its input through QuantizeLinear and DequantizeLinear with one scale a tensor, and a weight
of signed codes through DequantizeLinear with a scale per output channel. Zero points are 0, which TensorRT demands, and
biases stay float, which it adds behind the integer product. A tensor with several readers has one pair for all of them,
a residual sum among them: then an engine adds it in the convolution's own kernel.

    scale of a tensor = max |value| / 127        code = round(value / scale), -127 to 127 (weights), -128 to 127 (else)

What rounding the weights takes from the mean of the outputs goes into the bias where the mean of the inputs is known
(Nagel et al. 2019, arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gmrt.calibration.record import TensorRange
from gmrt.export.graph import GraphBuilder
from gmrt.export.linear import float_convolution, float_linear
from gmrt.runtime.errors import GmrtError

FloatArray = npt.NDArray[np.float32]


@dataclass
class StaticLayers:
    """Writes the layers of one graph; ``ranges`` are of their inputs by name, layers named in ``floats`` stay float.

    Raises `GmrtError` when a range is missing.
    """

    ranges: Mapping[str, TensorRange]
    floats: Collection[str] = ()
    _quantised: dict[str, ir.Value] = field(default_factory=dict)

    def linear(
        self, graph: GraphBuilder, name: str, x: ir.Value, weight: FloatArray, bias: FloatArray | None
    ) -> ir.Value:
        """Write x [..., K] · weight [N, K] + bias; see `gmrt.export.linear.Linear`."""
        if name in self.floats:
            return float_linear("float32")(graph, name, x, weight, bias)
        codes, scale = quantise_weight(weight)
        mean = np.asarray(self.range_of(x).mean)
        if bias is not None and mean.size:
            bias = bias + ((weight - codes * scale[:, None]) @ mean).astype(np.float32)
        product = graph.op("MatMul", name, self.shared(graph, x), self._weight(graph, name, codes.T, scale, axis=1))
        if bias is None:
            return product
        return graph.op("Add", f"{name}.biased", product, graph.constant(f"{name}.bias", bias))

    def convolution(
        self,
        graph: GraphBuilder,
        name: str,
        x: ir.Value,
        weight: FloatArray,
        bias: FloatArray,
        attributes: Mapping[str, Any],
    ) -> ir.Value:
        """Write a convolution with weight [N, K, rows, columns]; see `gmrt.export.linear.Convolution`."""
        if name in self.floats:
            return float_convolution("float32")(graph, name, x, weight, bias, attributes)
        codes, scale = quantise_weight(weight)
        mean = np.asarray(self.range_of(x).mean)
        if mean.size:
            lost = (weight - codes * scale[:, None, None, None]).sum(axis=(2, 3))
            # Each output reads the inputs of its group only.
            groups = attributes["group"]
            inputs = np.repeat(mean.reshape(groups, -1), len(weight) // groups, axis=0)
            bias = bias + (lost * inputs).sum(axis=1).astype(np.float32)
        kernel = self._weight(graph, name, codes, scale, axis=0)
        return graph.op("Conv", name, self.shared(graph, x), kernel, graph.constant(f"{name}.bias", bias), **attributes)

    def shared(self, graph: GraphBuilder, x: ir.Value) -> ir.Value:
        """A tensor through its codes; the same for every reader."""
        name = str(x.name)
        if name not in self._quantised:
            known = self.range_of(x)
            step = np.array(max(abs(known.lo), abs(known.hi)) / 127 or 1.0, np.float32)
            scale = graph.constant(f"{name}.scale", step)
            zero = graph.constant("zero", np.array(0, np.int8))
            codes = graph.op("QuantizeLinear", f"{name}.codes", x, scale, zero)
            self._quantised[name] = graph.op("DequantizeLinear", f"{name}.quantised", codes, scale, zero)
        return self._quantised[name]

    def range_of(self, x: ir.Value) -> TensorRange:
        """What was measured of a tensor."""
        if str(x.name) not in self.ranges:
            raise GmrtError(
                f"the calibration record has no range for {x.name}: it is of another model, calibrate again"
            )
        return self.ranges[str(x.name)]

    @staticmethod
    def _weight(graph: GraphBuilder, name: str, codes: npt.NDArray[np.int8], scale: FloatArray, axis: int) -> ir.Value:
        return graph.op(
            "DequantizeLinear",
            f"{name}.weight.quantised",
            graph.constant(f"{name}.weight", codes),
            graph.constant(f"{name}.weight.scale", scale),
            graph.constant(f"{name}.weight.zero", np.zeros(len(scale), np.int8)),
            axis=axis,
        )


def quantise_weight(weight: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Signed codes of a weight [N, ...] and their scale float32 [N], max / 127 of each output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
    scale[scale == 0] = 1
    codes = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return codes.astype(np.int8), scale.astype(np.float32)
