"""Numbers that know their order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from gmrt.georsmllm.coordinates import GRID, neighbours, number_ids, smooth_rows, token_losses
from gmrt.georsmllm.presets import build

WORDS = 50
NUMBERS = torch.arange(GRID) + WORDS
TARGETS = neighbours()


def logits_of(chances: Tensor) -> Tensor:
    """Logits [n, V] of a model that gives the numbers ``chances`` [n, GRID] and other words nothing."""
    return functional.pad(chances.clamp(min=1e-30).log(), (WORDS, 0), value=-1e4)


def test_near_numbers_are_more_alike_than_far_ones() -> None:
    """Guards against rows in which 512 is as far from 513 as from 7."""
    rows = smooth_rows(256, 0.02, torch.Generator().manual_seed(0))
    alike = functional.cosine_similarity(rows[None, 500], rows, dim=1)
    near, middle, far = alike[[499, 501]].mean(), alike[[480, 520]].mean(), alike[[100, 900]].mean()
    assert near > 0.95
    assert near > middle > far
    assert rows.std() == pytest.approx(0.02, rel=0.01)


def test_targets_are_distributions_round_the_number() -> None:
    """Guards against targets at the edges that do not sum to 1, or that lean to one side."""
    torch.testing.assert_close(TARGETS.sum(1), torch.ones(GRID))
    assert TARGETS.argmax(1).tolist() == list(range(GRID))
    torch.testing.assert_close(TARGETS[500, 490], TARGETS[500, 510])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, GRID - 1), min_size=1, max_size=5))
def test_a_perfect_prediction_costs_nothing(cells: list[int]) -> None:
    """Guards against a loss that keeps the entropy of its targets, so that curves never come down."""
    wanted = torch.tensor(cells)
    spread = torch.ones(len(cells), dtype=torch.bool)
    losses = token_losses(logits_of(TARGETS[wanted]), NUMBERS[wanted], spread, NUMBERS, TARGETS)
    torch.testing.assert_close(losses, torch.zeros(len(cells)), atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(20, GRID - 21), st.integers(1, 9))
def test_a_near_answer_costs_less_than_a_far_one(cell: int, step: int) -> None:
    """Guards against a coordinate that is off by one cell and is taught like any wrong word."""
    guesses = TARGETS[[cell, cell + step, cell - step - 1, cell + step + 10]]
    labels = NUMBERS[[cell] * 4]
    right, near, further, far = token_losses(
        logits_of(guesses), labels, torch.ones(4, dtype=torch.bool), NUMBERS, TARGETS
    )
    assert right < near < further < far


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16))
def test_words_and_counts_have_the_plain_loss(seed: int) -> None:
    """Guards against counts that are taught as roughly right, and words that the spread touches."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, WORDS + GRID, generator=generator)
    labels = torch.tensor([3, 700, 49, 51, 600, 1049])
    plain = functional.cross_entropy(logits, labels, reduction="none")
    nothing = torch.zeros(6, dtype=torch.bool)
    torch.testing.assert_close(token_losses(logits, labels, nothing, NUMBERS, TARGETS), plain)
    some = torch.tensor([False, True, False, False, True, False])
    mixed = token_losses(logits, labels, some, NUMBERS, TARGETS)
    torch.testing.assert_close(mixed[~some], plain[~some])
    assert not torch.isclose(mixed[some], plain[some]).any()


def test_only_what_is_spread_is_learnt_as_spread() -> None:
    """Guards against a gradient of the plain loss that stays in the spread one."""
    logits = logits_of(TARGETS[[500]]).requires_grad_()
    token_losses(logits, NUMBERS[[500]], torch.tensor([True]), NUMBERS, TARGETS).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits.grad), atol=1e-4, rtol=0)


def test_numbers_are_tokens_as_they_stand_in_a_location() -> None:
    """Guards against the table's rows of other tokens being put in order."""
    _, processor = build("tiny-llama")
    ids = number_ids(processor.backend)
    assert ids is not None
    assert len(set(ids)) == GRID
    inside = processor.answer_ids("<box> 0 12 512 999")[1:5]
    assert inside == [ids[0], ids[12], ids[512], ids[999]]
