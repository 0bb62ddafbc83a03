"""Half precision simulated: explicit rounding, overflows found by name, and what the float32 islands are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from gmrt.export.checkpoint import open_checkpoint
from gmrt.export.decoder import DecoderSpec, rope_tables
from gmrt.export.graph import GraphBuilder
from gmrt.export.half import Simulated, simulate
from gmrt.export.linear import float_linear
from gmrt.export.precision import STANDARD
from gmrt.export.standard import build_standard_decoder
from gmrt.export.tower import build_tower
from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import PRESETS, build
from gmrt.runtime.backends.standard import places

Weights = dict[str, np.ndarray]
LIMITS = STANDARD["fp16"].limits
HALF = float_linear("float16")


def agreement(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Cosine and norm ratio, 0 where something is not finite."""
    if not np.isfinite(found).all():
        return 0.0, 0.0
    a, b = truth.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30)), float(np.linalg.norm(b) / np.linalg.norm(a))


def passes(truth: np.ndarray, found: np.ndarray) -> bool:
    """The gate's limits of fp16."""
    cosine, ratio = agreement(truth, found)
    return cosine >= LIMITS.decoder.value and abs(ratio - 1) <= LIMITS.decoder_norm.value


def decoder(spec: DecoderSpec, weights: Weights, rope: Any, *, islands: bool, half: bool = True) -> ir.Model:
    """A decoder in half precision, with islands or without, or in float."""
    if not half:
        plain = float_linear("float32")
        return build_standard_decoder(spec, weights, rope, linear=plain, head=plain)
    linear = float_linear("float16", "float32") if islands else HALF
    between = "float32" if islands else "float16"
    return build_standard_decoder(spec, weights, rope, linear=linear, head=linear, product="float16", between=between)


def feeds(spec: DecoderSpec, embeds: np.ndarray) -> dict[str, np.ndarray]:
    """A prompt over an empty past."""
    where = places(np.zeros(1, np.int32), len(embeds), 4)
    past = np.zeros((1, spec.kv_heads, 4, spec.head_dim), np.float32)
    pasts = {f"past_{kind}.{i}": past for i in range(spec.layers) for kind in ("key", "value")}
    return {"inputs_embeds": embeds[None], "logits_at": where["positions"], **where, **pasts}


@pytest.fixture(scope="module")
def tiny() -> tuple[DecoderSpec, Weights, Any]:
    """A random tiny decoder: its geometry, weights and rotary tables."""
    torch.manual_seed(0)
    model = build("tiny-llama")[0].decoder
    spec = DecoderSpec.from_config(model.config)
    rotary = model.model.rotary_emb
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return spec, weights, rope_tables(rotary.inv_freq.numpy(), 1.0, spec.max_length)


def louder(weights: Weights, factor: float, writers: tuple[str, ...]) -> Weights:
    """Scale what is written to the residual stream; the norms take it out again, so the model says the same."""
    return {
        name: array * np.float32(factor if any(w in name for w in writers) else 1) for name, array in weights.items()
    }


def test_every_tensor_is_rounded() -> None:
    """Guards against casts that an optimiser takes out: 1/3 · 3 in steps is numpy's half arithmetic, bit by bit."""
    graph = GraphBuilder()
    x = graph.input("x", "float32", (4,))
    third = graph.op("Mul", "third", graph.cast("x", x, "float16"), graph.constant("a", np.float16([1 / 3])))
    y = graph.op("Mul", "y", third, graph.constant("b", np.float16([3])))
    model = graph.model("g", [x], [graph.output(graph.cast("y", y, "float32"), "out", "float32", (4,))])
    values = np.float32([1, 2.0004, 777.3, 60000])
    expected = ((values.astype(np.float16) * np.float16(1 / 3)) * np.float16(3)).astype(np.float32)
    found = simulate(model, {"x": values})
    np.testing.assert_array_equal(found.outputs["out"], expected)
    assert list(found.largest) == ["x.float16", "third", "y"]
    assert found.overflows == []
    assert simulate(model, {"x": values * 2}).overflows[0] == "x.float16"
    assert simulate(model, {"x": np.full(4, np.nan, np.float32)}).overflows == ["x.float16", "third", "y"]


@pytest.mark.parametrize(
    ("weight", "first"),
    [
        ("model.layers.1.mlp.up_proj.weight", "layers.1.mlp.gate_proj_up_proj"),
        ("model.layers.0.self_attn.o_proj.weight", "layers.0.self_attn.o_proj"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_a_seeded_overflow_is_found_by_name(tiny: Any, weight: str, first: str) -> None:
    """Guards against an overflow that is seen at the logits and searched for by hand."""
    spec, weights, rope = tiny
    table = {"lm_head.weight": weights["model.embed_tokens.weight"]}
    spoiled = {**weights, **table}
    spoiled[weight] = spoiled[weight] * np.float32(6e4)
    embeds = np.random.default_rng(0).normal(size=(9, spec.hidden)).astype(np.float32)
    model = decoder(spec, spoiled, rope, islands=True)
    assert simulate(decoder(spec, {**weights, **table}, rope, islands=True), feeds(spec, embeds)).overflows == []
    assert simulate(model, feeds(spec, embeds)).overflows[0] == first


def test_a_loud_decoder_needs_its_islands(tiny: Any) -> None:
    """Guards against islands that are left out, or that are not where half precision ends."""
    spec, weights, rope = tiny
    loud = louder(weights, 2000, ("o_proj", "down_proj"))
    embeds = 2000 * np.random.default_rng(0).normal(size=(9, spec.hidden)).astype(np.float32)
    truth = simulate(decoder(spec, loud, rope, islands=True, half=False), feeds(spec, embeds)).outputs["logits"]
    found = {
        islands: simulate(decoder(spec, loud, rope, islands=islands), feeds(spec, embeds)) for islands in (True, False)
    }
    assert found[True].overflows == []
    assert passes(truth, found[True].outputs["logits"])
    assert not passes(truth, found[False].outputs["logits"])
    # A mask is meant to leave the range.
    first = next(name for name in found[False].overflows if "mask" not in name)
    assert first == "layers.0.input_layernorm.square"


def test_nano_passes_with_islands_and_fails_without(nano: Path) -> None:
    """Guards against a shipped model that overflows on a device: as it is, and with its residual stream scaled up."""
    source = open_checkpoint(nano)
    spec, rope, weights = source.decoder, source.rope(64), source.weights("decoder.")
    embeds = source.table()[np.random.default_rng(0).integers(5, 2000, 24)]
    for factor in (1.0, 1000.0):
        loud = louder(weights, factor, ("o_proj", "down_proj"))
        run = feeds(spec, np.float32(factor) * embeds)
        truth = simulate(decoder(spec, loud, rope, islands=True, half=False), run).outputs["logits"]
        assert passes(truth, simulate(decoder(spec, loud, rope, islands=True), run).outputs["logits"])
        assert passes(truth, simulate(decoder(spec, loud, rope, islands=False), run).outputs["logits"]) == (factor == 1)


def test_a_loud_siglip_tower_needs_its_islands() -> None:
    """Guards against cosine 0.65, to which SigLIP towers are known to fall in plain half precision."""
    torch.manual_seed(1)
    truth, kept, plain = towers(build("tiny-llama")[0], 3000)
    assert kept.overflows == []
    assert passes(truth, kept.outputs["image_embeds"])
    assert not passes(truth, plain.outputs["image_embeds"])
    assert "layer_norm1" in plain.overflows[0]


def towers(model: GeoRSMLLMForConditionalGeneration, factor: float) -> tuple[np.ndarray, Simulated, Simulated]:
    """A SigLIP tower with a louder residual stream: what it says, and what it does in half, with islands and without.

    ``factor`` is of patches and of positions and of what the blocks add to them; the norms take it out again.
    """
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    loud = louder(weights, factor, ("patch_embedding", "position_embedding", "out_proj", "fc2"))
    # The connector's own second layer is no part of the residual stream.
    loud |= {name: weights[name] for name in weights if name.startswith("connector")}
    side = model.config.vision_config.image_size
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    truth = simulate(build_tower(model.config, loud), {"pixels": pixels}).outputs["image_embeds"]
    kept = simulate(build_tower(model.config, loud, "float16", between="float32"), {"pixels": pixels})
    return truth, kept, simulate(build_tower(model.config, loud, "float16"), {"pixels": pixels})


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("factor", [1, 3000])
def test_a_whole_siglip_b_tower(factor: int, record_property: Callable[[str, object], None]) -> None:
    """Guards against islands that hold in 2 layers and not in 12 at 512 px; random weights of SigLIP-B/16's shape."""
    torch.manual_seed(0)
    config = GeoRSMLLMConfig(
        vision_config=PRESETS["edge-256m"]["vision_config"], text_config=PRESETS["tiny-llama"]["text_config"], shuffle=4
    )
    truth, kept, plain = towers(GeoRSMLLMForConditionalGeneration(config).eval(), factor)
    for name, found in (("with islands", kept), ("without", plain)):
        record_property(f"{name}: cosine, norm ratio", agreement(truth, found.outputs["image_embeds"]))
        record_property(f"{name}: overflows", (len(found.overflows), len(found.largest), found.overflows[:1]))
        record_property(f"{name}: largest", max(found.largest.values()))
    assert kept.overflows == []
    assert passes(truth, kept.outputs["image_embeds"])
    assert passes(truth, plain.outputs["image_embeds"]) == (factor == 1)
