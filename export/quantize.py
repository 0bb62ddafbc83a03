"""The integer tower: static 8-bit Q/DQ in the float graph, ranges from a calibration record, rounding made up for.

Weights are symmetric signed 8 bits per output channel, rounded so that no kernel overflows (`gmrt.export.fitting`).
Activations are unsigned 8 bits with a zero point, a range per
tensor: onnxruntime on x86 turns signed codes into unsigned ones anyway, only not where a tensor has two readers, and a
zero point lets it drop ReLU6, which is then the saturation of the codes. EfficientNet-Lite0 on 42 aerial images, from
symmetric signed codes to unsigned ones with a zero point: from 35 to all 49 convolutions in integer kernels, from 21.5
to 13.4 ms (float: 14.4; one AVX2 core), cosine to the float features from 0.974 to 0.978.

Rounding shifts the mean of what a layer returns, and a chain of 49 convolutions adds the shifts up. The shift is known:
(W - quantised W) · mean input, so it goes into the bias (Nagel et al. 2019, arXiv 1906.04721): cosine 0.992.

The first convolution stays float, and the depthwise one that reads it (together 4 % of EfficientNet-Lite0's products):
between them, what tells one soft surface from another is a few codes high (cosine on smooth scenes 0.974 with them in
8 bits, 0.994 without). Attention scores, softmax, norms and GELU stay float too, and the residual sums of a
transformer, whose range is the widest.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gmrt.calibration.record import Record
from gmrt.export.fitting import fitting_weights
from gmrt.runtime.errors import GmrtError

FloatArray = npt.NDArray[np.float32]

_PRODUCTS = ("Conv", "MatMul")
_OPENING = ("Conv", "Clip", "Conv", "Clip")


def observed_tensors(model: ir.Model) -> dict[str, int | None]:
    """Name the tensors whose ranges `quantise_tower` needs, with the axis of the means where a layer reads them."""
    axes: dict[str, int | None] = {}
    for node in _integer_nodes(model):
        # Products of a transformer return floats, and a clip stands for the convolution before it.
        if node.op_type != "MatMul" and not any(user.op_type == "Clip" for user in node.outputs[0].consumers()):
            axes.setdefault(_output(node), None)
        if node.op_type in _PRODUCTS:
            axes[_input(node)] = 1 if node.op_type == "Conv" else -1
    return axes


def integer_layers(model: ir.Model) -> dict[str, None]:
    """Name the layers with weights that become integer, in order, as a set with an order."""
    return {_layer(node): None for node in _integer_nodes(model) if node.op_type in _PRODUCTS}


def quantise_tower(
    model: ir.Model, record: Record, pixel_range: tuple[float, float], floats: Collection[str] = ()
) -> onnx.ModelProto:
    """Return the integer form of a float tower; ``pixel_range`` is the widest that preprocessing can give.

    ``floats`` names layers (of `integer_layers`) that stay float, and with them what only joins such layers.
    Raises `GmrtError` when the record lacks a tensor of this graph.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    ranges = {name: (tensor.lo, tensor.hi) for name, tensor in record.tensors.items()} | {"pixels": pixel_range}
    missing = [name for name in observed_tensors(model) if name not in ranges]
    if missing:
        raise GmrtError(
            f"the calibration record has no range for {missing[0]}: it is of another model, calibrate again"
        )
    nodes = _integer_nodes(model, floats)
    # A clip is dropped and the convolution before it saturates in its place.
    ranges |= {_input(node): ranges[_output(node)] for node in nodes if node.op_type == "Clip"}
    rounded = model.clone()
    scales = _round_weights(rounded, nodes)
    _correct_biases(rounded, model, record, floats)
    _state_types(rounded)
    table = {name: TensorData(lowest=np.float32(lo), highest=np.float32(hi)) for name, (lo, hi) in ranges.items()}
    quantizer = QDQQuantizer(
        ir.to_proto(rounded),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, table),
        nodes_to_quantize=[str(node.name) for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Clip", "Add", "Resize", "MatMul"],
        extra_options={
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
            "TensorQuantOverrides": scales,
        },
    )
    quantizer.quantize_model()
    return quantizer.model.model


def _state_types(model: ir.Model) -> None:
    """Say that operators of onnxruntime's own return floats: the quantiser leaves out what it knows no type of."""
    for node in model.graph:
        for value in node.outputs if node.domain else ():
            value.type = ir.TensorType(ir.DataType.FLOAT)


def _round_weights(model: ir.Model, nodes: list[ir.Node]) -> dict[str, list[dict[str, Any]]]:
    """Put weights on their grid, in place; returns the scales as the quantiser takes them.

    Depthwise kernels widen every product to 32 bits: their weights need no fitting.
    """
    scales: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        if node.op_type not in _PRODUCTS:
            continue
        constant = model.graph.initializers[_input(node, 1)]
        assert constant.const_value is not None
        weight, name = constant.const_value.numpy(), _input(node, 1)
        if node.op_type == "MatMul":
            values, steps = fitting_weights(weight.T)
            values, axis = values.T, 1
        elif node.attributes["group"].as_int() == 1:
            # Kernels read an image with its channels last, so that neighbours along K are neighbouring channels.
            last = weight.transpose(0, 2, 3, 1)
            values, steps = fitting_weights(last.reshape(len(weight), -1))
            values, axis = values.reshape(last.shape).transpose(0, 3, 1, 2), 0
        else:
            steps = np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127)
            steps[steps == 0] = 1
            by_channel = steps[:, None, None, None]
            values, axis = np.round(weight / by_channel) * by_channel, 0
        constant.const_value = ir.tensor(np.ascontiguousarray(values, np.float32), name=name)
        scales[name] = [{"axis": axis, "scale": np.float32(step), "zero_point": np.array(0, np.int8)} for step in steps]
    return scales


def _integer_nodes(model: ir.Model, floats: Collection[str] = ()) -> list[ir.Node]:
    """Products with a constant, and what stands between convolutions: clips, and sums and enlarged maps of them."""
    nodes: list[ir.Node] = []
    opening = _opening(model)

    def of_convolution(value: ir.Value | None) -> bool:
        producer = value.producer() if value is not None else None
        return producer is not None and producer in nodes

    for node in model.graph:
        weight = node.inputs[1] if node.op_type in _PRODUCTS else None
        product = weight is not None and weight.is_initializer() and _layer(node) not in floats
        clip = node.op_type == "Clip" and of_convolution(node.inputs[0])
        between = clip or (node.op_type == "Add" and all(map(of_convolution, node.inputs)))
        between = between or (node.op_type == "Resize" and of_convolution(node.inputs[0]))
        if (product or between) and node not in opening:
            nodes.append(node)
    return nodes


def _opening(model: ir.Model) -> list[ir.Node]:
    """The first two convolutions of a convolutional tower with their clips; nothing of a transformer's."""
    chain = [model.graph.inputs[0].consumers()[0]]
    while len(chain) < len(_OPENING):
        chain.append(chain[-1].outputs[0].consumers()[0])
    return chain if tuple(node.op_type for node in chain) == _OPENING else []


def _input(node: ir.Node, index: int = 0) -> str:
    value = node.inputs[index]
    return "" if value is None else str(value.name)


def _layer(node: ir.Node) -> str:
    """The name in the checkpoint of the layer that a product belongs to."""
    return _output(node).removesuffix(".conv")


def _output(node: ir.Node) -> str:
    return str(node.outputs[0].name)


def _correct_biases(rounded: ir.Model, model: ir.Model, record: Record, floats: Collection[str]) -> None:
    """Add to each bias of ``rounded`` what rounding the weights of ``model`` takes from the mean of the outputs."""
    for node in _integer_nodes(model, floats):
        if node.op_type not in _PRODUCTS:
            continue
        name = f"{_input(node, 1).removesuffix('.weight')}.bias"
        weight, coded, bias = (
            graph.initializers[key].const_value
            for graph, key in (
                (model.graph, _input(node, 1)),
                (rounded.graph, _input(node, 1)),
                (rounded.graph, name),
            )
        )
        if weight is not None and coded is not None and bias is not None:
            mean = np.asarray(record.tensors[_input(node)].mean)
            shift = _mean_loss(weight.numpy() - coded.numpy(), mean, node)
            corrected = ir.tensor(bias.numpy() + shift.astype(np.float32), name=name)
            rounded.graph.initializers[name].const_value = corrected


def _mean_loss(lost: FloatArray, mean: npt.NDArray[np.float64], node: ir.Node) -> npt.NDArray[np.float64]:
    """What the lost part of a weight would have returned for an input at its mean everywhere, per output channel."""
    if node.op_type == "MatMul":
        return mean @ lost  # [K] @ [K, N]
    taps = lost.sum(axis=(2, 3))  # [out, in / groups]
    groups = node.attributes["group"].as_int()
    per_output = np.repeat(
        mean.reshape(groups, -1), len(lost) // groups, axis=0
    )  # each output reads its group's inputs
    return (taps * per_output).sum(axis=1)
