"""The named configurations: what ships, what speed is measured on, what tests use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer

from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.data import tokenizer_texts
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor, make_processor, token_id

# The tower's own normalisation: TensorFlow's efficientnet/lite feeds (x - 127) / 128.
LITE_MEAN, LITE_STD = [127 / 255] * 3, [128 / 255] * 3

_TINY_TOWER: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_TINY_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Wide enough that the largest logit of a random model stands clear of the second.
    "initializer_range": 0.2,
}

PRESETS: dict[str, dict[str, Any]] = {
    "nano": {
        "vision_config": {"model_type": "efficientnet_lite", "image_size": 256, "neck": 512, "places": 96},
        "text_config": {
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "initializer_range": 0.05,  # from scratch at this width: 0.02 learns slower (docs/training-log.md)
            "tie_word_embeddings": True,
        },
        "image_mean": LITE_MEAN,
        "image_std": LITE_STD,
        "positions": True,
    },
    "edge-256m": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": 512,
            "patch_size": 16,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        "shuffle": 4,
    },
    "tiny-llama": {
        "vision_config": _TINY_TOWER,
        "text_config": {"model_type": "llama", **_TINY_TEXT, "tie_word_embeddings": True},
        "shuffle": 2,
    },
    "tiny-qwen2": {
        "vision_config": _TINY_TOWER,
        "text_config": {"model_type": "qwen2", **_TINY_TEXT, "tie_word_embeddings": False},
        "shuffle": 2,
    },
}


def configure(
    name: str,
    backend: Tokenizer,
    *,
    image: str = nano.IMAGE,
    eos: str = nano.EOS,
    measures: Sequence[Mapping[str, Any]] = (),
) -> GeoRSMLLMConfig:
    """Return a preset's configuration for a tokenizer, with a regression head for ``measures``.

    Raises KeyError with the known names for an unknown preset.
    """
    if name not in PRESETS:
        raise KeyError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    fields = {**PRESETS[name]}
    fields["text_config"] = {
        **fields["text_config"],
        "vocab_size": backend.get_vocab_size(),
        "bos_token_id": None,
        "eos_token_id": backend.token_to_id(eos),
        "pad_token_id": None,
    }
    return GeoRSMLLMConfig(**fields, image_token_id=token_id(backend, image), measures=[dict(m) for m in measures])


def build(
    name: str,
    *,
    backend: Tokenizer | None = None,
    seed: int = 0,
    measures: Sequence[Mapping[str, Any]] = (),
) -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """Build a preset with random weights (seeded) and a processor; without ``backend``, the field's words make one."""
    backend = backend or nano.train_tokenizer(tokenizer_texts([]))
    config = configure(name, backend, measures=measures)
    torch.manual_seed(seed)
    model = GeoRSMLLMForConditionalGeneration(config).eval()
    processor = make_processor(config, backend, eos=nano.EOS, image=nano.IMAGE, template=nano.CHAT_TEMPLATE)
    return model, processor
