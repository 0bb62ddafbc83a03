"""Which words a head keeps where an export leaves out what answers do not use.

In this order, until there are as many as were asked for:

    needed   control and added tokens, one for every byte, so that any text can still be written, and what the answers
             are spelled in that the runtime holds a model to: yes and no, whole numbers, tags of regions, measures
    said     every token of the checkpoint's own answers about the calibration images
    spoken   tokens of text that the decoder makes up (`gmrt.calibration.spoken`), the frequent ones first
    ranked   the lowest ids: a byte-pair tokenizer numbers its words in the order of its merges, frequent ones first

The first two are kept whole, or the export is refused. So wherever the checkpoint's greedy answer about a calibration
image has a word, the head has it too: its greedy text there is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from gmrt.calibration.decoder import answered
from gmrt.calibration.images import ImageSet
from gmrt.calibration.spoken import spoken
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.runtime.constrain import NUMBERS, YES_NO, spell
from gmrt.runtime.errors import ConstraintError, GmrtError
from gmrt.runtime.lexicon import read_lexicon, tag_tokens
from gmrt.runtime.points import NONE
from gmrt.runtime.scalar import Measure, read_scalars
from gmrt.runtime.vocabulary import Ids

_ROWS, _LENGTH = 32, 256


@dataclass(frozen=True)
class Kept:
    """The token ``ids`` int64 [n], ascending, that a head keeps of ``of``; how many were ``needed`` and ``said``."""

    ids: Ids
    of: int
    needed: int
    said: int
    source: str

    def to_dict(self) -> dict[str, int | str]:
        """Return the record that the bundle keeps."""
        return {
            "kept": len(self.ids),
            "of": self.of,
            "needed": self.needed,
            "said": self.said,
            "source": self.source,
        }


def choose_vocabulary(
    model: GeoRSMLLMForConditionalGeneration,
    processor: GeoRSMLLMProcessor,
    images: ImageSet,
    *,
    size: int,
    seed: int = 0,
) -> Kept:
    """Choose the ``size`` words that a head keeps; ``images`` are asked about as in calibration.

    Raises `GmrtError` as `check_size` does, and when ``size`` does not hold what was said.
    """
    of, needed = int(model.decoder.config.vocab_size), check_size(model, processor, size)
    said = said_tokens(model, processor, images)
    if len(needed | said) > size:
        raise _refusal(size, f"{len(needed | said)} are needed for the answers about {images.source}")
    length = min(_LENGTH, int(model.decoder.config.max_position_embeddings))
    texts = spoken(model.decoder, rows=_ROWS, length=length, seed=seed)
    heard = Counter(chain.from_iterable(text.tolist() for text in texts))
    ranked = chain(sorted(needed | said), (token for token, _ in heard.most_common()), range(of))
    ids = np.sort(np.array(_first(ranked, size), np.int64))
    return Kept(ids, of, len(needed), len(said - needed), images.source)


def check_size(model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, size: int) -> frozenset[int]:
    """Return `needed_tokens`; raises `GmrtError` where ``size`` does not hold them, or is all words or more."""
    of = int(model.decoder.config.vocab_size)
    if not 0 < size < of:
        raise GmrtError(f"a head of {size} words cannot be made of one of {of}: ask for less than {of}")
    needed = needed_tokens(model, processor)
    if len(needed) > size:
        raise _refusal(size, f"{len(needed)} are needed to write any text at all and to hold answers to their forms")
    return needed


def needed_tokens(model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor) -> frozenset[int]:
    """Tokens without which a bundle could not write every text, end an answer, or hold one to a form."""
    tokenizer, eos = processor.backend, processor.prompt_layout.eos_token_ids
    letters = (*ByteLevel.alphabet(), "▁", *(f"<0x{byte:02X}>" for byte in range(256)))
    known = (tokenizer.token_to_id(letter) for letter in letters)
    return frozenset(
        chain(
            eos,
            tokenizer.get_added_tokens_decoder(),
            (id_ for id_ in known if id_ is not None),
            _spelled(processor.encode("describe").text, tokenizer),
            _measured(model, tokenizer),
        )
    )


def said_tokens(
    model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, images: ImageSet
) -> frozenset[int]:
    """Tokens of the checkpoint's own answers about images, and of what it is asked."""
    return frozenset(chain.from_iterable(sample.ids for sample in answered(model, processor, images)))


def _spelled(prompt: str, tokenizer: Tokenizer) -> set[int]:
    """Tokens of yes, no, whole numbers and locations, as far as this tokenizer can be held to them."""
    found: set[int] = set()
    try:
        for tokens in spell([*YES_NO, *NUMBERS, NONE], prompt=prompt, tokenizer=tokenizer):
            found.update(tokens)
        if tag_tokens(tokenizer) is not None:
            found |= read_lexicon(tokenizer).tokens
    except ConstraintError:  # a bundle of this tokenizer refuses such questions, whatever its head
        pass
    return found


def _measured(model: GeoRSMLLMForConditionalGeneration, tokenizer: Tokenizer) -> Iterable[int]:
    measures = tuple(Measure(measure["name"], measure["unit"]) for measure in model.config.measures)
    scalars = read_scalars(tokenizer, measures, counts=model.locator is not None)
    return () if scalars is None else chain.from_iterable(scalars.spellings)


def _first(tokens: Iterable[int], count: int) -> list[int]:
    """The first ``count`` different ones."""
    found: dict[int, None] = {}
    for token in tokens:
        found[token] = None
        if len(found) == count:
            break
    return list(found)


def _refusal(size: int, why: str) -> GmrtError:
    return GmrtError(f"a head of {size} words is too small, because {why}: ask for more")
