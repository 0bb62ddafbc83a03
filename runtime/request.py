"""A question and how to answer it, checked whole before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from gmrt.runtime.bundle import Bundle
from gmrt.runtime.cache import planned_capacity
from gmrt.runtime.constrain import NUMBERS, YES_NO, Choice, Constraint, choice, spell
from gmrt.runtime.errors import ConstraintError, PromptError
from gmrt.runtime.lexicon import tag_tokens
from gmrt.runtime.location import Guard, Location, tokens_for_one
from gmrt.runtime.locator import LocatorGuard
from gmrt.runtime.points import KINDS, NONE, Kind
from gmrt.runtime.prompt import Prompt, encode_prompt
from gmrt.runtime.sampling import Sampler, make_sampler
from gmrt.runtime.scalar import ScalarGuard
from gmrt.runtime.schema import JsonText, SchemaGuard, bounded
from gmrt.runtime.text import TextStream

MAX_TOKENS = 256
"""How long an answer may be unless it is said, or less where the model has no room for it.

A caption takes 30 tokens and 31 boxes take 156; twice the room of 128 costs the nano model 0.8 MB, and that only once
it is written to: the cache is untouched memory until then, and a step takes as long in a cache of 384 as in one of 256.
"""


class Decoding(TypedDict, total=False):
    """The fields of `Options` as keywords."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str | Sequence[str]
    choices: Sequence[str] | None
    yes_no: bool
    number: bool
    points: bool | Kind
    max_regions: int | None
    schema: Mapping[str, Any] | None


@dataclass(frozen=True)
class Options:
    """How to answer; the meaning of each is in `gmrt.runtime.model.View.stream`."""

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str | Sequence[str] = ()
    choices: Sequence[str] | None = None
    yes_no: bool = False
    number: bool = False
    points: bool | Kind = False
    max_regions: int | None = None
    schema: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Raise `ConstraintError` for options that are out of range or cannot be met together."""
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConstraintError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not isinstance(self.points, bool) and self.points not in KINDS:
            raise ConstraintError(f"points must be True or one of {', '.join(KINDS)}, got {self.points!r}")
        if self.max_regions is not None and (not self.points or self.max_regions < 1):
            raise ConstraintError(f"max_regions must be at least 1 and needs points, got {self.max_regions}")
        forms = {
            "choices": self.choices is not None,
            "yes_no": self.yes_no,
            "number": self.number,
            "points": bool(self.points),
            "schema": self.schema is not None,
        }
        given = [name for name, asked in forms.items() if asked]
        if len(given) > 1:
            raise ConstraintError(f"{' and '.join(given)} exclude each other: give one of them")
        if given and self.stop:
            raise ConstraintError(f"an answer held to {given[0]} ends by itself: leave out stop")
        if self.schema is not None:
            bounded(self.schema)

    @property
    def texts(self) -> Sequence[str] | None:
        """The closed set that the answer must come from, None for any other answer."""
        return YES_NO if self.yes_no else NUMBERS if self.number else self.choices


@dataclass(frozen=True)
class Request:
    """A question that can run, once: ``sampler``, ``constraint`` and ``text`` carry the state of that run.

    ``choice`` is the constraint when it is a closed set; ``locator``, the constraint or within it, tells whether the
    answer is a location that the bundle's locator gives. ``capacity`` is what the KV cache must hold, in tokens.
    """

    question: str
    prompt: Prompt
    max_tokens: int
    capacity: int
    sampler: Sampler
    constraint: Constraint | None
    text: TextStream | JsonText
    max_regions: int | None = None
    locator: LocatorGuard | None = None

    @property
    def choice(self) -> Choice | None:
        """The closed set that holds the answer, unless it is counted."""
        held = self.constraint.otherwise if isinstance(self.constraint, ScalarGuard) else self.constraint
        return held if isinstance(held, Choice) else None

    @property
    def structure(self) -> SchemaGuard | None:
        """The schema that holds the answer."""
        return self.constraint if isinstance(self.constraint, SchemaGuard) else None

    @property
    def scalar(self) -> ScalarGuard | None:
        """What tells whether the answer is a scalar, where the bundle can measure."""
        return self.constraint if isinstance(self.constraint, ScalarGuard) else None


def make_request(question: str, options: Options, *, bundle: Bundle, images: int, max_capacity: int) -> Request:
    """Check a question about ``images`` images against a bundle and a bound on the cache.

    Raises `PromptError` for a question that is empty, too long or holds a control token, `ConstraintError` for options
    that are out of range or cannot be met together, `CacheFullError` when prompt and answer do not fit.
    """
    manifest = bundle.manifest
    options.check()
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
    budget = min(MAX_TOKENS, max_capacity - length) if options.max_tokens is None else options.max_tokens
    locator = _locator_guard(options, bundle)
    constraint = _constraint(options, prompt, bundle, budget, locator)
    # What ends by itself needs no more room than its longest form.
    held = constraint.otherwise if isinstance(constraint, ScalarGuard) else constraint
    max_tokens = held.longest if isinstance(held, (Choice, Location)) else budget
    return Request(
        question=question,
        prompt=prompt,
        max_tokens=max_tokens,
        capacity=planned_capacity(length + max_tokens, manifest.cache, limit=max_capacity),
        sampler=make_sampler(
            temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, seed=options.seed
        ),
        constraint=constraint,
        text=TextStream(bundle.tokenizer, options.stop) if options.schema is None else JsonText(bundle.spelling),
        max_regions=options.max_regions,
        locator=locator,
    )


def _locator_guard(options: Options, bundle: Bundle) -> LocatorGuard | None:
    """What watches for a location, where the bundle has a locator and the answer may be one."""
    tags = tag_tokens(bundle.tokenizer)
    if bundle.locator is None or tags is None or options.texts is not None or options.schema is not None:
        return None
    kinds = KINDS if options.points is True else (options.points,) if options.points else ()
    return LocatorGuard(tags, kinds)


def _constraint(
    options: Options, prompt: Prompt, bundle: Bundle, budget: int, locator: LocatorGuard | None
) -> Constraint | None:
    """What the options ask for; without any, the guards over answers that turn out to be locations or scalars."""
    tokenizer, eos = bundle.tokenizer, bundle.manifest.prompt.eos_token_ids
    if options.schema is not None:
        return SchemaGuard(bundle.spelling, options.schema, eos)
    if options.texts is not None:
        held = choice(
            options.texts,
            prompt=prompt.text,
            tokenizer=tokenizer,
            eos=eos,
            max_tokens=budget,
            vocabulary=bundle.vocabulary,
        )
        counting = None if bundle.scalars is None or not options.number else bundle.scalars.counting
        return held if counting is None else ScalarGuard(counting, eos, otherwise=held)
    if options.points and locator is not None:
        return locator
    if options.points:
        kinds = KINDS if options.points is True else (options.points,)
        (none,) = spell([NONE], prompt=prompt.text, tokenizer=tokenizer)
        needed = tokens_for_one(bundle.lexicon, kinds, none)
        if budget < needed:
            raise ConstraintError(f"a location takes up to {needed} tokens: raise max_tokens from {budget}")
        return Location(
            bundle.lexicon, kinds=kinds, eos=eos, max_tokens=budget, max_regions=options.max_regions, none=none
        )
    tags = tag_tokens(tokenizer)
    guard: Constraint | None = locator
    if guard is None and tags is not None:
        guard = Guard(tags, lambda: Location(bundle.lexicon, kinds=KINDS, eos=eos, max_tokens=budget))
    return guard if bundle.scalars is None else ScalarGuard(bundle.scalars, eos, otherwise=guard)
