"""Teacher-forced agreement and perplexity: what a decoder expects next, all along a text that is given.

A quantised decoder is compared with its checkpoint on the same sequences: at how many positions the same token comes
out on top, and how much less likely the text itself becomes. Free-running text would diverge after one different word
and measure luck; here every position is judged on the same past.
"""

from __future__ import annotations

import pydoc_data.topics
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from gmrt.georsmllm import prompts
from gmrt.georsmllm.data import Example
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.runtime.backends import Backend
from gmrt.runtime.bundle import Bundle
from gmrt.runtime.cache import planned_capacity
from gmrt.runtime.image import prepare
from gmrt.runtime.scene import decode_image

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

TIE = 1e-3
"""Where the reference's own two best logits are closer than this, it is undecided, and nothing is compared."""

_PROSE = re.compile(r"[A-Z][A-Za-z ,;:.'()/\"\n-]+[.]")
_LEAST = 80


@dataclass(frozen=True, eq=False)
class Passage:
    """Token ids int64 [S], judged from position ``first`` on: how likely is each of ``ids[first + 1:]``?

    ``image`` float32 [T, D] stands for the placeholders up to ``first``, None in a text without one.
    """

    ids: IntArray
    first: int = 0
    image: FloatArray | None = None

    @property
    def targets(self) -> IntArray:
        """The tokens that are judged, int64 [S - 1 - first]."""
        return self.ids[self.first + 1 :]

    def embeds(self, lookup: Callable[[IntArray], FloatArray], placeholder: int) -> FloatArray:
        """What a decoder is given, float32 [S - 1, D]; ``lookup`` is its token table."""
        made = np.array(lookup(self.ids[:-1]), np.float32)
        if self.image is not None:
            made[np.flatnonzero(self.ids[: self.first + 1] == placeholder)] = self.image
        return made


@dataclass(frozen=True, eq=False)
class Forced:
    """What was expected at n positions.

    ``top`` int64 [n] is the token with the largest logit, ``margin`` float32 [n] how far it is above the second, and
    ``nll`` float64 [n] the negative log probability, in nats, of the token that follows in the text.
    """

    top: IntArray
    margin: FloatArray
    nll: npt.NDArray[np.float64]

    @property
    def positions(self) -> int:
        """Positions judged."""
        return len(self.top)

    @property
    def perplexity(self) -> float:
        """Exp of the mean negative log probability; 1 for a text that is certain, the vocabulary's size for a guess."""
        return float(np.exp(self.nll.mean()))

    def agreement(self, reference: Forced) -> float:
        """Share of the positions where both have the same token on top, without the reference's ties."""
        clear = reference.margin >= TIE
        return float((self.top == reference.top)[clear].mean())


def judge(logits: FloatArray, targets: IntArray) -> Forced:
    """Judge logits [n, V] at positions whose next tokens are ``targets`` [n]."""
    second, first = np.partition(logits, -2, axis=-1)[:, -2:].T
    shifted = logits.astype(np.float64) - first[:, None]
    nll = np.log(np.exp(shifted).sum(axis=-1)) - shifted[np.arange(len(targets)), targets]
    return Forced(logits.argmax(axis=-1), first - second, nll)


def join(parts: Iterable[Forced]) -> Forced:
    """Several passages as one, in order; raises ValueError without any."""
    columns = zip(*((part.top, part.margin, part.nll) for part in parts), strict=True)
    return Forced(*(np.concatenate(column) for column in columns))


@torch.inference_mode()
def judge_checkpoint(model: GeoRSMLLMForConditionalGeneration, passage: Passage) -> Forced:
    """Judge a passage in PyTorch."""
    table = model.get_input_embeddings()
    embeds = passage.embeds(lambda ids: table(torch.from_numpy(ids)).numpy(), model.config.image_token_id)
    hidden = model.decoder.model(inputs_embeds=torch.from_numpy(embeds)[None], use_cache=False).last_hidden_state
    return judge(model.decoder.lm_head(hidden[0, passage.first :]).float().numpy(), passage.targets)


def judge_bundle(bundle: Bundle, backend: Backend, passage: Passage) -> Forced:
    """Judge a passage with a bundle's decoder and token table; raises `CacheFullError` when it is too long."""
    embeds = passage.embeds(bundle.table.lookup, bundle.manifest.prompt.image_token_id)
    decoder = backend.bind(backend.new_cache(planned_capacity(len(embeds), bundle.manifest.cache)))
    positions = np.arange(passage.first, len(embeds), dtype=np.int64)[None]
    return judge(decoder.prefill(embeds[None], positions)[0], passage.targets)


def question_passages(
    model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, examples: Iterable[Example]
) -> Iterator[Passage]:
    """Every example's first caption and published questions, asked about its image, with the true answers.

    The image's embeddings are the checkpoint's: what is judged is the decoder.
    """
    spec = processor.image_processor.image_spec
    for example in examples:
        asked = [(prompts.CAPTION[0], caption) for caption in example.captions[:1]]
        asked += [(question.text, question.answer) for question in example.questions if question.task == "qa"]
        scene = decode_image(example.image)
        with torch.inference_mode():
            image = model.encode_images(torch.from_numpy(prepare(scene.rgb, spec, scene.valid))[None])[0].numpy()
        for text, answer in asked:
            prompt = processor.encode(text).ids
            yield Passage(np.concatenate([prompt, processor.answer_ids(answer)]), len(prompt) - 1, image)


def english_passages(tokenizer: Tokenizer, length: int = 512) -> Iterator[Passage]:
    """The paragraphs of `english`, as passages of ``length`` tokens."""
    rows = (tokenizer.encode(text, add_special_tokens=False).ids for text in english())
    return (Passage(window) for window in windows(rows, length))


def english() -> Iterator[str]:
    """Paragraphs of ordinary English that every Python installation holds: prose of its reference manual (PSF licence).

    Taken from ``pydoc_data.topics`` in its order: paragraphs without indentation, digits or markup that begin and
    end as sentences do.
    """
    for topic in pydoc_data.topics.topics.values():
        for paragraph in topic.split("\n\n"):
            if len(paragraph) >= _LEAST and _PROSE.fullmatch(paragraph):
                yield " ".join(paragraph.split())


def windows(rows: Iterable[Sequence[int]], length: int) -> Iterator[IntArray]:
    """Put token ids one behind the other and cut them into windows int64 [length]; a rest is left out."""
    kept: list[int] = []
    for row in rows:
        kept += row
        while len(kept) >= length:
            yield np.array(kept[:length], np.int64)
            kept = kept[length:]
