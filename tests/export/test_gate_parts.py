"""The gate can fail for the small parts, too: a seeded error in the heads or in the locator is caught, and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spoil import Spoil, rolled, scaled, spoil_checkpoint
from teach import MEASURED

from gmrt.export import pipeline
from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.gate import Report, run_gate
from gmrt.export.tower import build_tower
from gmrt.georsmllm import tokenizer as field
from gmrt.georsmllm.data import tokenizer_texts
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import PRESETS, configure
from gmrt.georsmllm.processor import make_processor
from gmrt.runtime.image import prepare
from gmrt.runtime.lexicon import tag_tokens
from gmrt.runtime.scene import read_scene

Gate = Callable[[Checkpoint, Spoil], Report]


@pytest.fixture
def gate(pictures: Path, tmp_path: Path) -> Gate:
    """Write an fp32 bundle of spoiled weights, and compare it with its checkpoint on one picture."""

    def run(source: Checkpoint, spoil: Spoil) -> Report:
        spoiled = spoil_checkpoint(source, spoil)
        tower = build_tower(source.model.config, spoiled.weights())
        pipeline._write(tmp_path, spoiled, "fp32", "cpu", tower, None)
        shown = prepare(read_scene(min(pictures.glob("river-*"))).rgb, source.model.config.image_spec)
        return run_gate(source, tmp_path, [shown], "a river")

    return run


@pytest.fixture(scope="module")
def measuring(checkpoints: Callable[[str], Path]) -> Checkpoint:
    """A checkpoint with a regression head of two measures."""
    return open_checkpoint(checkpoints(f"tiny-llama{MEASURED}"))


@pytest.fixture(scope="module")
def locating(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random checkpoint with a convolutional tower, a pyramid and a locator."""
    backend = field.train_tokenizer(tokenizer_texts([]))
    assert tag_tokens(backend) is not None
    config = configure("nano", backend)
    fields: dict[str, Any] = config.to_dict()
    fields["vision_config"] |= {"image_size": 64, "neck": 48, "places": 16}
    fields["text_config"] = {
        **PRESETS["tiny-llama"]["text_config"],
        **{key: fields["text_config"][key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")},
    }
    torch.manual_seed(0)
    model = GeoRSMLLMForConditionalGeneration(type(config)(**fields))
    with torch.no_grad():
        for module in model.tower.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train().momentum = 1.0
        model.tower(torch.randn(8, 3, 64, 64))
    folder = tmp_path_factory.mktemp("locating")
    model.eval().save_pretrained(folder)
    make_processor(
        model.config, backend, eos=field.EOS, image=field.IMAGE, template=field.CHAT_TEMPLATE
    ).save_pretrained(folder)
    return open_checkpoint(folder)


def swapped_queries(weights: dict[str, np.ndarray]) -> None:
    """Give two features of the locator's query each other's weights."""
    query = weights["locator.query.weight"]
    query[[0, 1]] = query[[1, 0]]


HEADS = {
    "order": (rolled("regression.weight"), {"built-up fraction", "mean height"}),
    "scale": (scaled("regression.weight", 1.1), {"built-up fraction", "mean height"}),
}
LOCATOR = {
    "order": (rolled("locator.cells.weight"), {"maps", "geometry"}),
    "swapped": (swapped_queries, {"maps"}),
    "scale": (scaled("locator.query.weight", 1.2), {"maps"}),
    "dropped": (scaled("locator.cells.weight", 0), {"maps", "geometry"}),
}


@pytest.mark.parametrize("name", ["order", "scale"])
def test_seeded_error_in_the_heads_is_named(name: str, measuring: Checkpoint, gate: Gate) -> None:
    """Guards against a head that the gate does not look at: measures with each other's weights, or a wrong scale."""
    spoil, measures = HEADS[name]
    report = gate(measuring, spoil)
    assert {row.measure for row in report.scalars if row.component == "heads" and row.failed} == measures
    assert not any(row.failed for row in report.rows)
    assert any(line.startswith("heads ") for line in report.failures)


@pytest.mark.parametrize("name", [None, *LOCATOR])
def test_seeded_error_in_the_locator_is_named(name: str | None, locating: Checkpoint, gate: Gate) -> None:
    """Guards against weights of the locator that no comparison reaches; without an error nothing is blamed."""
    spoil, tensors = LOCATOR[name] if name else ((lambda _weights: None), set())
    report = gate(locating, spoil)
    failed = {(row.component, row.tensor) for row in report.rows if row.failed}
    assert {tensor for component, tensor in failed if component == "locator"} >= tensors
    assert {component for component, _ in failed} == ({"locator"} if name else set())
    assert "places" in {score.task for score in report.scores}
