"""The gate can fail: a seeded error in each component is caught, and named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from spoil import Weights, rolled, scaled, spoil_checkpoint, swap_layers

from gmrt.calibration import images
from gmrt.calibration.blocks import Blocks
from gmrt.calibration.measure import measure
from gmrt.export import linear, pipeline
from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.gate import Report, _Answers, _sure, require, run_gate
from gmrt.export.precision import RECIPES, Recipe
from gmrt.export.quantize import observed_tensors, quantise_tower
from gmrt.export.reference import Case
from gmrt.export.tower import build_tower
from gmrt.runtime.errors import CheckpointError, GateError
from gmrt.runtime.image import prepare
from gmrt.runtime.manifest import Precision
from gmrt.runtime.scene import read_scene


@pytest.fixture(scope="module")
def source(checkpoints: Callable[[str], Path]) -> Checkpoint:
    """The taught tiny-qwen2 checkpoint, which has biases on q, k and v."""
    return open_checkpoint(checkpoints("tiny-qwen2"))


@pytest.fixture
def gate(source: Checkpoint, pictures: Path, tmp_path: Path) -> Callable[..., Report]:
    """Write a bundle of weights that ``spoil`` has changed, and compare it with the checkpoint on two pictures."""
    spec = source.model.config.image_spec
    shown = [prepare(read_scene(min(pictures.glob(f"{kind}-*"))).rgb, spec) for kind in ("river", "marina")]

    def run(precision: Precision = "fp32", spoil: Callable[[Weights], None] = lambda _weights: None) -> Report:
        spoiled = spoil_checkpoint(source, spoil)
        tower = build_tower(source.model.config, spoiled.weights())
        if RECIPES[precision].integer_tower:
            record = measure(tower, observed_tensors(tower), shown, source="", seed=0, checkpoint="")
            tower = ir.from_proto(quantise_tower(tower, record, (-1.0, 1.0)))
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        pipeline._write(folder, spoiled, precision, "cpu", tower, None)
        return run_gate(source, folder, shown, "two pictures")

    return run


LAYERS = "tower.siglip.encoder.layers"
ERRORS = {
    "vision, order": (swap_layers(LAYERS), {"vision"}),
    "vision, bias": (scaled("connector.fc1.bias", 0), {"vision"}),
    "vision, scale": (scaled("connector.fc2.weight", 1.02), {"vision"}),
    "decoder, order": (swap_layers("decoder.model.layers"), {"decoder"}),
    "decoder, bias": (scaled("decoder.model.layers.1.self_attn.k_proj.bias", 0), {"decoder"}),
    "decoder, scale": (scaled("decoder.model.norm.weight", 1.02), {"decoder"}),
    "embeddings, order": (rolled("decoder.model.embed_tokens.weight"), {"embeddings"}),
}


def test_an_unspoiled_bundle_passes(gate: Callable[..., Report]) -> None:
    """Guards against a gate that fails whatever it is given."""
    report = gate()
    assert report.failures == []
    assert report.top1 == 1
    require(report, "so")


@pytest.mark.parametrize("name", ERRORS)
def test_seeded_error_is_caught_and_named(name: str, gate: Callable[..., Report]) -> None:
    """Guards against a component that the gate does not look at: nothing but the spoiled one may be blamed."""
    spoil, components = ERRORS[name]
    report = gate(spoil=spoil)
    assert {row.component for row in report.rows if row.failed} == components
    with pytest.raises(GateError, match=rf"\n  {components.pop()} ") as caught:
        require(report, "so nothing was written")
    assert len(str(caught.value).splitlines()) == 1 + len(report.failures)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vision, order", f"{LAYERS}.0.self_attn.qkv"),
        ("vision, bias", "connector.fc1"),
        ("vision, scale", "connector.fc2"),
    ],
)
def test_first_layer_of_a_tower_that_is_wrong_is_named(name: str, layer: str, gate: Callable[..., Report]) -> None:
    """Guards against a failure that says "vision" of a tower of fifty layers and leaves the search to the reader."""
    failed = [(what, why) for component, what, why in gate(spoil=ERRORS[name][0]).failed if component == "vision"]
    assert [what for what, _ in failed] == ["first layer"]
    assert failed[0][1].startswith(f"{layer}: cosine")


def test_first_layer_that_is_wrong_is_named(gate: Callable[..., Report]) -> None:
    """Guards against a table that says only "logits": the keys of layer 1 are off, those of layer 0 are not."""
    spoil = scaled("decoder.model.layers.1.self_attn.k_proj.bias", 0)
    failed = [row.tensor for row in gate(spoil=spoil).rows if row.failed]
    assert failed[0] == "key.1"


def swapped_scales(blocks: Blocks) -> Blocks:
    """Give each row its neighbour's scales."""
    return replace(blocks, scales=np.roll(blocks.scales, 1, axis=0))


def swapped_nibbles(blocks: Blocks) -> Blocks:
    """Pack each pair of codes the wrong way round."""
    pairs = blocks.codes.reshape(*blocks.codes.shape[:2], -1, 2)
    return replace(blocks, codes=pairs[..., ::-1].reshape(blocks.codes.shape))


@pytest.mark.parametrize(("precision", "mistake"), [("int8", swapped_scales), ("int4", swapped_nibbles)])
def test_mistakes_of_the_quantiser_are_caught(
    source: Checkpoint,
    gate: Callable[..., Report],
    precision: Precision,
    mistake: Callable[[Blocks], Blocks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against thresholds so wide that a mistake fits in, here in one kind of layer of four."""
    honest = linear.quantise_blocks

    def mistaken(weight: np.ndarray, bits: int) -> Blocks:
        blocks = honest(weight, bits)
        return mistake(blocks) if weight.shape[0] == source.decoder.hidden else blocks

    assert gate(precision).failures == []
    monkeypatch.setattr(linear, "quantise_blocks", mistaken)
    report = gate(precision)
    assert {row.component for row in report.rows if row.failed} == {"decoder"}


def test_swapped_scales_in_the_integer_tower_are_caught(
    gate: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a gate that passes a tower whose activations have each other's scales; the part is named."""
    honest = quantise_tower

    def mistaken(*arguments: Any) -> Any:
        model = honest(*arguments)
        first, second = (
            next(tensor for tensor in model.graph.initializer if tensor.name == f"connector.{name}_scale")
            for name in ("norm", "gelu")
        )
        values = [onnx.numpy_helper.to_array(tensor) for tensor in (first, second)]
        first.CopyFrom(onnx.numpy_helper.from_array(values[1], first.name))
        second.CopyFrom(onnx.numpy_helper.from_array(values[0], second.name))
        return model

    monkeypatch.setitem(globals(), "quantise_tower", mistaken)
    report = gate("int8")
    assert {row.component for row in report.rows if row.failed} == {"vision"}
    assert any(line.startswith("vision     first layer   connector.") for line in report.failures)


def test_an_integer_precision_that_ended_up_float_fails(
    source: Checkpoint, gate: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against INT8 by name only: right answers from float kernels are a failure, and the layers are listed."""
    recipe = replace(RECIPES["int8"], linear=linear.float_linear("float32"))
    monkeypatch.setitem(cast("dict[str, Recipe]", RECIPES), "int8", recipe)
    report = gate("int8")
    assert not any(row.failed for row in report.rows)
    assert {(component, what) for component, what, _ in report.failed} == {("kernels", "decoder")}
    assert "float: layers." in report.failures[0]


def case(logits: list[list[float]], answer: tuple[int, ...]) -> Case:
    """A case of which only logits and answer matter."""
    empty = np.zeros(0, np.float32)
    return Case(empty, "", answer, empty, None, empty, np.array(logits, np.float32), empty, ())


def test_ties_are_counted_apart() -> None:
    """Guards against a close call of the checkpoint itself that counts as an error of the bundle."""
    answers = _Answers()
    truth = [[1.0, 1.0005, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    got = np.array([[2.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32).argmax(axis=-1)
    answers.add(case(truth, (1, 0)), got, (1, 0), None)
    assert (answers.positions, answers.ties, answers.matched, answers.exact) == (2, 1, 1, 1)
    answers.add(case(truth, (1, 0)), got, (1, 0, 2), None)
    assert (answers.cases, answers.exact) == (2, 1)


@pytest.mark.parametrize(
    ("margins", "sure"), [((5.0, 0.5, 5.0), 1), ((0.2, 5.0, 5.0), 0), ((5.0, 1.5, 2.0), 3), ((5.0, 5.0, 0.1), 2)]
)
def test_an_answer_is_scored_up_to_its_first_close_call(margins: tuple[float, ...], sure: int) -> None:
    """Guards against a score of words behind a coin that fell the other way, and one without the last token."""
    # The margin behind the last token belongs to the end of the answer, which is not scored.
    logits = [[margin, 0.0, -9.0] for margin in (*margins, 0.0)]
    assert _sure(case(logits, (0, 0, 0))) == sure


def test_infinite_outputs_do_not_pass(gate: Callable[..., Report]) -> None:
    """Guards against a comparison with NaN, which is false whichever way it is put."""
    spoil = scaled("tower.siglip.embeddings.patch_embedding.bias", np.inf)
    report = gate(spoil=spoil)
    vision = next(row for row in report.rows if row.component == "vision")
    assert not np.isfinite(vision.cosine)
    assert "cosine" in vision.failed


def test_verify_refuses_another_checkpoint(
    exports: Callable[[str, str], tuple[Path, Any]],
    checkpoints: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against a table of differences where the question was wrong: the bundle is of other weights."""
    from gmrt.export.gate import verify_against

    monkeypatch.setattr(images, "_GENERATED", 10)
    bundle, _ = exports("tiny-llama", "fp32")
    assert verify_against(bundle, checkpoints("tiny-llama")).failures == []
    with pytest.raises(CheckpointError, match="not the weights"):
        verify_against(bundle, checkpoints("tiny-qwen2"))
