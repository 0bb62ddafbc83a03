"""The processor as Hugging Face classes: thin wrappers around the codecs that the runtime uses in the field."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoImageProcessor, AutoProcessor, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.prompt import Prompt, PromptLayout, compile_template, encode_prompt

# Kept outside the processor, whose fields are copied and written as JSON.
_compiled = lru_cache(maxsize=8)(compile_template)


class GeoRSMLLMImageProcessor(BaseImageProcessor):
    """`gmrt.runtime.image.prepare` with its specification, saved as ``preprocessor_config.json``."""

    model_input_names = ["pixel_values"]

    def __init__(self, spec: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec or {"height": 256, "width": 256, "mean": [0.5] * 3, "std": [0.5] * 3, "tokens": 64}

    @property
    def image_spec(self) -> ImageSpec:
        """The specification as the runtime's dataclass."""
        return ImageSpec.from_dict(self.spec)

    def __call__(  # type: ignore[override]  # two classes of one name in transformers
        self, images: Any, return_tensors: str | None = "pt", **kwargs: Any
    ) -> BatchFeature:
        """Turn uint8 RGB images [H, W, 3] into ``pixel_values`` float32 [N, 3, height, width]."""
        many = images if isinstance(images, (list, tuple)) else [images]
        pixels = np.stack([prepare(np.asarray(image), self.image_spec) for image in many])
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)


class GeoRSMLLMProcessor(ProcessorMixin):
    """Images and a question in, model inputs out; decodes answers."""

    attributes = ["image_processor", "tokenizer"]
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(
        self,
        image_processor: GeoRSMLLMImageProcessor,
        tokenizer: PreTrainedTokenizerFast,
        chat_template: str | None = None,
        layout: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.chat_template: str = chat_template or nano.CHAT_TEMPLATE
        self.layout = layout or {}

    @property
    def prompt_layout(self) -> PromptLayout:
        """The manifest's prompt layout."""
        return PromptLayout.from_dict(self.layout)

    @property
    def backend(self) -> Tokenizer:
        """The `tokenizers` object that the runtime loads from ``tokenizer.json``."""
        inner: Tokenizer = self.tokenizer.backend_tokenizer
        return inner

    def encode(self, question: str, images: int = 1) -> Prompt:
        """Encode one question exactly as the runtime does."""
        return encode_prompt(
            question,
            images=images,
            tokens_per_image=self.image_processor.image_spec.tokens,
            tokenizer=self.backend,
            template=_compiled(self.chat_template),
            layout=self.prompt_layout,
        )

    def __call__(self, text: str, images: Any, **kwargs: Any) -> BatchFeature:
        """Encode one question about one image or a list of images: input_ids [1, S], pixel_values [N, 3, H, W]."""
        many = images if isinstance(images, (list, tuple)) else [images]
        prompt = self.encode(text, len(many))
        inputs = self.image_processor(many)
        inputs["input_ids"] = torch.from_numpy(prompt.ids)[None]
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer, with the end of the answer behind it."""
        ids = self.backend.encode(answer, add_special_tokens=False).ids
        return [*ids, self.prompt_layout.eos_token_ids[0]]


AutoImageProcessor.register(GeoRSMLLMConfig, slow_image_processor_class=GeoRSMLLMImageProcessor)
AutoProcessor.register(GeoRSMLLMConfig, GeoRSMLLMProcessor)


def token_id(backend: Tokenizer, token: str) -> int:
    """Id of a control token; raises KeyError for a tokenizer that lacks it."""
    found: int | None = backend.token_to_id(token)
    if found is None:
        raise KeyError(f"the tokenizer has no token {token!r}")
    return found


def make_processor(
    config: GeoRSMLLMConfig, backend: Tokenizer, *, eos: str, image: str, template: str
) -> GeoRSMLLMProcessor:
    """Put a processor together for a configuration and a tokenizer; ``eos`` and ``image`` are the tokens' texts."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=eos, clean_up_tokenization_spaces=False
    )
    layout = PromptLayout(
        image_token=image,
        image_token_id=token_id(backend, image),
        eos_token_ids=(token_id(backend, eos),),
        max_images=config.max_images,
    )
    images = GeoRSMLLMImageProcessor(spec=config.image_spec.to_dict())
    return GeoRSMLLMProcessor(images, fast, chat_template=template, layout=layout.to_dict())


def load_processor(checkpoint: Path | str) -> GeoRSMLLMProcessor:
    """Load the processor that lies beside a checkpoint."""
    processor: GeoRSMLLMProcessor = GeoRSMLLMProcessor.from_pretrained(str(checkpoint), local_files_only=True)
    return processor
