"""Text that a decoder makes up, to calibrate it on its own language without any data.

As in LLM-QAT (Liu et al. 2023, arXiv 2305.17888): the first token is drawn from the whole vocabulary, the others from
what the decoder expects. What comes out is what the model was trained on, as far as it remembers it, and has no licence
of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gmrt.calibration.decoder import Sample, answered, text_samples
from gmrt.calibration.images import ImageSet
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor

_ROWS, _LENGTH, _BATCH = 16, 256, 8


@torch.inference_mode()
def spoken(decoder: Any, *, rows: int, length: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield ``rows`` texts, token ids int64 [length], sampled at temperature 1; the same for the same seed."""
    draw = torch.Generator().manual_seed(seed)
    for start in range(0, rows, _BATCH):
        count = min(_BATCH, rows - start)
        ids = torch.randint(decoder.config.vocab_size, (count, 1), generator=draw)
        cache = None
        while ids.shape[1] < length:
            out = decoder(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            likely = out.logits[:, -1].float().softmax(dim=-1)
            ids = torch.cat([ids, torch.multinomial(likely, 1, generator=draw)], dim=1)
        yield from ids


def decoder_samples(
    model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, images: ImageSet, seed: int
) -> Iterator[Sample]:
    """What a decoder's weights are quantised on: text that it makes up, then images, questions and its own answers.

    The second is what it is asked in the field; the first keeps the rest of its language, of which answers show little.
    """
    length = min(_LENGTH, int(model.decoder.config.max_position_embeddings))
    rows = (ids.tolist() for ids in spoken(model.decoder, rows=_ROWS, length=length, seed=seed))
    return chain(text_samples(model, rows), answered(model, processor, images))
