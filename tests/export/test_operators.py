"""The check against TensorRT's published operators: what is exported passes, and each violation is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gmrt.export.checkpoint import open_checkpoint
from gmrt.export.operators import check_graph, require_readable
from gmrt.export.precision import STANDARD
from gmrt.export.standard import build_standard_decoder
from gmrt.export.tower import build_tower
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import GateError
from gmrt.runtime.profiles import Profile, decoder_profiles, fixed_profile

Exports = Callable[..., tuple[Path, Any]]


@pytest.mark.parametrize("precision", STANDARD)
def test_exported_graphs_are_readable(precision: str, exports: Exports) -> None:
    """Guards against an operator, a type or a shape that the device meets first; every profile at its three sizes."""
    bundle = open_bundle(exports("tiny-llama", precision, "tensorrt")[0])
    profiles = bundle.manifest.profiles
    assert {profile.name for profile in profiles} >= {"vision", "prefill-256", "decode-256", "prefill-512"}
    for component, spec in (("vision", bundle.manifest.vision), ("decoder", bundle.manifest.decoder)):
        own = [profile for profile in profiles if profile.component == component]
        assert check_graph(onnx.load(bundle.path(spec.file)), own) == []


@pytest.mark.parametrize("precision", STANDARD)
def test_preflight_finds_nothing_that_blocks(precision: str, exports: Exports) -> None:
    """Guards against a table of our own that is wrong: trtcheck's own for TensorRT 10.3 is asked too."""
    analyzer = pytest.importorskip("trtcheck.analyzer", reason="trtcheck is not installed: pip install trtcheck")
    bundle = exports("tiny-llama", precision, "tensorrt")[0]
    for name in ("vision", "decoder"):
        report = analyzer.Analyzer(analyzer.AnalyzerConfig(target_trt="10.3")).analyze_path(bundle / f"{name}.onnx")
        assert [issue.message for issue in report.issues if issue.severity.value == "critical"] == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_shipped_model_is_readable(precision: str, nano: Path) -> None:
    """Guards against a tower of convolutions with a resize or a clip that TensorRT lacks."""
    source, recipe = open_checkpoint(nano), STANDARD[precision]  # type: ignore[index]
    spec = source.decoder
    decoder = build_standard_decoder(
        spec,
        source.weights("decoder."),
        source.rope(spec.max_length),
        linear=recipe.linear,
        head=recipe.head,
        product=recipe.activations,
    )
    sizes = {"layers": spec.layers, "kv_heads": spec.kv_heads, "head_dim": spec.head_dim, "hidden": spec.hidden}
    assert check_graph(ir.to_proto(decoder), decoder_profiles((256, 1024), **sizes)) == []
    tower = build_tower(source.model.config, source.weights(), recipe.activations, between=recipe.between)
    assert check_graph(ir.to_proto(tower), [fixed_profile("vision", "vision", {"pixels": (1, 3, 256, 256)})]) == []


def model_of(nodes: list[onnx.NodeProto], *arrays: tuple[str, Any], opset: int = 19, ir_version: int = 9) -> Any:
    """A graph x float32 [n, 4] → y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def node(op: str, *inputs: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    """One node that makes y, called by its operator."""
    return helper.make_node(op, list(inputs), ["y"], name=f"layer/{op}", domain=domain, **attributes)


WHOLE = helper.make_node("Cast", ["x"], ["w"], to=TensorProto.INT32)
SCALE = ("scale", np.float32(0.1))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (model_of([node("Gelu", "x", domain="com.microsoft")]), "layer/Gelu: Gelu is of com.microsoft"),
        (model_of([node("NonZero", "x")]), "layer/NonZero: NonZero is not among"),
        (model_of([node("Sqrt", "x")], opset=21), "opset 21 is newer"),
        (model_of([node("Sqrt", "x")], ir_version=10), "IR version 10 is newer"),
        (model_of([node("QuantizeLinear", "x", "scale", "zero")], SCALE, ("zero", np.uint8(128))), "INT8 zero"),
        (model_of([node("QuantizeLinear", "x", "scale", "zero")], SCALE, ("zero", np.int8(3))), "INT8 zero"),
        (model_of([node("QuantizeLinear", "x", "scale")], SCALE), "INT8 zero"),
        (
            model_of(
                [helper.make_node("Cast", ["x"], ["w"], to=TensorProto.INT32), node("ReduceMean", "w", "axes")],
                ("axes", [1]),
            ),
            "ReduceMean of INT32",
        ),
        (
            model_of([node("Resize", "x", "", "scales", mode="cubic")], ("scales", np.float32([1, 2]))),
            "mode cubic is not supported",
        ),
    ],
)
def test_what_tensorrt_refuses_is_named(model: onnx.ModelProto, words: str) -> None:
    """Guards against a check that lets everything through: the node is named, and why."""
    problems = check_graph(model)
    assert any(words in problem for problem in problems), problems
    with pytest.raises(GateError, match="TensorRT would refuse"):
        require_readable({"decoder": model}, [])


def test_shapes_that_depend_on_values_are_found() -> None:
    """Guards against a free shape inside an engine, which a captured graph cannot have; a profile that fits passes."""
    size = helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.INT64)
    row = helper.make_node("Gather", ["numbers", "first"], ["ends"], axis=0)
    sliced = model_of([size, row, node("Slice", "x", "starts", "ends")], ("first", 0), ("starts", [0, 0, 0, 0]))
    profile = fixed_profile("one", "decoder", {"x": (2, 4)})
    assert any("the shape of y is not known" in problem for problem in check_graph(sliced, [profile]))
    assert check_graph(model_of([node("Sqrt", "x")]), [profile]) == []
    wrong = Profile("wrong", "decoder", {"x": ((1, 5), (1, 5), (1, 5))})
    product = model_of([node("MatMul", "x", "weight")], ("weight", np.zeros((4, 3), np.float32)))
    assert any("profile wrong: least" in problem for problem in check_graph(product, [wrong]))
    assert check_graph(product, [profile]) == []
