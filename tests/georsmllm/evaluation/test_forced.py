"""Perplexity and agreement, on logits whose answer is known and on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretend import picture

from gmrt.georsmllm.data import Example, Question
from gmrt.georsmllm.evaluation.forced import (
    Passage,
    english,
    english_passages,
    join,
    judge,
    judge_checkpoint,
    question_passages,
    windows,
)
from gmrt.georsmllm.presets import build


def test_perplexity_and_agreement_of_known_logits() -> None:
    """Guards against a softmax over the wrong axis, a base other than e, and ties that count."""
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]], np.float32))
    found = judge(logits + 3, np.array([1, 2, 0]))
    assert found.perplexity == pytest.approx((1 / 0.25 * 1 / 0.7 * 1 / 0.4) ** (1 / 3))
    np.testing.assert_array_equal(found.top[:2], [0, 2])
    other = judge(logits[:, ::-1], np.array([1, 2, 0]))
    assert other.agreement(found) == 0.0  # the third position is a tie of the reference, and left out
    assert found.agreement(found) == 1.0
    assert join([found, other]).positions == 6


def test_huge_logits_do_not_overflow() -> None:
    """Guards against exp of a logit that was not shifted."""
    assert judge(np.array([[1e4, 0.0]], np.float32), np.array([0])).perplexity == 1.0


def test_english_is_prose_and_the_same_every_time() -> None:
    """Guards against code, tables or markup in what is called ordinary English."""
    texts = list(english())
    assert len(texts) > 100
    assert texts == list(english())
    assert all(
        text[0].isupper() and text[-1] == "." and not any(c in text for c in "=`*0123456789\n") for text in texts
    )


def test_windows_leave_out_the_rest() -> None:
    """Guards against a token that is lost or doubled at the border of two paragraphs."""
    cut = list(windows([[1, 2, 3], [4], [5, 6, 7, 8]], 3))
    assert [window.tolist() for window in cut] == [[1, 2, 3], [4, 5, 6]]


def test_a_passage_is_judged_from_its_first_position_on() -> None:
    """Guards against a prompt that counts, a shift by one, and image embeddings in the wrong place."""
    model, processor = build("tiny-llama")
    example = Example(
        "a", picture(1), captions=("there are many boats",), questions=(Question("how many?", "3", "qa"),)
    )
    caption, question = question_passages(model, processor, [example])
    assert caption.targets.tolist() == processor.answer_ids("there are many boats")
    assert question.targets.tolist() == processor.answer_ids("3")
    assert caption.image is not None
    ids = torch.from_numpy(caption.ids)[None]
    with torch.no_grad():
        out = model(inputs_embeds=model.embed(ids, torch.from_numpy(caption.image)[None])).logits[0]
    expected = torch.nn.functional.cross_entropy(out[caption.first : -1], ids[0, caption.first + 1 :])
    assert np.log(judge_checkpoint(model, caption).perplexity) == pytest.approx(float(expected), rel=1e-4)


def test_an_image_token_in_the_answer_is_a_word() -> None:
    """Guards against an image put where a text only names its placeholder."""
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    passage = Passage(np.array([1, 5, 5, 2, 5, 3]), 3, np.full((2, 2), -1, np.float32))
    made = passage.embeds(lambda ids: table[ids], 5)
    np.testing.assert_array_equal(made[:, 0], [2, -1, -1, 4, 10])


def test_passages_of_english_have_the_length_asked_for() -> None:
    """Guards against a text too short for what it is to prove."""
    _, processor = build("tiny-llama")
    passages = list(english_passages(processor.backend, 64))
    assert len(passages) > 30
    assert {len(passage.ids) for passage in passages} == {64}
