"""Half precision simulated: which tensor of a strongly typed graph leaves its range, and what rounding costs.

onnxruntime's CPU provider runs a float16 graph by casting to float32 and back where it likes, so that a sum may
overflow on a device and not here. `simulate` makes the rounding explicit: every float16 tensor of the graph becomes a
float32 one that is rounded to half and back where it is made, to infinity where it is too large. A layer norm in half,
which a device computes in several steps of that type, is written out, so that its inner sums are rounded too. Islands,
which are float32 in the graph, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

HALF_MAX = float(np.finfo(np.float16).max)

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Simulated:
    """What a simulated run gave: ``outputs`` by name, and the largest magnitude of each half tensor in graph order.

    An infinite ``largest`` is an overflow, or a value that is not a number, which comes of one.
    """

    outputs: dict[str, npt.NDArray[Any]]
    largest: dict[str, float]

    @property
    def overflows(self) -> list[str]:
        """Names of the tensors that left the range of half precision, the first one first."""
        return [name for name, value in self.largest.items() if not value <= HALF_MAX]


def simulate(model: ir.Model, feeds: Arrays) -> Simulated:
    """Run a graph with every float16 tensor rounded where it is made; feeds of type float16 may be float32."""
    import onnxruntime as ort

    rounded, halves = _rounded(ir.to_proto(model))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # What looks like a cast for nothing is the rounding itself.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(rounded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wide = {name: np.asarray(a, np.float32) if a.dtype == np.float16 else a for name, a in feeds.items()}
    names = [str(value.name) for value in model.graph.outputs]
    found = session.run([*names, *(f"{name}{_LARGEST}" for name in halves)], wide)
    largest = {name: float(value) for name, value in zip(halves, found[len(names) :], strict=True)}
    return Simulated(dict(zip(names, found[: len(names)], strict=True)), largest)


_LARGEST, _EXACT = "|largest", "|exact"


def _rounded(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A float32 model that rounds, and the names of its half tensors in order."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    graph = inferred.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    halves = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values}
    made = onnx.ModelProto()
    made.CopyFrom(inferred)
    out = made.graph
    del out.node[:], out.initializer[:], out.value_info[:]
    order: list[str] = []
    for tensor in graph.initializer:
        half = tensor.data_type == TensorProto.FLOAT16
        halves |= {tensor.name} if half else set()
        wide = numpy_helper.to_array(tensor).astype(np.float32) if half else None
        out.initializer.append(tensor if wide is None else numpy_helper.from_array(wide, tensor.name))
    for value in (*out.input, *out.output):
        if value.name in halves:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        parts = (
            _written_out(node, ranks) if node.op_type == "LayerNormalization" and node.output[0] in halves else [node]
        )
        inner = {name for part in parts if part.op_type != "Constant" for name in part.output} - set(node.output)
        inner = inner if len(parts) > 1 else set()
        for part in parts:
            _append(out, part, halves | inner, order)
    out.initializer.append(numpy_helper.from_array(np.array(np.inf, np.float32), "|infinity"))
    for name in order:
        out.node.extend(
            [
                helper.make_node("Abs", [name], [f"{name}|size"]),
                # A maximum passes over what is not a number.
                helper.make_node("IsNaN", [name], [f"{name}|nan"]),
                helper.make_node("Where", [f"{name}|nan", "|infinity", f"{name}|size"], [f"{name}|magnitude"]),
                helper.make_node("ReduceMax", [f"{name}|magnitude"], [f"{name}{_LARGEST}"], keepdims=0),
            ]
        )
        out.output.append(helper.make_tensor_value_info(f"{name}{_LARGEST}", TensorProto.FLOAT, []))
    return made, order


def _append(graph: onnx.GraphProto, node: onnx.NodeProto, halves: set[str], order: list[str]) -> None:
    """Add a node of the original graph, and behind it the rounding of what is half among its outputs."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    rounding = []
    for index, name in enumerate(node.output):
        if name in halves:
            copy.output[index] = f"{name}{_EXACT}"
            rounding += [
                helper.make_node("Cast", [f"{name}{_EXACT}"], [f"{name}|half"], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [f"{name}|half"], [name], to=TensorProto.FLOAT),
            ]
            order.append(name)
    if node.op_type == "Cast" and node.output[0] in halves:
        copy = helper.make_node("Cast", list(node.input), [copy.output[0]], name=node.name, to=TensorProto.FLOAT)
    graph.node.append(copy)
    graph.node.extend(rounding)


def _written_out(node: onnx.NodeProto, ranks: Mapping[str, int]) -> list[onnx.NodeProto]:
    """A layer norm over the last axis in the steps that are rounded one by one."""
    eps = next(a.f for a in node.attribute if a.name == "epsilon")
    x, scale, bias = node.input
    (y,) = node.output

    def name(part: str) -> str:
        return f"{y}.{part}"

    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("ReduceMean", [x, name("axis")], name("mean"), {"keepdims": 1}),
        ("Sub", [x, name("mean")], name("centred"), {}),
        ("Mul", [name("centred"), name("centred")], name("square"), {}),
        ("ReduceMean", [name("square"), name("axis")], name("variance"), {"keepdims": 1}),
        ("Add", [name("variance"), name("eps")], name("variance_eps"), {}),
        ("Sqrt", [name("variance_eps")], name("size"), {}),
        ("Div", [name("centred"), name("size")], name("unit"), {}),
        ("Mul", [name("unit"), scale], name("scaled"), {}),
        ("Add", [name("scaled"), bias], y, {}),
    ]
    constants = [
        helper.make_node("Constant", [], [name("axis")], value=numpy_helper.from_array(np.array([ranks[x] - 1]))),
        helper.make_node("Constant", [], [name("eps")], value=numpy_helper.from_array(np.array(eps, np.float32))),
    ]
    return constants + [helper.make_node(op, inputs, [out], **attributes) for op, inputs, out, attributes in steps]
