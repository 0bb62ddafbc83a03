"""What the checkpoint itself says, in PyTorch: the truth that a bundle is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gmrt.calibration.decoder import answer_ends
from gmrt.export.checkpoint import Checkpoint
from gmrt.georsmllm.model import greedy

FloatArray = npt.NDArray[np.float32]

MAX_TOKENS = 24


@dataclass(frozen=True)
class Case:
    """One picture and one question, answered by the checkpoint.

    ``pixels`` [3, H, W]; ``answer`` the greedy tokens, without the end; ``image_embeds`` [T, D] and
    ``image_places`` [P, G, G], None without a locator; ``embeds`` [S, D] of
    prompt and answer; at each of the n = len(answer) + 1 positions that a token was chosen at: ``logits`` [n, V],
    ``last_hidden`` [n, D]; ``cache`` key and value of each layer, [heads, S, head_dim].
    """

    pixels: FloatArray
    question: str
    answer: tuple[int, ...]
    image_embeds: FloatArray
    image_places: FloatArray | None
    embeds: FloatArray
    logits: FloatArray
    last_hidden: FloatArray
    cache: tuple[tuple[FloatArray, FloatArray], ...]


def answer_cases(checkpoint: Checkpoint, pixels: FloatArray, questions: Iterable[str]) -> Iterator[Case]:
    """Look at a picture once and answer questions about it greedily, one after another."""
    with torch.inference_mode():
        seen = checkpoint.model.see(torch.from_numpy(pixels)[None])
    for question in questions:
        yield _answer(checkpoint, pixels, seen, question)


@torch.inference_mode()
def _answer(checkpoint: Checkpoint, pixels: FloatArray, seen: tuple[Tensor, Tensor | None], question: str) -> Case:
    """Answer greedily, then read everything off one pass over prompt and answer."""
    model, processor = checkpoint.model, checkpoint.processor
    image_embeds, image_places = seen
    prompt = model.embed(torch.from_numpy(processor.encode(question).ids)[None], image_embeds)
    answer = greedy(model, prompt, answer_ends(model, processor), MAX_TOKENS)
    words = model.get_input_embeddings()(torch.tensor([answer], dtype=torch.long))
    embeds = torch.cat([prompt, words], dim=1)
    out = model.decoder(inputs_embeds=embeds, use_cache=True, output_hidden_states=True)
    first = prompt.shape[1] - 1
    return Case(
        pixels=pixels,
        question=question,
        answer=tuple(answer),
        image_embeds=image_embeds[0].numpy(),
        image_places=None if image_places is None else image_places[0].numpy(),
        embeds=embeds[0].numpy(),
        logits=out.logits[0, first:].numpy(),
        last_hidden=out.hidden_states[-1][0, first:].numpy(),
        cache=tuple((layer.keys[0].numpy(), layer.values[0].numpy()) for layer in out.past_key_values.layers),
    )
