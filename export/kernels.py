"""What really computes: the kernels of the optimised graph, and the share of the products that are integer.

A Q/DQ graph is a wish. Whether onnxruntime fuses it into integer kernels depends on patterns, types and versions, and a
graph that was not fused still gives the right answer, in floats and slower. So the session is made with the options of
the field and asked twice: its optimised graph tells which nodes there are, with their weights and attributes, and its
profile of a run tells which of them ran, and on what shapes. From both follow the multiply-accumulates of each:

    convolution   |out| · |W| / (output channels of W)
    matmul        |out| · K
    attention     2 · |out| · T, for T keys; a causal product is counted whole, because the kernel computes it whole

MatMulNBits is integer only where its attribute asks for it (accuracy level 4) and where this machine has such a kernel
for the width and block, which a graph of one node with a known answer tells.

A border between floats and codes needs a QuantizeLinear or a DequantizeLinear. Stray are a pair of both with nothing
between them, and a DequantizeLinear in front of a product: a product that was meant to be integer and is not.

A bundle for TensorRT is counted as it is written instead: a product whose inputs are both dequantised is one that
TensorRT makes an integer kernel of, and onnxruntime, whose patterns are others, would tell of its own choice only.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gmrt.export.linear import whole_layer
from gmrt.export.precision import Limit
from gmrt.runtime.backends.ort import session_options
from gmrt.runtime.bundle import Bundle
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.manifest import Manifest

PROMPT = 256
"""Tokens of the prefill, and tokens in the cache at the decode step, that the decoder is measured at."""

# Where a product's weight stands among the inputs.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
_MATMULS = {
    "MatMul": 1,
    "Gemm": 1,
    "FusedMatMul": 1,
    "FusedGemm": 1,
    "QGemm": 3,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
}
_INTEGER = {
    "ConvInteger",
    "QLinearConv",
    "MatMulInteger",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QGemm",
}
_BLOCKS, _CAUSAL, _FULL = "MatMulNBits", "GroupQueryAttention", "MultiHeadAttention"
# Products whose size nothing here knows: a graph that holds one is refused rather than counted wrongly.
_UNKNOWN = {"Attention", "Einsum", "GRU", "LSTM", "QAttention", "QMoE", "QOrderedMatMul", "RNN"}


@dataclass(frozen=True)
class Product:
    """One operator that multiplies and adds: ``weighted`` when one side is a constant, ``integer`` by its kernel."""

    name: str
    op: str
    macs: int
    integer: bool
    weighted: bool


@dataclass(frozen=True)
class Kernels:
    """What one graph runs at a stated shape.

    ``nodes`` counts operators of the optimised graph by type; ``floats`` names those that return floats and are no
    integer product; ``stray`` is the number of stray Q/DQ pairs.
    """

    graph: str
    shape: str
    products: tuple[Product, ...]
    nodes: Mapping[str, int]
    floats: Mapping[str, tuple[str, ...]]
    stray: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a run."""
        return sum(product.macs for product in self.products)

    @property
    def integer_share(self) -> float:
        """Share of the multiply-accumulates in integer kernels, attention included."""
        return self._share(self.products)

    @property
    def weighted_share(self) -> float:
        """The same of the products with weights only: what quantisation set out to make integer."""
        return self._share(tuple(product for product in self.products if product.weighted))

    @property
    def float_products(self) -> tuple[Product, ...]:
        """What is left in floats, the largest first."""
        return tuple(sorted((p for p in self.products if not p.integer), key=lambda p: -p.macs))

    def __str__(self) -> str:
        """One line for people."""
        left = [f"{p.name} ({p.op}, {p.macs / self.macs:.1%})" for p in self.float_products]
        floats = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "") or "none"
        return (
            f"{self.graph}, {self.shape}: {self.integer_share:.1%} of {self.macs / 1e6:.1f} M multiply-accumulates in "
            f"integer kernels, {self.weighted_share:.1%} of those with weights; {self.stray} stray Q/DQ pairs; float "
            f"products: {floats}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record of the manifest and of reports."""
        return {
            "graph": self.graph,
            "shape": self.shape,
            "macs": self.macs,
            "integer_share": round(self.integer_share, 5),
            "weighted_share": round(self.weighted_share, 5),
            "stray_pairs": self.stray,
            "float_products": [asdict(product) for product in self.float_products],
            "nodes": dict(self.nodes),
            "float_ops": {op: list(names) for op, names in self.floats.items()},
        }

    @staticmethod
    def _share(products: tuple[Product, ...]) -> float:
        total = sum(product.macs for product in products)
        return sum(product.macs for product in products if product.integer) / total if total else 0.0


def inspect_bundle(bundle: Bundle) -> tuple[Kernels, ...]:
    """Count the kernels of the tower at batch 1, and of the decoder at a prefill of 256 tokens and at a step after it.

    A shorter context measures shorter. Raises `GmrtError` for a graph with products that cannot be counted.
    """
    manifest = bundle.manifest
    image, context = manifest.image, min(PROMPT, manifest.cache.max_length - 1)
    tower = Run(f"1 image, {image.height} × {image.width}", {"batch": 1}, {}, 0)
    runs = [_decoder_run(f"prefill of {context} tokens", context, 0), _decoder_run("step", 1, context)]
    if manifest.target == "tensorrt":
        files = {manifest.vision.file: [tower], manifest.decoder.file: runs}
        return tuple(k for file, each in files.items() for k in inspect_graph(bundle.path(file), each, written=True))
    return (
        *inspect_graph(bundle.path(manifest.vision.file), [tower], saturable=not manifest.vision.fits_16_bits),
        *inspect_graph(bundle.path(manifest.decoder.file), runs),
    )


def failed_kernels(
    kernels: Iterable[Kernels], least: Limit, planned: Collection[str] = ()
) -> list[tuple[str, str, str]]:
    """(component, graph, why) of each graph whose share of products with weights is below that of its precision.

    Layers of ``planned`` are meant to be float, and do not count.
    """
    failed = []
    for graph in kernels:
        meant = [product for product in graph.products if product.weighted and whole_layer(product.name) not in planned]
        total = sum(product.macs for product in meant)
        integer = sum(product.macs for product in meant if product.integer) / total if total else 1.0
        if integer < least.value:
            left = [f"{p.name} ({p.op})" for p in graph.float_products if p in meant]
            some = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
            share = f"{integer:.3f} of the products with weights in integer kernels, {graph.shape}"
            failed.append(("kernels", graph.graph, f"{share} < {least.value} ({least.why}); float: {some}"))
    return failed


def planned_floats(manifest: Manifest) -> tuple[str, ...]:
    """Name the layers that the export planned to keep float; whatever else stands there in the record names none."""
    found = manifest.parity.get("plan")
    names = found.get("float") if isinstance(found, dict) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


@dataclass(frozen=True)
class Run:
    """Shapes of a run: free axes by name, values of the inputs that steer it, and how many keys attention sees."""

    words: str
    axes: Mapping[str, int]
    values: Mapping[str, int]
    keys: int


def _decoder_run(words: str, new: int, cached: int) -> Run:
    total = new + cached
    axes = {"batch": 1, "seq": new, "n": 1, "capacity": total}
    values = {"seqlens_k": total - 1, "total_length": total, "logits_at": new - 1}
    return Run(f"{words} at length {cached}" if cached else words, axes, values, total)


def inspect_graph(path: Path, runs: list[Run], *, saturable: bool = False, written: bool = False) -> list[Kernels]:
    """Count the kernels of one graph on the CPU, once for each of ``runs``; or the products as they are ``written``."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(ort, "cpu", saturable=saturable)
        saved = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(saved)
        if written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Constants beside the graph: it stays small to read, and a large one can be written at all.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for run in runs:
            session.run(None, {value.name: _feed(value, run) for value in session.get_inputs()})
        shapes = _profiled(Path(session.end_profiling()))
        graph = onnx.load(str(saved), load_external_data=False).graph
    if len(shapes) != len(runs):
        raise GmrtError(f"{path.name}: the profile holds {len(shapes)} runs instead of {len(runs)}")
    nodes: dict[str, int] = {}
    for node in graph.node:
        nodes[node.op_type] = nodes.get(node.op_type, 0) + 1
    weights = {value.name: tuple(value.dims) for value in graph.initializer}
    dequantised: set[str] = _read_through(graph, weights) if written else set()
    stray = _half_dequantised(graph, dequantised) if written else _stray(graph)
    return [
        Kernels(
            path.stem,
            f"{run.words}, as written" if written else run.words,
            tuple(
                p
                for node in graph.node
                if (p := _product(node, weights, seen, run, path.name, dequantised)) is not None
            ),
            nodes,
            _floats(graph, seen),
            stray,
        )
        for run, seen in zip(runs, shapes, strict=True)
    ]


def _read_through(graph: onnx.GraphProto, weights: dict[str, tuple[int, ...]]) -> set[str]:
    """Name what DequantizeLinear makes, and add to ``weights`` what it and casts make of constants.

    A CPU has no half precision products: onnxruntime puts casts around them, in front of their weights, too.
    """
    dequantised = set()
    for node in graph.node:
        if node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        if node.op_type == "DequantizeLinear":
            dequantised.add(node.output[0])
    return dequantised


def _half_dequantised(graph: onnx.GraphProto, dequantised: Collection[str]) -> int:
    """Count the products of which one side is codes and the other is not: they run in floats."""
    sides = (
        [name in dequantised for name in node.input[:2]]
        for node in graph.node
        if node.op_type in (*_CONVOLUTIONS, *_MATMULS)
    )
    return sum(any(side) and not all(side) for side in sides)


def _feed(value: Any, run: Run) -> np.ndarray[Any, Any]:
    shape = [axis if isinstance(axis, int) else run.axes[axis] for axis in value.shape]
    kinds = {"float": np.float32, "float16": np.float16, "int32": np.int32, "int64": np.int64, "int8": np.int8}
    kind = kinds[value.type.removeprefix("tensor(").removesuffix(")")]
    return np.full(shape, run.values.get(value.name, 0), kind)


@dataclass(frozen=True)
class _Ran:
    """Shapes of a node's inputs, without constants that were prepacked, and of its outputs; whether one is float."""

    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    returns_float: bool


Shapes = Mapping[str, _Ran]


def _profiled(file: Path) -> list[Shapes]:
    """Shapes of inputs and outputs of each node that ran, by its name; one mapping a run."""
    events = json.loads(file.read_text(encoding="utf-8"))
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
    found: list[dict[str, Any]] = [{} for _ in spans]
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            run = next(i for i, (start, end) in enumerate(spans) if start <= event["ts"] <= end)
            inputs, outputs = (event["args"].get(f"{side}_type_shape", []) for side in ("input", "output"))
            found[run][event["name"].removesuffix("_kernel_time")] = _Ran(
                [tuple(next(iter(shape.values()))) for shape in inputs],
                [tuple(next(iter(shape.values()))) for shape in outputs],
                any(kind in ("float", "float16") for shape in outputs for kind in shape),
            )
    return list(found)


def _floats(graph: onnx.GraphProto, shapes: Shapes) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in graph.node:
        if node.name in shapes and shapes[node.name].returns_float and node.op_type not in (*_INTEGER, _BLOCKS):
            found.setdefault(node.op_type, []).append(_label(node))
    return {op: tuple(names) for op, names in found.items()}


def _product(
    node: onnx.NodeProto,
    weights: Mapping[str, tuple[int, ...]],
    shapes: Shapes,
    run: Run,
    file: str,
    dequantised: Collection[str] = (),
) -> Product | None:
    op = node.op_type
    if op in _UNKNOWN:
        raise GmrtError(f"{file}: the products of {op} ({node.name}) cannot be counted: gmrt writes no such operator")
    if op not in (*_CONVOLUTIONS, *_MATMULS, _BLOCKS, _CAUSAL, _FULL):
        return None
    if node.name not in shapes:
        raise GmrtError(f"{file}: {node.name} ({op}) is in the optimised graph and did not run")
    ran = shapes[node.name]
    made, attributes = prod(ran.outputs[0]), {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if op in (_CAUSAL, _FULL):
        keys = run.keys if op == _CAUSAL else ran.inputs[1][1]
        return Product(_label(node), op, 2 * made * keys, integer=False, weighted=False)
    if op == _BLOCKS:
        integer = attributes.get("accuracy_level", 0) == 4
        integer = integer and blocks_are_integer(attributes["bits"], attributes["block_size"])
        return Product(_label(node), op, made * attributes["K"], integer=integer, weighted=True)
    weight = weights.get(node.input[_CONVOLUTIONS.get(op) or _MATMULS[op]])
    if op in _CONVOLUTIONS:
        if weight is None:
            raise GmrtError(f"{file}: the weight of {node.name} ({op}) is not a constant: its products are unknown")
        macs = made * prod(weight[1:])
    else:
        macs = made * ran.inputs[0][-2 if attributes.get("transA") else -1]
    integer = op in _INTEGER or all(name in dequantised for name in node.input[:2])
    return Product(_label(node), op, macs, integer=integer, weighted=weight is not None)


def _label(node: onnx.NodeProto) -> str:
    """The layer's name in the checkpoint, which the optimiser has put its own words around."""
    name = node.name
    for mark in ("/", "_nchwc", "_token_"):
        name = name.partition(mark)[0]
    return name.removesuffix(".conv")


def _stray(graph: onnx.GraphProto) -> int:
    made = {output: node for node in graph.node for output in node.output}
    products = (*_CONVOLUTIONS, *_MATMULS)
    count = 0
    for node in graph.node:
        sources = [made[name].op_type for name in node.input if name in made]
        pair = {"QuantizeLinear": "DequantizeLinear", "DequantizeLinear": "QuantizeLinear"}.get(node.op_type)
        if pair is not None:
            count += pair in sources[:1]
        elif node.op_type in products and node.op_type not in _INTEGER:
            count += "DequantizeLinear" in sources
    return count


@lru_cache(maxsize=8)
def blocks_are_integer(bits: int, block_size: int) -> bool:
    """Whether MatMulNBits at level 4 rounds its activations to 8 bits here, by a known answer.

    One block of x = [127, 0.4, 0, …] has the scale 1, so that 0.4 is 0 in codes. The weight is 0 and 1 for the first
    two: a float kernel returns 0.4, an integer kernel 0.
    """
    import onnxruntime as ort

    rows = 16
    codes = np.full((rows, 1, block_size), 1 << (bits - 1), np.uint8)
    codes[:, :, 1] += 1
    packed = codes if bits == 8 else codes[..., 0::2] | np.left_shift(codes[..., 1::2], 4, dtype=np.uint8)
    attributes = {"N": rows, "K": block_size, "bits": bits, "block_size": block_size, "accuracy_level": 4}
    node = onnx.helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "probe",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, block_size])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, rows])],
        [
            onnx.numpy_helper.from_array(packed, "w"),
            onnx.numpy_helper.from_array(np.ones((rows, 1), np.float32), "s"),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 19), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.zeros((1, block_size), np.float32)
    x[0, :2] = 127, 0.4
    (answer,) = session.run(None, {"x": x})
    return bool((np.abs(answer) < 0.2).all())
