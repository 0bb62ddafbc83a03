"""A question and how to answer it, checked whole before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gmrt.runtime.bundle import Bundle
from gmrt.runtime.cache import planned_capacity
from gmrt.runtime.constrain import YES_NO, Choice, choice
from gmrt.runtime.errors import ConstraintError, PromptError
from gmrt.runtime.prompt import Prompt, encode_prompt
from gmrt.runtime.sampling import Sampler, make_sampler
from gmrt.runtime.text import TextStream

MAX_TOKENS = 128
"""Enough for a caption, a count or a handful of regions."""


@dataclass(frozen=True)
class Options:
    """How to answer; the meaning of each is in `gmrt.runtime.model.View.stream`."""

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str | Sequence[str] = ()
    choices: Sequence[str] | None = None
    yes_no: bool = False


@dataclass(frozen=True)
class Request:
    """A question that can run, once: ``sampler``, ``choice`` and ``text`` carry the state of that run.

    ``capacity`` is what the KV cache must hold, in tokens.
    """

    question: str
    prompt: Prompt
    max_tokens: int
    capacity: int
    sampler: Sampler
    choice: Choice | None
    text: TextStream


def make_request(question: str, options: Options, *, bundle: Bundle, images: int, max_capacity: int) -> Request:
    """Check a question about ``images`` images against a bundle and a bound on the cache.

    Raises `PromptError` for a question that is empty, too long or holds a control token, `ConstraintError` for options
    that are out of range or cannot be met together, `CacheFullError` when prompt and answer do not fit.
    """
    manifest = bundle.manifest
    if options.max_tokens < 1:
        raise ConstraintError(f"max_tokens must be at least 1, got {options.max_tokens}")
    if options.yes_no and options.choices is not None:
        raise ConstraintError("choices and yes_no exclude each other: give one of them")
    texts = YES_NO if options.yes_no else options.choices
    if texts is not None and options.stop:
        raise ConstraintError("a choice ends by itself: leave out stop")
    prompt = encode_prompt(
        question,
        images=images,
        tokens_per_image=manifest.image.tokens,
        tokenizer=bundle.tokenizer,
        template=bundle.template,
        layout=manifest.prompt,
    )
    length = len(prompt.ids)
    if length >= max_capacity:
        raise PromptError(f"the prompt takes {length} tokens and this model holds {max_capacity}: shorten it")
    held_to = None
    if texts is not None:
        held_to = choice(
            texts,
            prompt=prompt.text,
            tokenizer=bundle.tokenizer,
            eos=manifest.prompt.eos_token_ids,
            max_tokens=options.max_tokens,
        )
    # A choice ends by itself, and needs no more room than its longest text.
    max_tokens = options.max_tokens if held_to is None else held_to.longest
    return Request(
        question=question,
        prompt=prompt,
        max_tokens=max_tokens,
        capacity=planned_capacity(length + max_tokens, manifest.cache, limit=max_capacity),
        sampler=make_sampler(
            temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, seed=options.seed
        ),
        choice=held_to,
        text=TextStream(bundle.tokenizer, options.stop),
    )
