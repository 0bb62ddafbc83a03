"""A graph under construction: named operators and constants on top of onnx-ir.

Every operator carries the name of the layer that it belongs to ("layers.3.qkv"), so that a message of a runtime or of
the gate points at a place in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

# Opset 19 and IR 9: what TensorRT 10 reads, and every onnxruntime since 1.16; nothing here needs more.
OPSET = 19
IR_VERSION = 9
CONTRIB = "com.microsoft"

TYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "int8": ir.DataType.INT8,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
}

Axes = Sequence[int | str]


@dataclass
class GraphBuilder:
    """Collects nodes and constants and closes them into a model."""

    _tape: ir.tape.Tape = field(default_factory=ir.tape.Tape)
    _constants: dict[str, ir.Value] = field(default_factory=dict)

    def input(self, name: str, dtype: str, axes: Axes) -> ir.Value:
        """Declare an input of the model; a word among ``axes`` is a free axis."""
        return ir.val(name, TYPES[dtype], tuple(axes))

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """Store an array under a name; the same name gives the same constant."""
        if name not in self._constants:
            self._constants[name] = self._tape.initializer(ir.tensor(np.asarray(array, order="C"), name=name))
        return self._constants[name]

    def op(self, op_type: str, name: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Add an operator with one output; the output has the operator's name."""
        return self.ops(op_type, name, *inputs, outputs=("",), domain=domain, **attributes)[0]

    def ops(
        self,
        op_type: str,
        name: str,
        *inputs: ir.Value | None,
        outputs: Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Add an operator whose outputs are called ``name`` plus each of the suffixes ``outputs``."""
        values = self._tape.op_multi_out(
            op_type, inputs, attributes, num_outputs=len(outputs), domain=domain, name=f"{name}/{op_type}"
        )
        for value, suffix in zip(values, outputs, strict=True):
            value.name = f"{name}{suffix}"
        return values

    def cast(self, name: str, value: ir.Value, dtype: str) -> ir.Value:
        """Cast a value; the result is called ``name`` and the type."""
        return self.op("Cast", f"{name}.{dtype}", value, to=int(TYPES[dtype]))

    def convert(self, value: ir.Value, source: str, target: str) -> ir.Value:
        """Cast a value of type ``source``; nothing where ``target`` is the same."""
        return value if source == target else self.cast(str(value.name), value, target)

    def output(self, value: ir.Value, name: str, dtype: str, axes: Axes) -> ir.Value:
        """Declare a value as an output of the model under a public name."""
        value.name, value.dtype, value.shape = name, TYPES[dtype], ir.Shape(axes)
        return value

    def model(self, name: str, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
        """Close the graph."""
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": OPSET, CONTRIB: 1},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="gmrt")
