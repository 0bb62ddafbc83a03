"""A choice holds the answer to one of the texts."""

from __future__ import annotations

import numpy as np
import pytest
from fabricate import make_metaspace_tokenizer, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gmrt.runtime.constrain import NUMBERS, Choice, choice, spell
from gmrt.runtime.errors import ConstraintError

EOS = 1
TOKENIZER = make_tokenizer()


def allowed(constraint: Choice, vocab: int = 10) -> set[int]:
    """Which tokens a constraint leaves."""
    row = np.arange(vocab, dtype=np.float32)
    constraint(row)
    left = np.flatnonzero(np.isfinite(row))
    np.testing.assert_array_equal(row[left], left)  # what stays keeps its value
    return set(left.tolist())


def test_walks_the_trie() -> None:
    """Guards against mixing two choices: after "a b" only what begins with "a b" may follow."""
    constraint = Choice(["ab", "ac", "d"], [[2, 3], [2, 4], [5]], [EOS])
    assert allowed(constraint) == {2, 5}
    assert constraint.forced is None
    constraint.accept(2)
    assert allowed(constraint) == {3, 4}
    assert not constraint.finished
    assert constraint.chosen is None
    constraint.accept(4)
    assert constraint.finished
    assert constraint.chosen == "ac"


def test_one_choice_that_begins_another() -> None:
    """Guards against never reaching the longer one, or never being able to stop at the shorter."""
    for last, chosen in ((EOS, "forest"), (3, "forest edge")):
        constraint = Choice(["forest", "forest edge"], [[2], [2, 3]], [EOS])
        assert constraint.forced == 2
        constraint.accept(2)
        assert allowed(constraint) == {EOS, 3}
        assert constraint.forced is None
        constraint.accept(last)
        assert constraint.finished
        assert constraint.chosen == chosen


@settings(max_examples=40, deadline=None)
@given(sequences=st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=5), min_size=1, max_size=6, unique_by=tuple))
def test_every_path_ends_in_a_choice_and_every_choice_is_reached(sequences: list[list[int]]) -> None:
    """Guards against dead ends, in which no token is allowed, and against unreachable texts."""
    texts = [str(s) for s in sequences]
    reached = set()
    paths: list[list[int]] = [[]]
    while paths:
        path = paths.pop()
        constraint = Choice(texts, sequences, [EOS])
        for token in path:
            constraint.accept(token)
        if constraint.finished:
            assert len(path) <= constraint.longest
            reached.add(constraint.chosen)
            assert constraint.forced is None
            continue
        following = allowed(constraint)
        assert following
        assert constraint.forced == (next(iter(following)) if len(following) == 1 else None)
        paths += [[*path, token] for token in following]
    assert reached == set(texts)


def make(texts: list[str], max_tokens: int = 50) -> Choice:
    """A choice behind a prompt."""
    return choice(texts, prompt="<user>what?<assistant>", tokenizer=TOKENIZER, eos=[EOS], max_tokens=max_tokens)


def test_tokens_are_those_behind_the_prompt() -> None:
    """Guards against forcing tokens that training never saw, because the text was tokenised alone."""
    constraint = make(["residential"])
    expected = TOKENIZER.encode("<user>what?<assistant>residential", add_special_tokens=False).ids
    tokens = []
    while not constraint.finished:
        assert constraint.forced is not None
        tokens.append(constraint.forced)
        constraint.accept(constraint.forced)
    assert tokens == expected[-len(tokens) :]
    assert TOKENIZER.decode(tokens) == "residential"


@pytest.mark.parametrize("tokenizer", [TOKENIZER, make_metaspace_tokenizer()], ids=["bytes", "metaspace"])
@pytest.mark.parametrize("prompt", ["<user>what?<assistant>", "<user>what? ", "what is it? <assistant>the class is"])
def test_spelled_as_behind_the_whole_prompt(tokenizer: Tokenizer, prompt: str) -> None:
    """Guards against other tokens because most of the prompt is left out for speed."""
    before = len(tokenizer.encode(prompt, add_special_tokens=False).ids)
    texts = ["yes", "a harbour", "7"] if prompt.endswith(">") else ["(7)"]
    expected = [tokenizer.encode(prompt + text, add_special_tokens=False).ids[before:] for text in texts]
    assert spell(texts, prompt=prompt, tokenizer=tokenizer) == expected


def test_every_number_can_be_said_and_no_other() -> None:
    """Guards against a count that stops at the first digit, or goes on to a fourth."""
    for digits in ("1", "12", "999"):
        constraint = make(list(NUMBERS))
        for token in TOKENIZER.encode(digits).ids:
            assert token in allowed(constraint, TOKENIZER.get_vocab_size())
            constraint.accept(token)
        assert constraint.finished == (digits == "999")
        if digits != "999":
            assert EOS in allowed(constraint, TOKENIZER.get_vocab_size())
            constraint.accept(EOS)
        assert constraint.chosen == digits


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "choices is empty"),
        (["yes", ""], "cannot be an answer"),
        (["yes", "  "], "cannot be an answer"),
        (["yes<eos>"], "cannot be an answer"),
        (["yes", " yes"], "are the same"),
        (["agricultural fields and more"], "raise max_tokens from 2"),
    ],
)
def test_choices_that_cannot_be_met(texts: list[str], words: str) -> None:
    """Guards against an answer that is cut off or empty because of what was asked for."""
    with pytest.raises(ConstraintError, match=words):
        make(texts, max_tokens=2)


def test_a_text_is_not_a_list() -> None:
    """Guards against choices="yes" being read as the letters y, e, s."""
    with pytest.raises(ConstraintError, match="must be a list"):
        make("yes")  # type: ignore[arg-type]
