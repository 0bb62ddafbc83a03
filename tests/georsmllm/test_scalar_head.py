"""The regression head: where its targets stand, what it learns, what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gmrt.georsmllm import presets
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.packing import Turn, collate, pack, value_answer
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.runtime.scalar import VALUE

MEASURES: list[dict[str, Any]] = [
    {"name": "built-up fraction", "unit": "", "mean": 0.2, "std": 0.1},
    {"name": "mean height", "unit": "m", "mean": 6.0, "std": 4.0},
]
HEIGHT = Turn("what is the mean height?", value_answer("mean height"), 10.0, "mean height")
BUILT = Turn("estimate the built-up fraction", value_answer("built-up fraction"), 0.1, "built-up fraction")
WORDS = ("is there water?", "no")

Parts = tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]


@pytest.fixture(scope="module")
def parts() -> Parts:
    """A random tiny model that measures two things, and its processor."""
    return presets.build("tiny-llama", measures=MEASURES)


def test_a_target_stands_where_the_value_comes_next(parts: Parts) -> None:
    """Guards against a target one token off, which the runtime would read from another hidden state; and its scale."""
    _, processor = parts
    row = pack(processor, [WORDS, HEIGHT, BUILT], measures=MEASURES)
    places = np.flatnonzero(row.outputs >= 0)
    token = processor.backend.token_to_id(VALUE)
    assert row.ids[places + 1].tolist() == row.labels[places + 1].tolist() == [token, token]
    assert (row.ids == token).sum() == 2
    assert row.branch[places].tolist() == [2, 3]
    assert row.outputs[places].tolist() == [1, 0]
    np.testing.assert_allclose(row.values[places], [1.0, -1.0], rtol=1e-6)
    assert np.isnan(np.delete(row.values, places)).all()
    columns = (row.ids, row.labels, row.positions, row.branch, row.values, row.outputs, row.spread)
    assert {len(column) for column in columns} == {len(row.ids)}


def test_batches_without_a_scalar_stay_as_they_were(parts: Parts) -> None:
    """Guards against columns of nothing in every batch, and against padding that looks like a target."""
    _, processor = parts
    words, scalar = pack(processor, [WORDS]), pack(processor, [WORDS, HEIGHT], measures=MEASURES)
    assert not {"values", "outputs"} & set(collate([words, words], pad=0))
    batch = collate([words, scalar], pad=0)
    assert (batch["values"].dtype, batch["outputs"].dtype) == (torch.float32, torch.int64)
    assert (batch["outputs"] >= 0).sum(dim=1).tolist() == [0, 1]
    assert batch["values"].isnan().equal(batch["outputs"] < 0)


@pytest.mark.parametrize(
    ("turn", "measures", "message"),
    [
        (HEIGHT, (), "no measure 'mean height'"),
        (Turn("what is it?", "10", 10.0, "mean height"), MEASURES, "must open with <value>"),
    ],
)
def test_impossible_turns_are_refused(parts: Parts, turn: Turn, measures: Any, message: str) -> None:
    """Guards against a value that is silently not learnt, or learnt where no scalar is answered."""
    with pytest.raises(ValueError, match=message):
        pack(parts[1], [turn], measures=measures)


def test_the_loss_is_of_the_asked_output_at_its_place(parts: Parts) -> None:
    """Guards against the head trained on another position or another output, by a loss worked out by hand."""
    model, processor = parts
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = collate([pack(processor, [HEIGHT], measures=MEASURES)], pad=0)
    words = {name: tensor for name, tensor in batch.items() if name not in ("values", "outputs")}
    both, alone = model(pixel_values=pixels, **batch), model(pixel_values=pixels, **words)
    inputs = processor.encode(HEIGHT.question)
    embeds = model.embed(torch.from_numpy(inputs.ids)[None], model.encode_images(pixels))
    hidden = model.decoder.model(inputs_embeds=embeds).last_hidden_state[0, -1]
    off = abs(float(model.measured(hidden)[1].detach()) - 10.0) / 4.0
    assert (both.loss - alone.loss).item() == pytest.approx(off - 0.5 if off > 1 else off**2 / 2, abs=1e-4)
    both.loss.backward()
    assert model.regression is not None
    assert model.regression.weight.grad is not None
    assert (model.regression.weight.grad.abs().sum(dim=1) > 0).tolist() == [False, True]
    model.zero_grad()


def test_a_batch_without_scalars_reaches_the_head_with_nothing(parts: Parts) -> None:
    """Guards against parameters without a gradient, on which training on several devices stops."""
    model, processor = parts
    model(pixel_values=torch.zeros(1, 3, 32, 32), **collate([pack(processor, [WORDS])], pad=0)).loss.backward()
    assert model.regression is not None
    assert model.regression.weight.grad is not None
    assert not model.regression.weight.grad.any()
    model.zero_grad()


def test_a_model_without_a_head_says_so() -> None:
    """Guards against scalars that train nothing because the configuration forgot them."""
    model, processor = presets.build("tiny-llama")
    batch = collate([pack(processor, [HEIGHT], measures=MEASURES)], pad=0)
    with pytest.raises(ValueError, match="no regression head"):
        model(pixel_values=torch.zeros(1, 3, 32, 32), **batch)


def test_measures_survive_saving(parts: Parts, tmp_path: Path) -> None:
    """Guards against a head whose scale, or whose weights, are lost with the checkpoint."""
    model, _ = parts
    model.save_pretrained(tmp_path)
    again = GeoRSMLLMForConditionalGeneration.from_pretrained(tmp_path, local_files_only=True)
    assert list(again.config.measures) == MEASURES
    hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    assert model.measured(hidden).shape == (3, 2)
    torch.testing.assert_close(again.measured(hidden), model.measured(hidden))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": 0.0}, "a std above 0"),
        ({"mean": float("nan")}, "needs a name"),
        ({"name": " "}, "needs a name"),
        ({"scale": 2.0}, "needs a name"),
        ({"name": "mean height"}, "same name"),
    ],
)
def test_impossible_measures_are_refused(change: dict[str, Any], message: str) -> None:
    """Guards against a division by zero, or two outputs of one name, found out after hours of training."""
    with pytest.raises(ValueError, match=message):
        presets.build("tiny-llama", measures=[MEASURES[0] | change, MEASURES[1]])


def test_the_token_of_a_scalar_is_one_of_ours(parts: Parts) -> None:
    """Guards against "<value>" split into pieces, or dropped from the text as control tokens are."""
    backend = parts[1].backend
    ids = backend.encode(BUILT.answer, add_special_tokens=False).ids
    assert ids[0] == backend.token_to_id(VALUE)
    assert backend.decode(ids) == BUILT.answer
