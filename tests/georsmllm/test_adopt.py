"""A pretrained decoder in a preset: its weights, its tokenizer, and an image that does not drown its words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from gmrt.georsmllm.adopt import CHATML, with_decoder, with_placeholder
from gmrt.georsmllm.data import tokenizer_texts
from gmrt.georsmllm.presets import PRESETS
from gmrt.georsmllm.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    """A tokenizer with ChatML's control tokens and one to spare, and without a placeholder for images."""
    made = train_tokenizer(tokenizer_texts([]))
    made.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>", "<spare>")])
    return with_placeholder(made, "<image>", "<old>")


@pytest.fixture(scope="module")
def decoder(backend: Tokenizer) -> Any:
    """A random language model of the tiny preset's geometry."""
    fields = {k: v for k, v in PRESETS["tiny-llama"]["text_config"].items() if k != "model_type"}
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**fields, vocab_size=backend.get_vocab_size()))


def test_the_placeholder_takes_a_spare_token(backend: Tokenizer) -> None:
    """Guards against a vocabulary that grows beyond the decoder's rows, and a placeholder that is split."""
    made = with_placeholder(backend, "<spare>")
    assert made.get_vocab_size() == backend.get_vocab_size()
    assert made.token_to_id("<image>") == backend.token_to_id("<spare>")
    assert made.encode("<image>", add_special_tokens=False).ids == [made.token_to_id("<image>")]
    with pytest.raises(KeyError, match="<none>"):
        with_placeholder(backend, "<none>")


def test_the_decoder_speaks_as_before(backend: Tokenizer, decoder: Any) -> None:
    """Guards against weights that are initialised again, and image embeddings of another size than words."""
    model, processor = with_decoder("tiny-llama", decoder, with_placeholder(backend, "<spare>"))
    ids = torch.tensor([[5, 9, 17, 200]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, decoder(input_ids=ids).logits)
        words = model.get_input_embeddings().weight.square().mean().sqrt()
        seen = model.encode_images(torch.randn(1, 3, 32, 32)).square().mean().sqrt()
    assert 0.5 < float(seen / words) < 2
    prompt = processor.encode("describe")
    assert processor.backend.decode(prompt.ids[prompt.prefix :].tolist(), skip_special_tokens=False).count("<|im_") == 2
    assert processor.prompt_layout.eos_token_ids == (processor.backend.token_to_id("<|im_end|>"),)
    assert CHATML.count("<image>") == 1


def test_another_geometry_is_named(backend: Tokenizer, decoder: Any) -> None:
    """Guards against a decoder that loads in part."""
    other = LlamaForCausalLM(LlamaConfig(**{**decoder.config.to_dict(), "num_hidden_layers": 1}))
    with pytest.raises(ValueError, match="num_hidden_layers is 1 and the preset tiny-llama says 2"):
        with_decoder("tiny-llama", other, with_placeholder(backend, "<spare>"))
