"""The scan of single layers, and an export that is planned by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.kernels import inspect_bundle, planned_floats
from gmrt.export.pipeline import calibrate, export_bundle
from gmrt.export.plan import Bounds
from gmrt.export.quantize import integer_layers
from gmrt.export.sensitivity import FLOAT, INT4, INT8, LayerScan, divergence, linear_names, scan
from gmrt.export.tower import build_tower
from gmrt.georsmllm import prompts
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.image import prepare
from gmrt.runtime.scene import read_scene


@pytest.fixture(scope="module")
def source(checkpoints: Callable[[str], Path]) -> Checkpoint:
    """The taught tiny-llama checkpoint."""
    return open_checkpoint(checkpoints("tiny-llama"))


@pytest.fixture(scope="module")
def table(source: Checkpoint, pictures: Path) -> tuple[LayerScan, ...]:
    """A scan of every layer on one picture and two questions, down to 4 bits."""
    tower = build_tower(source.model.config, source.weights())
    shown = prepare(read_scene(min(pictures.glob("river-*"))).rgb, source.model.config.image_spec)
    record = calibrate(source.path, pictures)
    questions = prompts.CAPTION[0], prompts.CLASS[0]
    seen: list[tuple[int, int]] = []
    found = scan(
        source, tower, record, (-1.0, 1.0), [shown], questions, "int4", lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] == len(seen)
    return found


def test_every_layer_is_scanned_in_every_form(source: Checkpoint, table: tuple[LayerScan, ...]) -> None:
    """Guards against a layer that no plan can keep float, and a head in 4 bits, which no recipe has."""
    tower = list(integer_layers(build_tower(source.model.config, source.weights())))
    assert [row.layer for row in table if row.component == "vision"] == tower
    assert [row.layer for row in table if row.component == "decoder"] == list(linear_names(source))
    forms = {row.layer: [choice.precision for choice in row.choices] for row in table}
    assert forms["lm_head"] == [FLOAT, INT8]
    assert forms["layers.0.self_attn.o_proj"] == [FLOAT, INT8, INT4]
    assert forms["connector.fc1"] == [FLOAT, INT8]


def test_narrower_is_smaller_and_worse(table: tuple[LayerScan, ...]) -> None:
    """Guards against a scan that quantises nothing, or all at once: no single layer turns the logits over."""
    for row in table:
        sizes = [choice.bytes for choice in row.choices]
        assert sizes == sorted(sizes, reverse=True)
        assert row.choices[0].cosine == 1
        assert all(0.9 < choice.cosine <= 1 and choice.kl >= 0 for choice in row.choices[1:])
        if len(row.choices) == 3:
            assert row.choices[2].kl > row.choices[1].kl > 0
    assert any(row.choices[1].kl > 0 for row in table if row.component == "vision")


def test_divergence_is_that_of_the_textbook() -> None:
    """Guards against the wrong direction, and against logits in the place of probabilities."""
    ours, theirs = np.log([[0.5, 0.5]]).astype(np.float32), np.log([[0.9, 0.1]]).astype(np.float32)
    assert divergence(ours + 3, theirs - 2) == pytest.approx(
        0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), rel=1e-5
    )
    assert divergence(ours, ours) == 0


def test_a_planned_export_keeps_layers_float_by_name(
    checkpoints: Callable[[str], Path], pictures: Path, tmp_path: Path
) -> None:
    """Guards against a plan that is written down and not carried out; planned floats do not fail the gate."""
    output = tmp_path / "bundle"
    report = export_bundle(
        checkpoints("tiny-llama"), output, precision="int8", calibration=pictures, bounds=Bounds(min_cosine=1 - 1e-7)
    )
    assert report.failures == []
    bundle = open_bundle(output)
    floats = planned_floats(bundle.manifest)
    assert floats
    left = {p.name for kernels in inspect_bundle(bundle) for p in kernels.float_products if p.weighted}
    assert left == set(floats)
    written = json.loads((output / "report" / "report.json").read_text())
    assert written["plan"]["float"] == list(floats)
    assert {row["layer"] for row in written["scan"]} >= set(floats)


def test_a_bundle_planned_to_a_size_has_it(checkpoints: Callable[[str], Path], pictures: Path, tmp_path: Path) -> None:
    """Guards against a size that is predicted and not met: within one part in a hundred of the files' bytes."""
    export_bundle(checkpoints("tiny-llama"), tmp_path / "all", precision="int4", calibration=pictures)
    smallest = sum(entry.bytes for entry in open_bundle(tmp_path / "all").manifest.files.values())
    bound = int(smallest * 1.1)
    export_bundle(
        checkpoints("tiny-llama"),
        tmp_path / "b",
        precision="int4",
        calibration=pictures,
        bounds=Bounds(max_bytes=bound),
    )
    manifest = open_bundle(tmp_path / "b").manifest
    assert smallest < sum(entry.bytes for entry in manifest.files.values()) <= bound * 1.01
    assert manifest.parity["plan"]["bytes"] <= bound


def test_a_float_precision_has_nothing_to_plan(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    """Guards against a bound that is silently ignored."""
    with pytest.raises(GmrtError, match="nothing to scan"):
        export_bundle(checkpoints("tiny-llama"), tmp_path / "b", precision="fp32", bounds=Bounds())
    assert list(tmp_path.iterdir()) == []
