"""A whole decoder in 4 bits: every product by its name, each made for what the quantised layers before it give."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from gmrt.calibration import weights as weights_module
from gmrt.calibration.blocks import quantise_blocks
from gmrt.calibration.weights import PRODUCTS, quantise_decoder
from gmrt.runtime.errors import GmrtError

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest) -> Any:
    """A random decoder; qwen2 has biases."""
    torch.manual_seed(0)
    made: Any = (
        LlamaForCausalLM(LlamaConfig(**SIZES)) if request.param == "llama" else Qwen2ForCausalLM(Qwen2Config(**SIZES))
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.15) if parameter.ndim > 1 else parameter.normal_(1.0, 0.1)
    return made.eval()


def samples(count: int, length: int = 40) -> list[torch.Tensor]:
    """Embeddings [1, S, D] that lie in few directions, as words' do."""
    draw = torch.Generator().manual_seed(1)
    mix = torch.randn(16, 64, generator=draw)
    return [torch.randn(1, length, 16, generator=draw) @ mix * 0.3 for _ in range(count)]


def with_blocks(model: Any, blocks: dict[str, Any]) -> Any:
    """A copy of the model with the dequantised weights in it."""
    changed = copy.deepcopy(model)
    for name, made in blocks.items():
        stem, layer, product = name.split(".", 2)
        modules = [changed.model.layers[int(layer)].get_submodule(part) for part in PRODUCTS[product]]
        rows = np.split(made.dequantise(), np.cumsum([len(m.weight) for m in modules])[:-1])
        assert stem == "layers"
        with torch.no_grad():
            for module, part in zip(modules, rows, strict=True):
                module.weight.copy_(torch.from_numpy(part))
    return changed


@torch.no_grad()
def hidden(model: Any, embeds: torch.Tensor) -> torch.Tensor:
    """Last hidden states [1, S, D]."""
    out: torch.Tensor = model.model(inputs_embeds=embeds).last_hidden_state
    return out


def test_the_decoder_is_closer_than_rounded_to_nearest_and_left_as_it_was(model: Any) -> None:
    """Guards against Hessians of the wrong product, rows in another order than the graph's, a changed checkpoint."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls: list[tuple[int, int]] = []
    made = quantise_decoder(model, samples(12), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1, 2), (2, 2)]
    assert set(made) == {f"layers.{i}.{product}" for i in range(2) for product in PRODUCTS}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    nearest = {}
    for name in made:
        layer = model.model.layers[int(name.split(".")[1])]
        parts = PRODUCTS[name.split(".", 2)[2]]
        nearest[name] = quantise_blocks(torch.cat([layer.get_submodule(p).weight for p in parts]).detach().numpy(), 4)
    fresh = samples(14)[12:]
    errors = [
        sum(float((hidden(with_blocks(model, blocks), x) - hidden(model, x)).square().mean()) for x in fresh)
        for blocks in (made, nearest)
    ]
    assert errors[0] < 0.75 * errors[1]


def test_memory_is_that_of_the_positions_and_not_of_the_samples(model: Any) -> None:
    """Guards against hidden states of every image of a large set, and a hook that reaches the samples' maker."""
    asked = 0

    def endless() -> Any:
        nonlocal asked
        while True:
            asked += 1
            hidden(model, samples(1)[0])
            yield samples(1)[0]

    states = weights_module._first_states(model.model, endless(), 205)
    assert [state.hidden.shape[1] for state in states] == [40] * 5
    assert asked == 6


def test_too_little_to_measure_is_said_in_one_sentence(model: Any) -> None:
    """Guards against a Hessian of a handful of words, which would fit those and nothing else."""
    with pytest.raises(GmrtError, match=r"64 positions or more.*has 40: give more images"):
        quantise_decoder(model, samples(1))


def test_a_checkpoint_with_a_nan_is_named_by_layer(model: Any) -> None:
    """Guards against a LinAlgError far from its cause."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(GmrtError, match=r"not finite in layers\.1\.mlp\.down_proj"):
        quantise_decoder(broken, samples(4))
