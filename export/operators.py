"""What TensorRT's ONNX parser reads, as far as the graphs of the ``standard`` dialect use it; and a check against it.

Sources, read in July 2026: onnx/onnx-tensorrt, docs/operators.md for TensorRT 10.15 (types and restrictions below) and
for 8.5, and docs/Changelog.md between the two. An operator of the 10.15 table that 8.5 lists too, or that the changelog
adds before 10.3 (LayerNormalization in 8.6, INT64 tensors in 9.0), is there in
10.3; nothing in the changelog takes one away. The tables of 10.3 and 10.16 themselves could not be had; `SUPPORTED`
therefore holds only what both neighbours agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from gmrt.export.graph import IR_VERSION, OPSET
from gmrt.runtime.errors import GateError
from gmrt.runtime.profiles import Profile

_SMALL, _SHOWN = 64, 20
_FLOATS = ("FLOAT", "FLOAT16")
_NUMBERS = (*_FLOATS, "INT32", "INT64")

SUPPORTED: Mapping[str, tuple[str, ...]] = {
    "Add": _NUMBERS,
    "Cast": _NUMBERS,
    "Clip": _FLOATS,
    "Concat": _NUMBERS,
    "Conv": _FLOATS,
    "DequantizeLinear": ("INT8",),
    "Div": _NUMBERS,
    "Exp": _FLOATS,
    "Gather": _NUMBERS,
    "GatherND": _NUMBERS,
    "LayerNormalization": _FLOATS,
    "MatMul": _FLOATS,
    "Max": _NUMBERS,
    "Mul": _NUMBERS,
    "QuantizeLinear": _FLOATS,
    "ReduceMax": _FLOATS,
    "ReduceMean": _FLOATS,
    "ReduceSum": _FLOATS,
    "Reshape": _NUMBERS,
    "Resize": _FLOATS,
    "Sigmoid": _FLOATS,
    "Softmax": _FLOATS,
    "Split": _NUMBERS,
    "Sqrt": _FLOATS,
    "Sub": _NUMBERS,
    "Tanh": _FLOATS,
    "Transpose": _NUMBERS,
    "Unsqueeze": _NUMBERS,
}
"""Operators and the types of their first input."""

_MATCHING = ("Add", "Concat", "Conv", "Div", "LayerNormalization", "MatMul", "Max", "Mul", "Sub")
"""Operators all of whose inputs must be of one type in a strongly typed network."""


def check_graph(model: onnx.ModelProto, profiles: Sequence[Profile] = ()) -> list[str]:
    """Say what TensorRT would refuse of a graph, each in a line that names the node; empty when there is nothing.

    Opset, IR, operators, their types and restrictions; and for every profile whether strict shape inference finds the
    shape of every tensor at its least, usual and largest.
    """
    light = _without_weights(model)
    problems = [*_versions(light)]
    typed = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*typed.graph.input, *typed.graph.value_info)}
    types |= {v.name: v.type.tensor_type.elem_type for v in typed.graph.output}
    types |= {tensor.name: tensor.data_type for tensor in typed.graph.initializer}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in typed.graph.node:
        problems += [f"{node.name or node.output[0]}: {problem}" for problem in _node(node, types, constants)]
    for profile in profiles:
        problems += [f"profile {profile.name}: {problem}" for problem in _shapes(light, profile)]
    return problems


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    if model.ir_version > IR_VERSION:
        yield f"IR version {model.ir_version} is newer than {IR_VERSION}"
    for entry in model.opset_import:
        if entry.domain == "" and entry.version > OPSET:
            yield f"opset {entry.version} is newer than {OPSET}"


def _node(node: onnx.NodeProto, types: Mapping[str, int], constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    if node.domain:
        yield f"{node.op_type} is of {node.domain}, which TensorRT does not have"
        return
    if node.op_type not in SUPPORTED:
        yield f"{node.op_type} is not among the operators that both versions of TensorRT read"
        return
    kinds = [TensorProto.DataType.Name(types[name]) if name in types else "nothing" for name in node.input if name]
    if kinds[0] not in SUPPORTED[node.op_type]:
        yield f"{node.op_type} of {kinds[0]}: TensorRT takes {', '.join(SUPPORTED[node.op_type])}"
    if node.op_type in _MATCHING and len(set(kinds)) > 1:
        yield f"{node.op_type} of {', '.join(kinds)}: a strongly typed network wants one type"
    if node.op_type in _RULES:
        yield from _RULES[node.op_type](node, constants)


def _zero_point(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
        yield "the zero point must be a constant INT8 zero"
    if node.input[1] not in constants:
        yield "the scale must be a constant"


def _one_output(node: onnx.NodeProto, _: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    if len([name for name in node.output if name]) > 1:
        yield "only the first output is supported"


def _constant_second(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    if len(node.input) > 1 and node.input[1] and node.input[1] not in constants:
        yield "its second input must be a constant"


def _resize(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    attributes = {a.name: a.s.decode() for a in node.attribute if a.type == onnx.AttributeProto.STRING}
    allowed = {
        "mode": ("nearest", "linear"),
        "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
        "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    }
    for name, values in allowed.items():
        if attributes.get(name, values[0]) not in values:
            yield f"{name} {attributes[name]} is not supported"
    if len(node.input) > 2 and node.input[2] not in constants:
        yield "its scales must be a constant"


_RULES: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, onnx.TensorProto]], Iterator[str]]] = {
    "QuantizeLinear": _zero_point,
    "DequantizeLinear": _zero_point,
    "LayerNormalization": _one_output,
    "ReduceMax": _constant_second,
    "ReduceMean": _constant_second,
    "ReduceSum": _constant_second,
    "Reshape": _constant_second,
    "Split": _constant_second,
    "Unsqueeze": _constant_second,
    "Resize": _resize,
}


def _shapes(model: onnx.ModelProto, profile: Profile) -> Iterator[str]:
    """Infer every shape at the three sizes of a profile."""
    for which, place in (("least", 0), ("usual", 1), ("largest", 2)):
        sized = onnx.ModelProto()
        sized.CopyFrom(model)
        for value in sized.graph.input:
            if value.name in profile.shapes:
                _resize_value(value, profile.shapes[value.name][place])
        # Declared outputs have names for their free axes, which would be taken for a contradiction.
        for value in sized.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            found = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            yield f"{which}: {str(error).splitlines()[0][:200]}"
            continue
        free = [
            value.name
            for value in (*found.graph.value_info, *found.graph.output)
            if not all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
            or not value.type.tensor_type.HasField("shape")
        ]
        known = {value.name for value in (*found.graph.value_info, *found.graph.output)}
        free += [name for node in found.graph.node for name in node.output if name and name not in known]
        if free:
            yield f"{which}: the shape of {free[0]} is not known ({len(free)} in all)"


def _resize_value(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    value.type.tensor_type.ClearField("shape")
    for size in shape:
        value.type.tensor_type.shape.dim.add().dim_value = size


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its larger constants as inputs: shape inference would copy them again and again."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) <= _SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return light


def require_readable(graphs: Mapping[str, onnx.ModelProto], profiles: Sequence[Profile]) -> None:
    """Raise `GateError` with every problem of ``graphs``, by component, that TensorRT would find."""
    problems = [
        f"{name:<11}{problem}"
        for name, model in graphs.items()
        for problem in check_graph(model, [profile for profile in profiles if profile.component == name])
    ]
    if problems:
        table = "\n  ".join(problems[:_SHOWN])
        raise GateError(f"TensorRT would refuse these graphs, so nothing was written:\n  {table}")
