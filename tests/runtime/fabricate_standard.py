"""The fabricated decoder in the ``standard`` dialect, written by hand with the same weights as the other one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from fabricate import Floats, Shape, model_of
from onnx import TensorProto, helper, numpy_helper


def make_standard_decoder(shape: Shape, weights: dict[str, Floats]) -> onnx.ModelProto:
    """The same decoder in the ``standard`` dialect (plain operators, positions and mask as inputs, new rows out)."""
    nodes: list[onnx.NodeProto] = []
    group = shape.heads // shape.kv_heads
    cache = TensorProto.FLOAT16 if shape.cache_dtype == "float16" else TensorProto.FLOAT

    def add(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, list(outputs), **attributes))
        return outputs[0]

    def norm(x: str, scale: str, name: str) -> str:
        mean = add("ReduceMean", [add("Mul", [x, x], f"{name}.sq"), "last"], f"{name}.mean", keepdims=1)
        size = add("Sqrt", [add("Add", [mean, "eps"], f"{name}.eps")], f"{name}.size")
        return add("Mul", [add("Div", [x, size], f"{name}.unit"), scale], name)

    def rotate(x: str) -> str:
        add("Split", [x, "pairs"], f"{x}.l", f"{x}.r", axis=-1)
        parts = {a + b: add("Mul", [f"{x}.{a}", b], f"{x}.{a}.{b}") for a in "lr" for b in ("c", "s")}
        left = add("Sub", [parts["lc"], parts["rs"]], f"{x}.tl")
        return add("Concat", [left, add("Add", [parts["rc"], parts["ls"]], f"{x}.tr")], f"{x}.turned", axis=-1)

    for angle, table in (("c", "cos"), ("s", "sin")):
        add("Unsqueeze", [add("Gather", [table, "positions"], f"{angle}.rows"), "head_axis"], angle)
    masks = [add("Concat", ["new_mask"] * group, "new_mask.grouped", axis=2), "past_mask"]
    hidden, rows = "inputs_embeds", []
    for i in range(shape.layers):
        normed = norm(hidden, f"{i}.norm1", f"{i}.n1")
        parts = {}
        for n in "qkv":
            product = add("MatMul", [normed, f"{i}.{n}"], f"{i}.{n}_rows")
            apart = add("Reshape", [product, "q_apart" if n == "q" else "kv_apart"], f"{i}.{n}_apart")
            parts[n] = add("Transpose", [apart], f"{i}.{n}_heads", perm=[0, 2, 1, 3])
        query = add("Mul", [add("Reshape", [rotate(parts["q"]), "grouped"], f"{i}.grouped"), "scale"], f"{i}.scaled")
        new = {"key": rotate(parts["k"]), "value": parts["v"]}
        old = {kind: f"past_{kind}.{i}" for kind in new}
        if cache == TensorProto.FLOAT16:
            new = {k: add("Cast", [v], f"{i}.{k}.half", to=cache) for k, v in new.items()}
            wide = [{k: add("Cast", [v], f"{v}.wide", to=1) for k, v in both.items()} for both in (new, old)]
        else:
            wide = [new, old]
        turned = [add("Transpose", [part["key"]], f"{i}.T{n}", perm=[0, 1, 3, 2]) for n, part in enumerate(wide)]
        scores = [add("MatMul", [query, keys], f"{keys}.scores") for keys in turned]
        masked = [add("Add", pair, f"{pair[0]}.masked") for pair in zip(scores, masks, strict=True)]
        # No maximum is taken off: the scores of so small a model stay far from the end of float32.
        powers = [add("Exp", [score], f"{score}.exp") for score in masked]
        total = add("Add", [add("ReduceSum", [p, "last"], f"{p}.sum", keepdims=1) for p in powers], f"{i}.total")
        cut = [add("Div", [power, total], f"{power}.weight") for power in powers]
        mixed = [add("MatMul", [w, p["value"]], f"{w}.mixed") for w, p in zip(cut, wide, strict=True)]
        joined = add("Reshape", [add("Add", mixed, f"{i}.mixed"), "heads"], f"{i}.apart")
        by_token = add("Transpose", [joined], f"{i}.by_token", perm=[0, 2, 1, 3])
        attended = add("Reshape", [by_token, "flat"], f"{i}.attended")
        pair = [add("Unsqueeze", [new[kind], "row_axes"], f"{i}.{kind}.row") for kind in new]
        rows.append(add("Concat", pair, f"{i}.rows", axis=1))
        hidden = add("Add", [hidden, add("MatMul", [attended, f"{i}.o"], f"{i}.o_rows")], f"{i}.h1")
        normed = norm(hidden, f"{i}.norm2", f"{i}.n2")
        wide_rows = add("Tanh", [add("MatMul", [normed, f"{i}.up"], f"{i}.up_rows")], f"{i}.act")
        hidden = add("Add", [hidden, add("MatMul", [wide_rows, f"{i}.down"], f"{i}.down_rows")], f"{i}.h2")
    add("Unsqueeze", ["logits_at", "last"], "logits_index")
    add("GatherND", [norm(hidden, "norm", "normed"), "logits_index"], "last_hidden", batch_dims=1)
    add("MatMul", ["last_hidden", "head"], "logits")
    add("Concat", rows, "new_rows", axis=0)
    inputs, outputs = _interface(shape, weights["head"].shape[1], cache)
    return model_of(helper.make_graph(nodes, "decoder", inputs, outputs, _constants(shape, weights)), opset=18)


def _interface(shape: Shape, vocab: int, cache: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    value, floats = helper.make_tensor_value_info, TensorProto.FLOAT
    axes: list[int | str] = ["batch", shape.kv_heads, "capacity", shape.head_dim]
    inputs = [
        value("inputs_embeds", floats, ["batch", "seq", shape.hidden]),
        value("positions", TensorProto.INT64, ["batch", "seq"]),
        value("past_mask", floats, ["batch", 1, 1, "capacity"]),
        value("new_mask", floats, [1, 1, "seq", "seq"]),
        value("logits_at", TensorProto.INT64, ["batch", "n"]),
        *(value(f"past_{kind}.{i}", cache, axes) for i in range(shape.layers) for kind in ("key", "value")),
    ]
    outputs = [
        value("logits", floats, ["batch", "n", vocab]),
        value("last_hidden", floats, ["batch", "n", shape.hidden]),
        value("new_rows", cache, [shape.layers, 2, "batch", shape.kv_heads, "seq", shape.head_dim]),
    ]
    return inputs, outputs


def _constants(shape: Shape, weights: dict[str, Floats]) -> list[onnx.TensorProto]:
    heads, kv_heads, dim = shape.heads, shape.kv_heads, shape.head_dim
    whole: dict[str, list[int]] = {"last": [-1], "head_axis": [1], "row_axes": [0, 1]}
    whole |= {"pairs": [dim // 2, dim // 2], "grouped": [0, kv_heads, -1, dim], "flat": [0, 0, heads * dim]}
    whole |= {"heads": [0, heads, -1, dim], "q_apart": [0, 0, heads, dim], "kv_apart": [0, 0, kv_heads, dim]}
    arrays: dict[str, Any] = {name: np.array(numbers, np.int64) for name, numbers in whole.items()} | weights
    arrays |= {"eps": np.array(1e-6, np.float32), "scale": np.array(dim**-0.5, np.float32)}
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]
