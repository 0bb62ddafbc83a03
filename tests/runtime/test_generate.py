"""The token loop, against a decoder that plays back a script: no weights, no kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from gmrt.runtime.cache import KVCache
from gmrt.runtime.constrain import Choice
from gmrt.runtime.embeddings import TokenTable
from gmrt.runtime.errors import BundleError, CacheFullError
from gmrt.runtime.generate import Token, decode_tokens
from gmrt.runtime.manifest import CacheGeometry
from gmrt.runtime.sampling import greedy

VOCAB, EOS, PROMPT, PREFIX = 6, 5, 7, 4


class Script:
    """A decoder whose greedy tokens are given: after token ``t`` comes ``follows[t]``."""

    def __init__(self, follows: dict[int, int], capacity: int = 32) -> None:
        self.cache = KVCache(CacheGeometry(1, 1, 16, "float32", 32), capacity)
        self.cache.advance(PROMPT)
        self.embeds = np.zeros((1, 1, 1), np.float32)
        self.logits = np.zeros((1, 1, VOCAB), np.float32)
        self.follows = follows
        self.run: list[int] = []
        self.together: list[list[int]] = []

    def prefill(self, embeds: np.ndarray, logits_at: np.ndarray) -> np.ndarray:
        """Take the tokens out of embeddings [1, S, 1] and answer with what follows each."""
        self.cache.require(embeds.shape[1])
        tokens = [int(value) for value in embeds[0, :, 0]]
        self.together.append(tokens)
        self.cache.advance(len(tokens))
        return np.stack([row(self.follows[tokens[at]]) for at in logits_at[0]])[None]

    def step(self) -> None:
        """Take the token out of the embedding and answer with what follows."""
        self.cache.require(1)
        token = int(self.embeds[0, 0, 0])
        self.run.append(token)
        self.logits[0, 0] = row(self.follows[token])
        self.cache.advance(1)


def row(likeliest: int) -> np.ndarray:
    """Logits in which one token has e times the weight of each other."""
    logits = np.zeros(VOCAB, np.float32)
    logits[likeliest] = 1
    return logits


TABLE = TokenTable(np.arange(VOCAB, dtype=np.float32)[:, None])


def tokens(
    script: Script, *, logits: np.ndarray | None = None, max_tokens: int = 20, constraint: Choice | None = None
) -> Iterator[Token]:
    """Generate with the greedy sampler."""
    return decode_tokens(
        script,
        TABLE,
        row(1) if logits is None else logits,
        sampler=greedy,
        constraint=constraint,
        eos=frozenset([EOS]),
        max_tokens=max_tokens,
        rewind_to=PREFIX,
    )


def test_ends_at_the_end_token_without_running_it() -> None:
    """Guards against wasted steps behind the end, and against an end token that is swallowed or repeated."""
    script = Script({1: 2, 2: EOS})
    assert [t.id for t in tokens(script)] == [1, 2, EOS]
    assert script.run == [1, 2]
    assert script.cache.length == PREFIX


def test_ends_at_max_tokens_without_running_the_last() -> None:
    """Guards against one token too many or too few, and a step whose logits nobody reads."""
    script = Script({1: 1})
    assert len(list(tokens(script, max_tokens=3))) == 3
    assert script.run == [1, 1]


def test_probability_is_the_models_own() -> None:
    """Guards against a confidence of 1 for an answer that a constraint forced."""
    expected = -math.log(math.e + VOCAB - 1)
    free, *_ = tokens(Script({1: EOS}))
    assert free.logprob == pytest.approx(1 + expected, abs=1e-6)
    forced, *_ = tokens(Script({3: EOS}), constraint=Choice(["x"], [[3]], [EOS]))
    assert (forced.id, forced.logprob) == (3, pytest.approx(expected, abs=1e-6))


def test_constraint_is_followed_to_its_end() -> None:
    """Guards against a constraint that is applied once only, or a step after the choice was made."""
    script = Script({2: 1, 3: 1})
    assert [t.id for t in tokens(script, constraint=Choice(["ab", "ac"], [[2, 3], [2, 4]], [EOS]))] == [2, 3]
    assert script.run == [2]


def test_forced_tokens_run_together() -> None:
    """Guards against a step for each token that is known already, and against a run for the last of them."""
    script = Script({2: 1, 3: 1, 4: 4})
    held = Choice(["abc", "abd"], [[2, 3, 4, 2], [2, 3, 4, 3]], [EOS])
    found = list(tokens(script, constraint=held))
    assert [t.id for t in found] == [2, 3, 4, 2]
    assert (script.together, script.run) == ([[2, 3, 4]], [])
    low, high = -math.log(math.e + VOCAB - 1), 1 - math.log(math.e + VOCAB - 1)
    assert [t.logprob for t in found] == pytest.approx([low, low, low, low], abs=1e-6)
    assert low < high
    last = Script({1: 2, 2: 3})
    ended = list(tokens(last, constraint=Choice(["abc"], [[1, 2, 3]], [EOS])))
    assert [t.id for t in ended] == [1, 2, 3]
    assert [t.logprob for t in ended] == pytest.approx([high, high, high], abs=1e-6)
    assert (last.together, last.run) == ([[1, 2]], [])


def test_forced_tokens_count() -> None:
    """Guards against an answer that is longer than it may be because its end is forced."""
    script = Script({1: 2, 2: 3, 3: 4})
    found = list(tokens(script, max_tokens=2, constraint=Choice(["abcd"], [[1, 2, 3, 4]], [EOS])))
    assert [t.id for t in found] == [1, 2]
    assert script.cache.length == PREFIX


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_rewinds(taken: int) -> None:
    """Guards against half an answer left in the cache when a stream is abandoned."""
    script = Script({1: 1})
    running = tokens(script)
    for _ in range(taken):
        next(running)
    running.close()  # type: ignore[attr-defined]
    assert script.cache.length == (PREFIX if taken else PROMPT)


def test_error_rewinds() -> None:
    """Guards against a cache that stays full after it ran out."""
    script = Script({1: 1}, capacity=PROMPT + 2)
    with pytest.raises(CacheFullError):
        list(tokens(script))
    assert script.cache.length == PREFIX


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    """Guards against an fp16 overflow that becomes the confident answer "token 0"."""
    script = Script({1: 1})
    with pytest.raises(BundleError, match="not finite"):
        next(tokens(script, logits=np.full(VOCAB, value, np.float32)))
    assert script.cache.length == PREFIX
