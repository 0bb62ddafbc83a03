"""What the optimised graphs compute with: counted by hand, and on the shapes that the targets are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gmrt.calibration.measure import measure
from gmrt.calibration.record import TensorRange
from gmrt.export.graph import GraphBuilder
from gmrt.export.kernels import (
    Run,
    blocks_are_integer,
    failed_kernels,
    inspect_bundle,
    inspect_graph,
)
from gmrt.export.linear import block_linear, float_linear, whole_layer
from gmrt.export.precision import Limit
from gmrt.export.quantize import observed_tensors, quantise_tower
from gmrt.export.static import StaticLayers
from gmrt.export.tower import build_tower
from gmrt.georsmllm.presets import build
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import GmrtError

SHIPPED = Path(__file__).parents[2] / "models" / "georsmllm-nano-int8"
ONE = Run("one image", {"batch": 1}, {}, 0)


def write(tmp_path: Path, linear: Any, rows: int = 5) -> Path:
    """A graph of one linear layer, 64 → 48, on ``rows`` rows."""
    graph = GraphBuilder()
    x = graph.input("x", "float32", ("batch", rows, 64))
    weight = np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32)
    y = graph.output(linear(graph, "fc", x, weight, np.ones(48, np.float32)), "y", "float32", ("batch", rows, 48))
    ir.save(graph.model("one", [x], [y]), tmp_path / "one.onnx")
    return tmp_path / "one.onnx"


@pytest.mark.parametrize(
    ("linear", "share"), [(float_linear("float32"), 0.0), (block_linear(8), 1.0), (block_linear(4), 1.0)]
)
def test_products_are_counted_and_judged_by_their_kernel(tmp_path: Path, linear: Any, share: float) -> None:
    """Guards against a share that counts nodes, or believes a name: 5 · 64 · 48 multiply-accumulates, and no more."""
    (found,) = inspect_graph(write(tmp_path, linear), [ONE])
    assert found.macs == 5 * 64 * 48
    assert found.integer_share == found.weighted_share == share
    assert [product.name for product in found.products] == ["fc"]
    assert bool(failed_kernels([found], Limit(0.9, "so"))) == (share == 0)


def test_a_layer_in_parts_is_float_by_its_own_name(tmp_path: Path) -> None:
    """Guards against a head that is float by decision and, once it is split, counts as left behind."""
    (found,) = inspect_graph(write(tmp_path, float_linear("float32", most=20)), [ONE])
    assert found.macs == 5 * 64 * 48
    assert [whole_layer(product.name) for product in found.products] == ["fc"] * 3
    assert failed_kernels([found], Limit(0.9, "so"), ["fc"]) == []
    assert failed_kernels([found], Limit(0.9, "so"), ["head"]) != []


def test_a_graph_for_tensorrt_is_counted_as_it_is_written(tmp_path: Path) -> None:
    """Guards against weights unseen behind their DequantizeLinear, and one dequantised side counted as two."""
    static = StaticLayers({"x": TensorRange(-4.0, 4.0)})
    (found,) = inspect_graph(write(tmp_path, static.linear), [ONE], written=True)
    assert (found.macs, found.weighted_share, found.stray) == (5 * 64 * 48, 1.0, 0)
    assert found.shape == "one image, as written"

    def one_side(graph: GraphBuilder, name: str, x: ir.Value, *rest: Any) -> ir.Value:
        """Codes for the weight only."""
        layers = StaticLayers({"x": TensorRange(-4.0, 4.0)})
        layers._quantised["x"] = x
        return layers.linear(graph, name, x, *rest)

    (found,) = inspect_graph(write(tmp_path, one_side), [ONE], written=True)
    assert (found.weighted_share, found.stray) == (0.0, 1)
    (found,) = inspect_graph(write(tmp_path, float_linear("float16", "float32")), [ONE], written=True)
    assert [(p.name, p.weighted, p.integer) for p in found.products] == [("fc", True, False)]


def test_blocks_without_the_integer_level_are_float(tmp_path: Path) -> None:
    """Guards against MatMulNBits counted as integer where it unpacks its weights and multiplies floats."""
    path = write(tmp_path, block_linear(8))
    model = onnx.load(str(path))
    for attribute in model.graph.node[0].attribute:
        attribute.i = 0 if attribute.name == "accuracy_level" else attribute.i
    onnx.save(model, str(path))
    (found,) = inspect_graph(path, [ONE])
    assert found.integer_share == 0
    assert blocks_are_integer(8, 64)
    assert blocks_are_integer(4, 64)


def test_stray_pairs_are_counted(tmp_path: Path) -> None:
    """Guards against a Q/DQ graph that nothing fused, which answers well and computes in floats."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    weight = np.ones((8, 8), np.float32)
    constants = {"s": np.float32(0.1), "z": np.uint8(128), "w": weight}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        node("MatMul", ["d", "w"], ["y"], "fc"),
    ]
    kinds = [info(name, onnx.TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    graph = onnx.helper.make_graph(
        nodes, "g", kinds[:1], kinds[1:], [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9),
        tmp_path / "g.onnx",
    )
    (found,) = inspect_graph(tmp_path / "g.onnx", [ONE])
    assert found.stray == 2  # a pair with nothing between, and in front of a product
    assert found.integer_share == 0
    assert found.floats["MatMul"] == ("fc",)


def test_products_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    """Guards against a share that leaves out what it does not know."""
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 8])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", "n"])
    node = onnx.helper.make_node("Einsum", ["x", "x"], ["y"], "product", equation="ij,kj->ik")
    graph = onnx.helper.make_graph([node], "g", [info], [out])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9),
        tmp_path / "g.onnx",
    )
    with pytest.raises(GmrtError, match="Einsum"):
        inspect_graph(tmp_path / "g.onnx", [ONE])


def test_integer_and_float_bundles_have_the_same_products(exports: Callable[[str, str], tuple[Path, Any]]) -> None:
    """Guards against a fused operator whose products are counted as none, which would make any share look good."""
    counted = {p: inspect_bundle(open_bundle(exports("tiny-llama", p)[0])) for p in ("fp32", "int8", "int4")}
    for precision in ("int8", "int4"):
        assert [found.macs for found in counted[precision]] == [found.macs for found in counted["fp32"]]
        assert all(found.weighted_share == 1 for found in counted[precision])
        assert all(found.stray == 0 for found in counted[precision])
    assert all(found.integer_share == 0 for found in counted["fp32"])
    prefill, step = counted["fp32"][1:]
    assert (prefill.shape, step.shape) == ("prefill of 256 tokens", "step at length 256")
    attention = [product.macs for product in prefill.products if not product.weighted]
    assert attention == [2 * 256 * 256 * 64] * 2  # scores and mixture, heads · head_dim = 64, two layers


def test_shipped_tower_is_integer() -> None:
    """Guards against a convolutional tower that onnxruntime stopped fusing: 95 % of its products are integer."""
    if not (SHIPPED / "bundle.json").is_file():
        pytest.skip("the shipped bundle models/georsmllm-nano-int8 is not here")
    tower, *decoder = inspect_bundle(open_bundle(SHIPPED))
    assert tower.integer_share >= 0.95
    assert tower.stray == 0
    assert {product.name for product in tower.float_products} == {"tower.stem", "tower.blocks.0.depthwise"}
    assert all(found.weighted_share == 1 for found in decoder)


def test_transformer_tower_at_1024_tokens_is_integer(tmp_path: Path) -> None:
    """Guards against a transformer's linear layers in floats: with attention in floats four fifths are integer.

    One layer of SigLIP-B/16 at 512 pixels: its share is that of twelve.
    """
    model = build("tiny-llama")[0]
    config = model.config
    vision = {
        **config.vision_config.to_dict(),
        "image_size": 512,
        "patch_size": 16,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 1,
        "num_attention_heads": 12,
    }
    config = type(config)(**{**config.to_dict(), "vision_config": vision, "shuffle": 4})
    wide = type(model)(config).eval()
    weights = {name: value.float().numpy() for name, value in wide.state_dict().items()}
    graph = build_tower(config, weights, fused=True)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 512, 512)).astype(np.float32)
    record = measure(graph, observed_tensors(graph), pixels, source="", seed=0, checkpoint="")
    onnx.save(quantise_tower(graph, record, (-1.0, 1.0)), str(tmp_path / "vision.onnx"))
    (found,) = inspect_graph(tmp_path / "vision.onnx", [replace(ONE)])
    assert found.integer_share >= 0.8
    assert found.weighted_share >= 0.99
    assert found.stray == 0
    # Queries and keys, weights and values: 1024 · 1024 · 768 each.
    largest = found.float_products[0]
    # As codes of the record's ranges: a weight alone would be made into blocks, which are integer too and slower.
    assert found.nodes["MatMulIntegerToFloat"] == 6
    assert (largest.op, largest.macs) == ("MultiHeadAttention", 2 * 1024 * 1024 * 768)
