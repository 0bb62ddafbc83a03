"""Bundles for TensorRT, proved on onnxruntime: the same words as the other dialect, and a graph that TensorRT reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gmrt.export.pipeline import export_bundle
from gmrt.export.plan import Bounds
from gmrt.export.w8a8 import ALPHAS
from gmrt.runtime.backends import create_backend
from gmrt.runtime.backends.standard import StandardBackend
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.engines import plan_engines
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.model import load
from gmrt.runtime.scene import read_scene

PRESETS = ("tiny-llama", "tiny-qwen2", "tiny-llama-measured")
QUESTIONS = ("describe", "is this a river?", "how many boats are there?")
Exports = Callable[..., tuple[Path, Any]]


@pytest.mark.parametrize("preset", PRESETS)
def test_fp32_says_what_the_other_dialect_says(preset: str, exports: Exports, pictures: Path) -> None:
    """Guards against a dialect of its own meaning: whole answers, prefix reuse and hidden state included."""
    both = [load(exports(preset, "fp32", target)[0]) for target in ("cpu", "tensorrt")]
    for picture in sorted(pictures.iterdir())[:5]:
        views = [model.look(read_scene(picture)) for model in both]
        for question in QUESTIONS:
            one, other = (view.ask(question, max_tokens=16) for view in views)
            assert (one.text, one.tokens) == (other.text, other.tokens)
            assert one.confidence == pytest.approx(other.confidence, rel=1e-3)
            assert (one.value is None) == (other.value is None)
            assert one.value is None or one.value == pytest.approx(other.value, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("preset", PRESETS)
def test_gate_is_passed(preset: str, precision: str, exports: Exports) -> None:
    """Guards against a target that answers otherwise than its checkpoint, and a manifest that hides what it is."""
    bundle, report = exports(preset, precision, "tensorrt")
    assert report.failures == []
    assert report.top1 >= {"fp32": 1.0, "fp16": 0.99, "int8": 0.95}[precision]
    manifest = open_bundle(bundle).manifest
    assert (manifest.target, manifest.buckets, manifest.cache.max_length) == ("tensorrt", (256, 512), 512)
    assert {profile.component for profile in manifest.profiles} >= {"vision", "decoder"}
    assert ("heads" in {profile.component for profile in manifest.profiles}) == (manifest.heads is not None)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_graphs_keep_to_plain_onnx(precision: str, exports: Exports) -> None:
    """Guards against a contrib operator, a newer opset, or a type that nothing declares."""
    bundle = exports("tiny-llama", precision, "tensorrt")[0]
    for name in ("vision", "decoder"):
        model = onnx.load(bundle / f"{name}.onnx")
        assert model.ir_version <= 9
        assert {entry.domain: entry.version for entry in model.opset_import}[""] <= 19
        assert {node.domain for node in model.graph.node} <= {""}
        onnx.checker.check_model(model, full_check=True)
    decoder = ir.load(bundle / "decoder.onnx")
    halves = {"fp32": 0, "fp16": 4 * 2 + 1, "int8": 1}[precision]
    assert (
        sum(v.dtype == ir.DataType.FLOAT16 and "weight" in name for name, v in decoder.graph.initializers.items())
        == halves
    )


def test_int8_is_counted_as_it_is_written(exports: Exports) -> None:
    """Guards against a share that onnxruntime's patterns decide, and a layer that stays float without a word."""
    graphs = exports("tiny-llama", "int8", "tensorrt")[1].kernels
    assert [graph.graph for graph in graphs] == ["vision", "decoder", "decoder"]
    assert all(graph.shape.endswith("as written") and graph.stray == 0 for graph in graphs)
    left = [{p.name for p in graph.float_products if p.weighted} for graph in graphs]
    assert left == [set(), {"lm_head"}, {"lm_head"}]
    assert exports("tiny-llama", "fp16", "tensorrt")[1].kernels[1].weighted_share == 0


def test_int8_does_not_saturate_here(exports: Exports) -> None:
    """Guards against sums of 16 bits in the double: weights have all 8 bits, and TensorRT sums in 32."""
    bundle = open_bundle(exports("tiny-llama", "int8", "tensorrt")[0])
    backend = create_backend(bundle, "cpu")
    assert isinstance(backend, StandardBackend)
    assert all(backend._saturable(graph) for graph in (bundle.manifest.vision, bundle.manifest.decoder))


def test_engines_are_planned_from_the_profiles(exports: Exports) -> None:
    """Guards against an engine with an input that has no shape, or a name or an axis that the graph does not have."""
    bundle = exports("tiny-llama-measured", "fp32", "tensorrt")[0]
    manifest = open_bundle(bundle).manifest
    jobs = plan_engines(bundle, manifest, workspace=1 << 20)
    assert [job.name for job in jobs] == ["vision", "heads", "decoder-256", "decoder-512"]
    for job in jobs:
        inputs = {v.name: v for v in onnx.load(bundle / job.onnx, load_external_data=False).graph.input}
        for profile in job.profiles:
            assert set(profile) == set(inputs)
            for name, trio in profile.items():
                axes = [axis.dim_value or None for axis in inputs[name].type.tensor_type.shape.dim]
                assert all(len(shape) == len(axes) for shape in trio)
                assert all(axis in (None, size) for shape in trio for axis, size in zip(axes, shape, strict=True))


def test_no_plan_for_tensorrt(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Guards against a scan of another dialect's kernels, whose plan nothing would follow."""
    with pytest.raises(GmrtError, match="cpu and cuda only"):
        export_bundle(tiny_checkpoint, tmp_path / "b", precision="int8", target="tensorrt", bounds=Bounds(max_bytes=1))
    assert not any(tmp_path.iterdir())


def test_int8_says_how_it_was_smoothed(exports: Exports) -> None:
    """Guards against a strength that nobody can look up, or a search that was not made."""
    record = open_bundle(exports("tiny-llama", "int8", "tensorrt")[0]).manifest.calibration
    assert record is not None
    tried = {entry["alpha"]: entry["divergence"] for entry in record["smoothing"]["tried"]}
    assert set(tried) == {None, *ALPHAS}
    assert tried[record["smoothing"]["alpha"]] == min(tried.values())


def test_precision_that_the_target_lacks(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Guards against a long export that ends in a graph which TensorRT cannot read."""
    with pytest.raises(GmrtError, match="no int4 for tensorrt"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", precision="int4", target="tensorrt")
    assert not any(tmp_path.iterdir())


def test_the_cache_is_what_the_other_dialect_holds(exports: Exports) -> None:
    """Guards against keys before their rotation, or layers in another order: a snapshot means the same in both."""
    rows = []
    for target in ("cpu", "tensorrt"):
        bundle = open_bundle(exports("tiny-qwen2", "fp32", target)[0])
        decoder = (backend := create_backend(bundle, "cpu")).bind(backend.new_cache(64))
        decoder.prefill(bundle.table.lookup(np.arange(5, 25))[None], np.array([[19]]))
        rows.append(decoder.cache.snapshot().rows)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-3, atol=1e-4)
