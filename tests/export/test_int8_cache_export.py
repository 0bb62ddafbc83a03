"""Bundles whose keys and values are kept in 8 bits, and 4-bit decoders that were calibrated: exported, proved, used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import gmrt
from gmrt.calibration.blocks import quantise_blocks
from gmrt.export.checkpoint import open_checkpoint
from gmrt.export.pipeline import export_bundle
from gmrt.runtime.backends import int8_cache
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import GmrtError, ProviderError
from gmrt.runtime.scene import read_scene

needs_8_bits = pytest.mark.skipif(not int8_cache.int8_cache_works(), reason="this onnxruntime has no such cache")


@needs_8_bits
def test_a_cache_of_8_bits_agrees_and_takes_a_quarter(
    tiny_checkpoint: Path, pictures: Path, exports: Callable[[str, str], tuple[Path, Any]], tmp_path: Path
) -> None:
    """Guards against scales of other layers, codes read as floats by the gate, and an image prefix kept in floats."""
    report = export_bundle(tiny_checkpoint, tmp_path / "b", precision="int8", calibration=pictures, cache="int8")
    assert report.failures == []
    floats = open_bundle(exports("tiny-llama", "int8")[0]).manifest.cache
    eight = open_bundle(tmp_path / "b").manifest.cache
    assert (floats.dtype, eight.dtype) == ("float32", "int8")
    assert floats.bytes_per_token >= 3.5 * eight.bytes_per_token
    model, other = gmrt.load(tmp_path / "b"), gmrt.load(exports("tiny-llama", "int8")[0])
    scene = read_scene(next(pictures.glob("river-*")))
    view = model.look(scene)
    for question in ("describe", "is this a river?"):  # the second one on the prefix that the first has left
        assert view.ask(question).text == other.look(scene).ask(question).text


def test_what_cannot_have_it_is_refused_before_the_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against minutes of work for a bundle that this onnxruntime, or this target, cannot prove."""
    with pytest.raises(GmrtError, match=r"proved on the CPU only.*cuda"):
        export_bundle(tiny_checkpoint, tmp_path / "b", precision="int8", target="cuda", cache="int8")
    monkeypatch.setattr(int8_cache, "int8_cache_works", lambda: False)
    with pytest.raises(ProviderError, match="keeps its cache in 8 bits"):
        export_bundle(tiny_checkpoint, tmp_path / "b", precision="int8", cache="int8")
    assert list(tmp_path.iterdir()) == []


@needs_8_bits
def test_an_old_onnxruntime_does_not_open_it(
    tiny_checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a bundle that loads where its attention is wrong."""
    export_bundle(tiny_checkpoint, tmp_path / "b", precision="int8", calibration=pictures, cache="int8")
    monkeypatch.setattr(int8_cache, "int8_cache_works", lambda: False)
    with pytest.raises(ProviderError, match="this bundle keeps its cache in 8 bits"):
        gmrt.load(tmp_path / "b")


def test_int4_is_calibrated(exports: Callable[[str, str], tuple[Path, Any]], tiny_checkpoint: Path) -> None:
    """Guards against blocks of GPTQ that never reach the graph: its codes are not those of rounding to nearest."""
    graph = ir.load(exports("tiny-llama", "int4")[0] / "decoder.onnx").graph
    weight = open_checkpoint(tiny_checkpoint).weights("decoder.")["model.layers.1.mlp.down_proj.weight"]
    stored = graph.initializers["layers.1.mlp.down_proj.weight"].const_value
    assert stored is not None
    nearest = quantise_blocks(weight, 4).packed()
    assert stored.numpy().shape == nearest.shape
    assert 0.02 < (stored.numpy() != nearest).mean() < 0.95
