"""Projections for boards: counts of the presets, the bound of each phase, and NVIDIA's own rows."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gmrt.runtime.boards import BOARDS
from gmrt.runtime.bundle import verify
from gmrt.runtime.model import SHIPPED
from gmrt.runtime.projection import PUBLISHED, WORKLOADS, Decoder, Workload, project, vit_products, workload_of

QWEN = {"Qwen3-0.6B": (1024, 3072), "Qwen3-1.7B": (2048, 6144)}


def published_workload(model: str, tokens: int) -> Workload:
    """A model of NVIDIA's table: weights of 4 bits and their scales, FP16 products and head."""
    tower = vit_products(24, 1024, 4096, 1060) if model.startswith("Qwen3-VL") else 0
    hidden, mlp = QWEN.get(model, QWEN["Qwen3-1.7B"])
    return Workload(model, tower, 24, tokens, Decoder(28, hidden, mlp, 16, 8, 128, 151936), 0.53, 2.0, 16, 16)


@pytest.mark.parametrize(
    "row", [row for row in PUBLISHED if "3.5" not in row.model], ids=lambda r: f"{r.board}-{r.model}"
)
def test_projections_are_near_what_nvidia_publishes(row: object) -> None:
    """Guards against constants that fit nothing: within a factor of two of every published row, whichever way."""
    expected = project(published_workload(row.model, row.tokens), BOARDS[row.board])
    pairs = [(expected.decode, row.decode), (expected.prefill_ms, row.prefill_ms)]
    pairs += [(expected.tower_ms, row.tower_ms)] if row.tower_ms else []
    for mine, theirs in pairs:
        assert 0.5 < mine / theirs < 2.0


def test_counts_are_those_of_the_presets() -> None:
    """Guards against a projection for another model than the one that is shipped or planned."""
    edge = WORKLOADS["edge-256m"].decoder
    assert edge.layer_weights + edge.head_weights == pytest.approx(134.5e6, rel=0.01)
    assert WORKLOADS["edge-2b"].decoder.layer_weights == pytest.approx(1.31e9, rel=0.01)
    assert WORKLOADS["edge-256m"].tower == pytest.approx(106e9, rel=0.02)


def test_the_shipped_bundle_is_known() -> None:
    """Guards against `gmrt bench` that prints no projection on the board for the model that everybody has."""
    found = workload_of(verify(SHIPPED))
    assert found == WORKLOADS["nano"]
    assert found.decoder.vocabulary == verify(SHIPPED).vocab_size


@pytest.mark.parametrize("name", WORKLOADS)
def test_more_board_is_never_slower(name: str) -> None:
    """Guards against a rate and a bandwidth that are mixed up."""
    times = [project(WORKLOADS[name], BOARDS[board]) for board in ("orin-nano-4gb", "orin-nano", "agx-orin", "thor")]
    for slower, faster in pairwise(times):
        assert slower.tower_ms > faster.tower_ms
        assert slower.step_ms >= faster.step_ms
        assert slower.first_token_ms > faster.first_token_ms
