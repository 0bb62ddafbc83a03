"""The nano model's own tokenizer: a small byte-fallback BPE in which every whole number from 0 to 999 is one token.

Numbers are counts and coordinates, so they must never be split. Text is lower-cased, because the model is too small to
learn the same word twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gmrt.runtime.points import TAGS
from gmrt.runtime.scalar import VALUE

PAD, EOS, USER, ASSISTANT, IMAGE = "<pad>", "<eos>", "<user>", "<assistant>", "<image>"
CONTROL = (PAD, EOS, USER, ASSISTANT, IMAGE)
ADDED = (*TAGS, VALUE)
NUMBERS = 1000
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "<user>{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}<image>{%- else -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)
"""One user turn: the images first, so that everything up to the question depends on them alone."""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """Train the tokenizer on ``texts``; the vocabulary ends up smaller than ``vocab_size`` when words run out."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, ignore_merges=True))
    bpe.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            # A number always begins a word of its own, so that it is the same token wherever it stands.
            normalizers.Replace(Regex(r"(?<=[^\s\d])(?=\d)"), " "),
        ]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex(r"▁?\d{1,3}"), "isolated"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    numbers = [f"▁{n}" for n in range(NUMBERS)]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - NUMBERS - len(fallback) - len(ADDED) - 10,
        special_tokens=list(CONTROL),
        initial_alphabet=[*"abcdefghijklmnopqrstuvwxyz0123456789▁.,;:?!'\"()-/%+&"],
        show_progress=False,
        min_frequency=2,
    )
    # Numbers are given whole below; left in the training text, they would use up merges.
    bpe.train_from_iterator((_without_digits(text) for text in texts), trainer)

    state = json.loads(bpe.to_str())["model"]
    vocab: dict[str, int] = state["vocab"]
    for token in [*numbers, *fallback]:
        vocab.setdefault(token, len(vocab))
    bpe.model = models.BPE(
        vocab=vocab, merges=[tuple(m) for m in state["merges"]], byte_fallback=True, ignore_merges=True
    )
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            *(decoders.Replace(tag, f" {tag}") for tag in ADDED),  # the space that lstrip took when encoding
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False, lstrip=True) for tag in ADDED])
    return bpe


def _without_digits(text: str) -> str:
    return "".join(" " if c.isdigit() else c for c in text)
