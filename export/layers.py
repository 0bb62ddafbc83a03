"""The tower layer by layer: the float graph of the checkpoint beside the graph of a bundle, on the same picture.

Both are run as they are written, without optimisation, so that every layer still has its name and its values; what
fused kernels make of them is judged at the outputs, by the gate. A layer's value is taken behind its clip and its bias,
and in an integer graph behind its rounding. Errors add up along the graph: the plot of a sound bundle falls slowly, and
a mistake is a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gmrt.export.checkpoint import Checkpoint
from gmrt.export.tower import build_tower
from gmrt.runtime.bundle import Bundle

FloatArray = npt.NDArray[np.float32]

_ROUNDED = "_DequantizeLinear_Output"


@dataclass(frozen=True)
class LayerError:
    """How near a layer's values are to the float ones: cosine, and ratio of the norms."""

    layer: str
    cosine: float
    norm_ratio: float


def layer_outputs(tower: ir.Model) -> dict[str, str]:
    """Name the value behind each product with a weight, in the order of a float graph: layer → value."""
    found = {}
    for node in tower.graph:
        if node.op_type not in ("Conv", "MatMul") or not (node.inputs[1] and node.inputs[1].is_initializer()):
            continue
        value = node.outputs[0]
        while (users := value.consumers()) and len(users) == 1 and _belongs(users[0]):
            value = users[0].outputs[0]
        found[str(node.outputs[0].name).removesuffix(".conv")] = str(value.name)
    return found


def _belongs(node: ir.Node) -> bool:
    """Tell whether a node is part of the layer before it: a clip, or the sum with a bias."""
    constant = any(value is not None and value.is_initializer() for value in node.inputs)
    return node.op_type == "Clip" or (node.op_type == "Add" and constant)


def layer_errors(checkpoint: Checkpoint, bundle: Bundle, pixels: Iterable[FloatArray]) -> list[LayerError]:
    """Compare every layer of a bundle's tower on pictures [3, H, W] with the checkpoint's."""
    reference = build_tower(checkpoint.model.config, checkpoint.weights())
    layers = layer_outputs(reference)
    other = onnx.load(str(bundle.path(bundle.manifest.vision.file)))
    made = {name for node in other.graph.node for name in node.output}
    names = {value: value + _ROUNDED if value + _ROUNDED in made else value for value in layers.values()}
    layers = {layer: value for layer, value in layers.items() if names[value] in made}
    first = _session(ir.to_proto(reference), list(layers.values()))
    second = _session(other, [names[value] for value in layers.values()])
    sums = np.zeros((len(layers), 3))
    for image in pixels:
        values = first.run(list(layers.values()), {"pixels": image[None]})
        rounded = second.run([names[value] for value in layers.values()], {"pixels": image[None]})
        for total, ours, theirs in zip(sums, values, rounded, strict=True):
            a, b = (array.astype(np.float64).ravel() for array in (ours, theirs))
            with np.errstate(invalid="ignore"):  # infinite values are a finding, not a mistake here
                total[:] += a @ b, a @ a, b @ b
    return [
        LayerError(layer, float(ab / np.sqrt(max(aa * bb, 1e-60))), float(np.sqrt(bb / max(aa, 1e-30))))
        for layer, (ab, aa, bb) in zip(layers, sums, strict=True)
    ]


def first_layer_off(checkpoint: Checkpoint, bundle: Bundle, pixels: FloatArray, limits: tuple[float, float]) -> str:
    """Name the first layer whose cosine or norm ratio on one picture is beyond ``limits``; the worst where none is."""
    errors = layer_errors(checkpoint, bundle, [pixels])
    least, drift = limits
    off = [error for error in errors if not (error.cosine >= least and abs(error.norm_ratio - 1) <= drift)]
    found = off[0] if off else min(errors, key=lambda error: error.cosine)
    return f"{found.layer}: cosine {found.cosine:.6f}, norm ratio {found.norm_ratio:.4f}"


def _session(model: onnx.ModelProto, values: list[str]) -> Any:
    import onnxruntime as ort

    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
