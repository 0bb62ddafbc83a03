"""The runtime over bundles that were really exported, at every precision; all but one need torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmrt.runtime.model import load
from gmrt.runtime.points import format_regions
from gmrt.runtime.scene import Scene

QUESTIONS = ("describe", "is there water?", "describe")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_reused_prefix_answers_as_a_cold_one(
    exports: Callable[[str, str], tuple[Path, Any]], scenes: list[Scene], precision: str
) -> None:
    """Guards against a warm answer that drifts: block-quantised products are not bit-equal between one row and many."""
    bundle, _ = exports("tiny-llama", precision)
    model = load(bundle)
    views = [model.look(scene) for scene in scenes[:2]]
    for turn, question in enumerate(QUESTIONS):
        for view in views:
            warm = view.ask(question, max_tokens=12)
            cold = load(bundle).look(view.scenes[0]).ask(question, max_tokens=12)
            assert (warm.text, warm.confidence) == (cold.text, cold.confidence)
            assert bool(warm.tokens["reused"]) == bool(turn)
    assert bool(model.notes) == (precision == "fp16")


def test_pair_over_an_exported_bundle(tiny_bundle: Path, scenes: list[Scene]) -> None:
    """Guards against a pair that works by hand only: order, reuse and a location held, over a preset of two images."""
    model = load(tiny_bundle)
    pair, mirror = model.compare(scenes[0], scenes[1]), model.compare(scenes[1], scenes[0])
    first, other = (view.ask("what changed?", max_tokens=8) for view in (pair, mirror))
    assert first.confidence != other.confidence
    again = pair.ask("what changed?", max_tokens=8)
    assert (again.text, again.confidence) == (first.text, first.confidence)
    assert again.tokens["reused"] >= 2 * model.bundle.manifest.image.tokens
    located = pair.ask("what changed?", points="box", max_regions=3)
    assert located.text == format_regions(located.points)
    assert 0 <= int(pair.ask("how many?", number=True).text) < 1000


def test_import_is_lean() -> None:
    """Guards against a slow start: the engine and the raster library are loaded when a bundle or a file needs them."""
    code = "import sys, gmrt.runtime.model; print({'onnxruntime', 'rasterio'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "set()"
