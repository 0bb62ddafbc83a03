"""What goes through a decoder: against a decoder of numpy sums, and the sequences that it is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gmrt.calibration.decoder import (  # noqa: E402
    PROMPTS,
    Sample,
    answered,
    measure_decoder,
    questions,
    text_samples,
    watch,
)
from gmrt.calibration.images import Picture, open_images  # noqa: E402
from gmrt.runtime.errors import GmrtError  # noqa: E402


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    """A tiny model with random weights and its processor."""
    from gmrt.georsmllm.presets import build

    model, processor = build("tiny-llama")
    return model.eval(), processor


def rows(model: Any, count: int = 3) -> list[Sample]:
    """Sequences of random tokens, of different lengths."""
    rng = np.random.default_rng(0)
    return list(text_samples(model, (rng.integers(5, 100, 7 + i).tolist() for i in range(count))))


def test_inputs_and_caches_are_those_of_the_model(tiny: tuple[Any, Any]) -> None:
    """Guards against the input of another layer, keys from before their rotation, and a layer that is left out."""
    model, _ = tiny
    samples = rows(model)
    stats = measure_decoder(model.decoder, samples, "x")
    layers, config = model.decoder.model.layers, model.config.text_config
    products = ("self_attn.q_proj_k_proj_v_proj", "self_attn.o_proj", "mlp.gate_proj_up_proj", "mlp.down_proj")
    assert set(stats.inputs) == {f"layers.{i}.{p}" for i in range(len(layers)) for p in products} | {"lm_head"}
    assert (stats.samples, stats.positions) == (3, 7 + 8 + 9)
    states, caches = [], []
    for sample in samples:
        with torch.inference_mode():
            out = model.decoder(inputs_embeds=sample.embeds, use_cache=True, output_hidden_states=True)
        states.append([h[0] for h in out.hidden_states])
        caches.append([(layer.keys[0], layer.values[0]) for layer in out.past_key_values.layers])
    with torch.inference_mode():
        normed = torch.cat([layers[1].input_layernorm(state[1]) for state in states]).numpy()
    final = np.concatenate([state[-1].numpy() for state in states])
    for name, truth in (("layers.1.self_attn.q_proj_k_proj_v_proj", normed), ("lm_head", final)):
        np.testing.assert_allclose(stats.inputs[name].absmax, np.abs(truth).max(axis=0), rtol=1e-3)
        np.testing.assert_allclose(
            stats.inputs[name].absmean, np.abs(truth).mean(axis=0), rtol=1e-3
        )  # as stored: 11 bits
    assert stats.inputs["layers.0.mlp.down_proj"].absmax.shape == (config.intermediate_size,)
    for number in range(len(layers)):
        for part in (0, 1):
            truth = np.concatenate([np.abs(cache[number][part].numpy()) for cache in caches], axis=1).max(axis=1)
            np.testing.assert_array_equal(stats.cache[number][part], truth)


def test_images_are_asked_about_and_answered_by_the_checkpoint(tiny: tuple[Any, Any], pictures: Path) -> None:
    """Guards against text-only calibration, and against prompts without their answers."""
    from gmrt.georsmllm.model import greedy

    model, processor = tiny
    images = open_images(pictures, processor.image_processor.image_spec).spread(2)
    samples = list(answered(model, processor, images))
    assert len(samples) == 4
    prompt = processor.encode(PROMPTS[0]).ids.tolist()
    first = samples[0]
    assert list(first.ids[: len(prompt)]) == prompt
    assert prompt.count(model.config.image_token_id) == model.config.image_tokens
    assert first.embeds.shape[1] == len(first.ids)
    answer = greedy(model, first.embeds[:, : len(prompt)], processor.prompt_layout.eos_token_ids, 24)
    assert list(first.ids[len(prompt) :]) == answer


def test_a_picture_is_asked_its_own_questions_too() -> None:
    """Guards against a dataset's questions that are never asked, and one prompt asked of every picture."""
    own = Picture(partial(int, 0), questions=lambda: ("how many ships?", "is it a port?"))
    assert questions(1, own)[-1] == "is it a port?"
    plain = Picture(partial(int, 0))
    assert {q for n in range(3) for q in questions(n, plain)} == set(PROMPTS)
    assert len(set(PROMPTS)) == len(PROMPTS)


def test_hooks_are_gone_afterwards(tiny: tuple[Any, Any]) -> None:
    """Guards against a model that goes on telling after an error."""
    model, _ = tiny

    def fail(_name: str, _rows: Any) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        watch(model.decoder, rows(model), fail)
    with torch.inference_mode():
        model.decoder(inputs_embeds=rows(model, 1)[0].embeds)


def test_broken_values_and_nothing_are_refused(tiny: tuple[Any, Any]) -> None:
    """Guards against scales of infinity, and a record of no samples."""
    model, _ = tiny
    broken = Sample((1, 2), torch.full((1, 2, model.config.text_config.hidden_size), torch.nan))
    with pytest.raises(GmrtError, match=r"not finite in layers\.0\.self_attn"):
        measure_decoder(model.decoder, [broken], "x")
    with pytest.raises(GmrtError, match="nothing to measure"):
        measure_decoder(model.decoder, [], "x")


def test_memory_does_not_grow_with_samples() -> None:
    """Guards against samples that are collected: each is gone when the next is made."""
    alive: list[int] = [0]

    class Tensor0:
        def __init__(self) -> None:
            alive[0] += 1

        def __del__(self) -> None:
            alive[0] -= 1

    most: list[int] = []
    blank = SimpleNamespace(last_hidden_state=torch.zeros(1, 1, 2), past_key_values=SimpleNamespace(layers=[]))
    inner: Callable[..., Any] = lambda **_: most.append(alive[0]) or blank  # noqa: E731
    inner.layers = []  # type: ignore[attr-defined]
    stats = measure_decoder(SimpleNamespace(model=inner), (Sample((1,), Tensor0()) for _ in range(50)), "x")  # type: ignore[arg-type]
    assert stats.samples == 50
    assert max(most) <= 2
