"""Configuration of GeoRSMLLM as a Hugging Face class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, LlamaConfig, PreTrainedConfig, SiglipVisionConfig

from gmrt.runtime.image import ImageSpec


@strict
class EfficientNetLiteConfig(PreTrainedConfig):
    """The EfficientNet-Lite0 tower; ``image_size`` in pixels, a multiple of 32.

    ``neck`` is the width of the neck that joins the features of three strides, 0 for none; ``hidden_size`` follows it.
    ``places`` is the width of the pyramid that tells a locator what is where, every 8 pixels; 0 for none.
    """

    model_type = "efficientnet_lite"
    base_config_key = "vision_config"

    image_size: int = 256
    patch_size: int = 32
    hidden_size: int = 1280
    neck: int = 0
    places: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        """Set the width of the features that come out."""
        self.hidden_size = self.neck or 1280
        super().__post_init__(**kwargs)


@strict
class GeoRSMLLMConfig(PreTrainedConfig):
    """A vision tower, a connector and a decoder.

    ``shuffle`` is the pixel-shuffle factor of the connector: ``shuffle``² neighbouring patches become one token.
    ``image_mean`` and ``image_std`` are per channel on the 0–1 scale; ``positions`` gives every image token a learnt
    embedding of its place, which a convolutional tower does not bring along. ``measures`` are the scalars that the
    regression head on the last hidden state answers, one output each: ``{"name": "mean height", "unit": "m",
    "mean": 6.0, "std": 4.0}``, with mean and standard deviation of the training data; without any there is no head.
    Where the tower has ``places``, a locator (`gmrt.georsmllm.locator`) finds what is asked for, and the decoder spells
    no coordinates.
    Raises ValueError for parts that do not fit each other.
    """

    model_type = "georsmllm"
    sub_configs = {"vision_config": PreTrainedConfig, "text_config": PreTrainedConfig}

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    shuffle: int = 1
    image_mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_token_id: int = 0
    max_images: int = 2
    connector_dropout: float = 0.0
    positions: bool = False
    measures: list[dict[str, Any]] | tuple[dict[str, Any], ...] = ()
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Turn nested dictionaries into configuration objects and check that the parts fit each other."""
        self.vision_config = _sub_config(self.vision_config, EfficientNetLiteConfig)
        self.text_config = _sub_config(self.text_config, LlamaConfig)
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        if self.head_dim % 16:
            raise ValueError(
                f"head_dim must be a multiple of 16 (the CPU attention kernel asks it), got {self.head_dim}"
            )
        if self.places and self.shuffle > 1:
            raise ValueError(f"a tower with places does not go with a pixel shuffle, got {self.shuffle}")
        if self.grid % self.shuffle:
            raise ValueError(f"a grid of {self.grid} patches does not divide by the pixel shuffle {self.shuffle}")
        _check_measures(self.measures)
        super().__post_init__(**kwargs)

    @property
    def places(self) -> int:
        """Numbers that the tower gives of every place; 0 for a tower, and so a model, without a locator."""
        return int(getattr(self.vision_config, "places", 0))

    @property
    def head_dim(self) -> int:
        """Width of one attention head of the decoder."""
        text: Any = self.text_config
        return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        vision: Any = self.vision_config
        return int(vision.image_size) // int(vision.patch_size)

    @property
    def image_tokens(self) -> int:
        """Embeddings that one image takes in the decoder."""
        return (self.grid // self.shuffle) ** 2

    @property
    def image_spec(self) -> ImageSpec:
        """The preprocessing that desk and field share."""
        vision: Any = self.vision_config
        (r, g, b), (sr, sg, sb) = self.image_mean, self.image_std
        size = int(vision.image_size)
        return ImageSpec(height=size, width=size, mean=(r, g, b), std=(sr, sg, sb), tokens=self.image_tokens)


def _check_measures(measures: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for a measure that lacks a field, spreads over nothing, or has another's name."""
    for measure in measures:
        wanted = "a name, a unit (may be empty), a mean and a std above 0"
        if set(measure) != {"name", "unit", "mean", "std"} or not str(measure["name"]).strip():
            raise ValueError(f"a measure needs {wanted}, got {dict(measure)}")
        if not (math.isfinite(measure["mean"]) and math.isfinite(measure["std"]) and measure["std"] > 0):
            raise ValueError(f"the measure {measure['name']!r} needs {wanted}, got {dict(measure)}")
    names = [measure["name"] for measure in measures]
    if len(set(names)) != len(names):
        raise ValueError(f"two measures have the same name: {', '.join(names)}")


def _sub_config(value: Any, default: type[PreTrainedConfig]) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    fields = dict(value or {})
    kind = fields.pop("model_type", default.model_type)
    own = {"efficientnet_lite": EfficientNetLiteConfig, "siglip_vision_model": SiglipVisionConfig}
    config: PreTrainedConfig = (own.get(kind) or CONFIG_MAPPING[kind])(**fields)
    return config
