"""Scalars from the checkpoint to the field: taught, exported, proved, asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teach import MEASURED, MEASURES

from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.gate import run_gate, scalar_questions
from gmrt.export.heads import build_heads
from gmrt.export.reference import answer_cases
from gmrt.runtime.errors import BundleError, CheckpointError
from gmrt.runtime.image import prepare
from gmrt.runtime.model import load
from gmrt.runtime.scalar import VALUE, format_value
from gmrt.runtime.scene import read_scene
from gmrt.runtime.verify import verify_bundle

PRESET = f"tiny-llama{MEASURED}"
Exports = Callable[[str, str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def source(checkpoints: Callable[[str], Path]) -> Checkpoint:
    """The tiny checkpoint that was taught to measure."""
    return open_checkpoint(checkpoints(PRESET))


@torch.inference_mode()
def truth(source: Checkpoint, picture: Path, index: int) -> float:
    """What PyTorch says that measure ``index`` of a picture is, after making sure that it was understood."""
    question = scalar_questions(source)[index]
    pixels = prepare(read_scene(picture).rgb, source.model.config.image_spec)
    (case,) = answer_cases(source, pixels, [question])
    words = source.processor.backend.decode(list(case.answer))
    assert words == f"{VALUE} {MEASURES[index]['name']}"
    return float(source.model.measured(torch.from_numpy(case.last_hidden[0]))[index])


@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-3), ("int8", 0.25)])
def test_the_field_measures_what_the_desk_does(
    source: Checkpoint, exports: Exports, pictures: Path, precision: str, within: float
) -> None:
    """Guards against a number lost, rescaled or mixed up anywhere between checkpoint and answer."""
    bundle, report = exports(PRESET, precision)
    assert report.failures == []
    assert [(row.component, row.measure) for row in report.scalars] == [
        (component, measure["name"]) for measure in MEASURES for component in ("heads", "answers")
    ]
    model = load(bundle)
    for kind in ("river", "marina"):
        picture = min(pictures.glob(f"{kind}-*"))
        view = model.look(picture)
        for index, measure in enumerate(MEASURES):
            answer = view.ask(scalar_questions(source)[index])
            assert answer.value == pytest.approx(truth(source, picture, index), abs=within * measure["std"])
            assert answer.unit == measure["unit"]
            assert answer.text == format_value(answer.value, measure["unit"])


def test_golden_numbers_are_checked(exports: Exports, tmp_path: Path) -> None:
    """Guards against a bundle whose numbers drift on a machine and which verifies all the same."""
    bundle = Path(shutil.copytree(exports(PRESET, "fp32")[0], tmp_path / "bundle"))
    data = json.loads((bundle / "bundle.json").read_text())
    golden = data["parity"]["golden"]
    assert [len(case["values"]) for case in golden] == [0, 0, len(MEASURES)]
    assert verify_bundle(bundle).ok
    golden[2]["values"][1] += 2 * golden[2]["within"][1]
    (bundle / "bundle.json").write_text(json.dumps(data))
    found = verify_bundle(bundle)
    assert found.matched == found.firm - 1
    golden[2]["values"].pop()
    (bundle / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="golden"):
        verify_bundle(bundle)


def test_a_head_that_is_off_is_caught(source: Checkpoint, exports: Exports, pictures: Path) -> None:
    """Guards against a gate that does not look at the head: an output's bias is moved by a hundredth of its spread."""
    bundle, _ = exports(PRESET, "fp32")
    shown = [prepare(read_scene(min(pictures.glob("river-*"))).rgb, source.model.config.image_spec)]
    assert run_gate(source, bundle, shown, "a river").failures == []
    head = source.model.regression
    assert head is not None
    with torch.no_grad():
        head.bias[1] += 0.01
    try:
        report = run_gate(source, bundle, shown, "a river")
    finally:
        with torch.no_grad():
            head.bias[1] -= 0.01
    assert {(row.component, row.measure) for row in report.scalars if row.failed} == {
        ("heads", "mean height"),
        ("answers", "mean height"),
    }
    assert len(report.failures) == 2


def test_the_head_is_only_written_where_there_is_one(exports: Exports) -> None:
    """Guards against an empty component, and against a head that no hash covers."""
    plain, measured = exports("tiny-llama", "fp32")[0], exports(PRESET, "fp32")[0]
    manifests = [json.loads((bundle / "bundle.json").read_text()) for bundle in (plain, measured)]
    assert ["heads" in manifest["components"] for manifest in manifests] == [False, True]
    assert ["heads.onnx" in manifest["files"] for manifest in manifests] == [False, True]
    heads = manifests[1]["components"]["heads"]
    assert heads["measures"] == [{"name": m["name"], "unit": m["unit"]} for m in MEASURES]
    assert heads["inputs"] == {"last_hidden": {"dtype": "float32", "axes": ["n", 64]}}


def test_a_head_of_another_shape_is_refused() -> None:
    """Guards against a bundle whose outputs are named after other measures than they were trained on."""
    weights = {"weight": np.zeros((3, 8), np.float32), "bias": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match=r"regression\.weight"):
        build_heads(weights, MEASURES, 8)
