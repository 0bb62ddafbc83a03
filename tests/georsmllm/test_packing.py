"""Packed questions against the same questions asked one by one."""

from __future__ import annotations

import pytest
import torch

from gmrt.georsmllm import presets
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.packing import IGNORE, branch_mask, collate, pack
from gmrt.georsmllm.processor import GeoRSMLLMProcessor

TURNS = [("describe", "a forest with many trees"), ("is this a beach?", "no"), ("how many ships?", "37")]


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-qwen2"])
def parts(request: pytest.FixtureRequest) -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """A random tiny model and its processor."""
    return presets.build(request.param)


@torch.inference_mode()
def test_a_branch_is_a_prompt_of_its_own(parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]) -> None:
    """Guards against branches that see each other, or positions that run on: training would not match inference."""
    model, processor = parts
    pixels = torch.randn(1, 3, 32, 32)
    row = pack(processor, TURNS)
    packed = model(pixel_values=pixels, **collate([row], pad=0))
    singles = [model(pixel_values=pixels, **collate([pack(processor, [turn])], pad=0)).logits for turn in TURNS]
    torch.testing.assert_close(packed.logits, torch.cat(singles), atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_padding_changes_nothing(parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]) -> None:
    """Guards against a short row that attends to its padding when it shares a batch with a long one."""
    model, processor = parts
    pixels = torch.randn(2, 3, 32, 32)
    short, long = pack(processor, TURNS[1:2]), pack(processor, TURNS)
    batch = model(pixel_values=pixels, **collate([short, long], pad=0)).logits
    alone = [
        model(pixel_values=pixels[i : i + 1], **collate([row], pad=0)).logits for i, row in enumerate((short, long))
    ]
    torch.testing.assert_close(batch, torch.cat(alone), atol=2e-4, rtol=1e-3)


def test_only_answers_are_learnt(parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]) -> None:
    """Guards against a loss on questions or on the image's placeholders."""
    _, processor = parts
    row = pack(processor, TURNS)
    learnt = row.labels[row.labels != IGNORE].tolist()
    assert learnt == [token for _, answer in TURNS for token in processor.answer_ids(answer)]
    assert all(row.labels[row.branch == 0] == IGNORE)


def test_the_mask_is_causal_and_hides_other_branches() -> None:
    """Guards against a look into the future or into another question's answer, by a case worked out by hand."""
    mask = branch_mask(torch.tensor([[0, 1, 1, 2, -1]]))[0, 0] == 0
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert mask.int().tolist() == expected


def test_coordinates_are_marked_and_other_numbers_are_not(
    parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor],
) -> None:
    """Guards against a count whose neighbours are taught as nearly right, and a coordinate that must hit its cell."""
    _, processor = parts
    row = pack(processor, [*TURNS, ("locate the 2 ships", "<box> 37 2 512 999"), ("where?", "none")])
    assert processor.backend.decode(row.labels[row.spread].tolist()).split() == ["37", "2", "512", "999"]
    assert set(row.branch[row.spread].tolist()) == {4}
    assert (row.labels[row.spread] == row.ids[row.spread]).all()


def test_batches_without_a_coordinate_have_no_marks(
    parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor],
) -> None:
    """Guards against marks on padding, and against work for nothing."""
    _, processor = parts
    words, placed = pack(processor, TURNS), pack(processor, [("locate the ship", "<point> 5 6")])
    assert "spread" not in collate([words], pad=0)
    marks = collate([words, placed], pad=0)["spread"]
    assert marks.dtype == torch.bool
    assert marks.sum(dim=1).tolist() == [0, 2]
