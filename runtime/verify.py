"""Does a bundle still answer as it did when it was exported? Needs nothing but the bundle: no torch, no images.

The manifest's parity record holds a golden case or two: a picture made from a number, a question, and the tokens of an
answer. They are teacher-forced through the bundle on this machine, and the token that came out on top when the bundle
was made must do so again where it did clearly: another CPU sums in another order, which decides close calls only. A
case about a scalar holds the numbers of the regression head too, and how far from them another machine may be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmrt.runtime.backends import Backend, create_backend
from gmrt.runtime.bundle import Bundle, open_bundle
from gmrt.runtime.cache import planned_capacity
from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray, ImageSpec, prepare
from gmrt.runtime.manifest import Manifest
from gmrt.runtime.prompt import encode_prompt

IntArray = npt.NDArray[np.int64]

_COARSE = 8

# A token is firm when its logit leads by this share of the spread of all logits: ten times what kernels differ by.
_FIRM = 0.1


@dataclass(frozen=True)
class Verification:
    """What `verify_bundle` found: ``firm`` golden tokens and numbers were compared, ``matched`` of them came out."""

    manifest: Manifest
    firm: int
    matched: int

    @property
    def ok(self) -> bool:
        """Whether every golden token and number that must come out did."""
        return self.matched == self.firm

    @property
    def parity(self) -> Mapping[str, Any]:
        """The record of the gate that the exporter ran against the checkpoint."""
        return self.manifest.parity


def verify_bundle(path: str | os.PathLike[str], *, provider: str = "cpu") -> Verification:
    """Check every file of a bundle against its manifest, then its golden cases on this machine.

    Raises `BundleNotFoundError`, `BundleError` or `ProviderError` when the bundle cannot be opened or run; whether the
    golden answers came out is in the result.
    """
    bundle = open_bundle(path)
    backend = create_backend(bundle, provider)
    firm = matched = 0
    for case in _golden_cases(bundle.manifest):
        image = backend.encode(case.pixels(bundle.manifest.image)[None]).embeds[0]
        found = replay(bundle, backend, image, case.question, case.answer)
        hits = bundle.tokens(found.logits.argmax(axis=-1)) == np.asarray(case.top)
        firm += sum(case.firm) + len(case.values)
        matched += int(hits[np.asarray(case.firm, dtype=np.bool_)].sum())
        if case.values:
            matched += int((np.abs(found.values[0] - np.asarray(case.values)) <= np.asarray(case.within)).sum())
    return Verification(bundle.manifest, firm, matched)


@dataclass(frozen=True)
class GoldenCase:
    """A picture by its seed, a question, and the tokens of an answer that is teacher-forced.

    ``top`` is the token that came out on top before each token of ``answer`` and behind the last, ``firm`` whether it
    did so clearly. ``values`` are all numbers of the regression head where the answer begins, ``within`` what they may
    be off by; both are empty where the question is not about a scalar.
    """

    seed: int
    question: str
    answer: tuple[int, ...]
    top: tuple[int, ...]
    firm: tuple[bool, ...]
    values: tuple[float, ...] = ()
    within: tuple[float, ...] = ()

    def pixels(self, spec: ImageSpec) -> FloatArray:
        """The picture as the tower takes it, float32 [3, H, W]."""
        return golden_pixels(self.seed, spec)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def golden_pixels(seed: int, spec: ImageSpec) -> FloatArray:
    """A soft pattern of 8 × 8 colours, float32 [3, H, W], from raw generator bits, which no numpy release changes."""
    count = _COARSE * _COARSE * 3
    bits = np.random.PCG64(seed).random_raw(count)
    return prepare((bits & np.uint64(255)).astype(np.uint8).reshape(_COARSE, _COARSE, 3), spec)


def golden_case(bundle: Bundle, seed: int, question: str, answer: Sequence[int], logits: FloatArray) -> GoldenCase:
    """Make a golden case, without numbers, of an answer and the logits [len(answer) + 1, V] around its tokens."""
    second, first = np.partition(logits, -2, axis=-1)[:, -2:].T
    firm = first - second > _FIRM * logits.std(axis=-1)
    top = tuple(int(token) for token in bundle.tokens(logits.argmax(axis=-1)))
    return GoldenCase(seed, question, tuple(answer), top, tuple(bool(f) for f in firm))


class Replay(NamedTuple):
    """What a bundle says before each token of an answer and behind the last.

    ``logits`` float32 [n, V] of the words that the head can give (`Bundle.tokens`), ``values`` float32 [n, K]: every
    number of the regression head, none without a head.
    ``hidden`` float32 [n, D] is what a head reads, [n, 0] where there is none.
    """

    logits: FloatArray
    values: FloatArray
    hidden: FloatArray


def replay(
    bundle: Bundle, backend: Backend, image: FloatArray, question: str, answer: Sequence[int] | IntArray
) -> Replay:
    """Teacher-force an answer; n = len(answer) + 1.

    ``image`` float32 [T, D] is the tower's; ``answer`` token ids. Raises `CacheFullError` when it all is too long.
    """
    embeds, prompt = embed_case(bundle, image, question, answer)
    decoder = backend.bind(backend.new_cache(planned_capacity(len(embeds), bundle.manifest.cache)))
    positions = np.arange(prompt - 1, len(embeds), dtype=np.int64)
    logits = decoder.prefill(embeds[None], positions[None])[0]
    hidden = decoder.last_hidden
    states = np.empty((len(logits), 0), np.float32) if hidden is None else hidden[0]
    values = backend.measure(states) if bundle.manifest.heads is not None else np.empty((len(logits), 0), np.float32)
    return Replay(logits, values, states)


def embed_case(
    bundle: Bundle, image: FloatArray, question: str, answer: Sequence[int] | IntArray
) -> tuple[FloatArray, int]:
    """Embed prompt and answer, float32 [S, D], with the image [T, D] in its place; and return the prompt's length."""
    layout = bundle.manifest.prompt
    prompt = encode_prompt(
        question,
        images=1,
        tokens_per_image=len(image),
        tokenizer=bundle.tokenizer,
        template=bundle.template,
        layout=layout,
    )
    embeds = bundle.table.lookup(np.concatenate([prompt.ids, np.asarray(answer, dtype=np.int64)]))
    # Only in the prompt: a token of an answer is a word, even when it is the placeholder.
    embeds[np.flatnonzero(prompt.ids == layout.image_token_id)] = image
    return embeds, len(prompt.ids)


def _golden_cases(manifest: Manifest) -> list[GoldenCase]:
    try:
        cases = [
            GoldenCase(
                seed=int(entry["seed"]),
                question=str(entry["question"]),
                answer=tuple(int(token) for token in entry["answer"]),
                top=tuple(int(token) for token in entry["top"]),
                firm=tuple(bool(flag) for flag in entry["firm"]),
                values=tuple(float(value) for value in entry.get("values", ())),
                within=tuple(float(value) for value in entry.get("within", ())),
            )
            for entry in manifest.parity["golden"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"bundle.json: the golden cases are not readable ({error!r}): export the bundle again"
        ) from None
    known = range(manifest.vocab_size)
    widths = (0, 0 if manifest.heads is None else len(manifest.heads.measures))
    for case in cases:
        tokens = len(case.answer) + 1 == len(case.top) == len(case.firm) and all(t in known for t in case.answer)
        if not tokens or len(case.values) != len(case.within) or len(case.values) not in widths:
            raise BundleError("bundle.json: a golden case is not well-formed: export the bundle again")
    return cases
