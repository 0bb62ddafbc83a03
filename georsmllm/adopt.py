"""A preset with a pretrained decoder in it.

`edge-256m` with SmolLM2 is a vision tower that has still to learn to see and a language model that can already speak.
The tokenizer keeps its size: the image's placeholder takes the place of a control token that the decoder's own training
on code left behind and that pictures never need.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from tokenizers import Tokenizer

from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import configure
from gmrt.georsmllm.processor import GeoRSMLLMProcessor, make_processor

CHATML_EOS = "<|im_end|>"
CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' }}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<image>{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""Turns as SmolLM2 and Qwen2 were trained on them, without a system message; images before the question."""


def with_placeholder(backend: Tokenizer, spare: str, image: str = nano.IMAGE) -> Tokenizer:
    """Return the tokenizer with its control token ``spare`` renamed to ``image``, at the same id.

    Raises KeyError when ``spare`` is no added token of it.
    """
    state = json.loads(backend.to_str())
    added = [token for token in state["added_tokens"] if token["content"] == spare]
    if not added:
        raise KeyError(f"the tokenizer has no control token {spare!r}")
    added[0]["content"] = image
    vocab = state["model"]["vocab"]
    if spare in vocab:
        vocab[image] = vocab.pop(spare)
    return Tokenizer.from_str(json.dumps(state))


def with_decoder(
    name: str, decoder: Any, backend: Tokenizer, *, seed: int = 0, eos: str = CHATML_EOS, template: str = CHATML
) -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """Build the preset ``name`` with the weights of ``decoder``, a causal language model; the rest is random.

    The connector's output is brought to the root mean square of the words' embeddings, so that an image that means
    nothing yet does not drown the question. ``seed`` is of the random weights.
    Raises ValueError naming the field in which the decoder has another geometry than the preset says.
    """
    config = configure(name, backend, eos=eos)
    text: Any = config.text_config
    for field in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        theirs, ours = getattr(decoder.config, field), getattr(text, field)
        if theirs != ours:
            raise ValueError(f"the decoder's {field} is {theirs} and the preset {name} says {ours}")
    torch.manual_seed(seed)
    model = GeoRSMLLMForConditionalGeneration(config).eval()
    model.decoder.load_state_dict(decoder.state_dict())
    with torch.inference_mode():
        words = model.get_input_embeddings().weight.square().mean().sqrt()  # type: ignore[operator, union-attr]
        size = config.image_spec.height
        seen = model.encode_images(torch.randn(1, 3, size, size)).square().mean().sqrt()
        model.connector.fc2.weight.mul_(words / seen)
    return model, make_processor(config, backend, eos=eos, image=nano.IMAGE, template=template)
