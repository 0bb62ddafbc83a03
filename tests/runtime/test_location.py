"""Held to locations: whatever a model likes best, and wherever the budget ends, the answer is a whole one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lexicon import MAKERS, without_spaces
from test_points import REGIONS
from tokenizers import Tokenizer

from gmrt.runtime.constrain import Constraint, spell
from gmrt.runtime.lexicon import Lexicon, read_lexicon
from gmrt.runtime.location import Guard, Location, tokens_for_one
from gmrt.runtime.points import KINDS, Kind, Region, format_regions, parse_regions

EOS = 1
PROMPT = "<user>where?<assistant>"
NAMES = tuple(MAKERS)


@cache
def made(name: str) -> tuple[Tokenizer, Lexicon, tuple[int, ...]]:
    """A tokenizer, its lexicon, and its tokens of the empty set."""
    tokenizer = MAKERS[name]()
    (none,) = spell(["none"], prompt=PROMPT, tokenizer=tokenizer)
    return tokenizer, read_lexicon(tokenizer), tuple(none)


class Tastes:
    """A model of random tastes: rows of noise, with a liking for tags and for the end."""

    def __init__(self, lexicon: Lexicon, vocab: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.vocab, self.tags = vocab, list(lexicon.tags)
        self.for_tags, self.for_end = self.rng.normal(size=2) * 5

    def row(self) -> np.ndarray:
        """The next logits."""
        row = self.rng.normal(size=self.vocab).astype(np.float32)
        row[self.tags] += np.float32(self.for_tags)
        row[EOS] += np.float32(self.for_end)
        return row


def decode(constraint: Constraint, tastes: Tastes, max_tokens: int, first: int | None = None) -> list[int]:
    """The greedy loop of `gmrt.runtime.generate`, without a model; ``first`` is what the model opens with."""
    ids: list[int] = []
    while len(ids) < max_tokens and not constraint.finished and EOS not in ids:
        row = tastes.row()
        if first is not None and not ids:
            row[first] = 1e6
        forced = constraint.forced
        constraint(row)
        token = int(row.argmax())
        assert np.isfinite(row[token])
        assert forced in (None, token)
        ids.append(token)
        constraint.accept(token)
    return ids


def read(tokenizer: Tokenizer, ids: list[int]) -> tuple[Region, ...]:
    """The regions that tokens say."""
    return parse_regions(tokenizer.decode([token for token in ids if token != EOS]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    most=st.none() | st.integers(1, 4),
    spare=st.integers(0, 60),
)
def test_every_answer_is_a_whole_location(
    name: str, seed: int, kinds: list[Kind], most: int | None, spare: int
) -> None:
    """Guards against half a region, a box inside out, a kind or a number of regions that was not asked for."""
    tokenizer, lexicon, none = made(name)
    max_tokens = tokens_for_one(lexicon, kinds, none) + spare
    constraint = Location(lexicon, kinds=kinds, eos=[EOS], max_tokens=max_tokens, max_regions=most, none=none)
    ids = decode(constraint, Tastes(lexicon, tokenizer.get_vocab_size(), seed), max_tokens)
    regions = read(tokenizer, ids)
    assert {region.kind for region in regions} <= set(kinds)
    assert len(regions) <= (most or len(regions))
    assert constraint.finished
    assert len(ids) <= constraint.longest <= max_tokens
    assert ids[-1] == EOS or len(regions) in (0, most)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(regions=REGIONS)
def test_every_location_can_be_said(name: str, regions: tuple[Region, ...]) -> None:
    """Guards against a grammar that bars a right answer, or wants it in other tokens than those of training."""
    tokenizer, lexicon, none = made(name)
    (ids,) = spell([format_regions(regions)], prompt=PROMPT, tokenizer=tokenizer)
    constraint = Location(lexicon, kinds=KINDS, eos=[EOS], max_tokens=1000, none=none)
    for token in [*ids, EOS] if regions else ids:
        row = np.zeros(tokenizer.get_vocab_size(), np.float32)
        row[token] = 1
        constraint(row)
        assert row[token] == 1
        constraint.accept(token)
    assert constraint.finished
    assert not constraint.cut


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), spare=st.integers(0, 40))
def test_guard_holds_what_opens_with_a_tag(name: str, seed: int, kind: Kind, spare: int) -> None:
    """Guards against a model that begins a location by itself and does not bring it to an end."""
    tokenizer, lexicon, _ = made(name)
    max_tokens = tokens_for_one(lexicon, [kind], ()) + spare
    guard = Guard(lexicon.tags, lambda: Location(lexicon, kinds=KINDS, eos=[EOS], max_tokens=max_tokens))
    tastes = Tastes(lexicon, tokenizer.get_vocab_size(), seed)
    ids = decode(guard, tastes, max_tokens, first=lexicon.tags[KINDS.index(kind)])
    assert read(tokenizer, ids)[0].kind == kind
    assert ids[-1] == EOS


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), tokens=st.lists(st.integers(0, 400), min_size=1, max_size=12))
def test_guard_leaves_text_alone(seed: int, tokens: list[int]) -> None:
    """Guards against an answer in words that the guard changes, be it only where a tag comes later in it."""
    tokenizer, lexicon, _ = made("bytes")
    if tokens[0] in lexicon.tags:
        tokens[0] = 3

    def never() -> Location:
        raise AssertionError

    guard = Guard(lexicon.tags, never)
    tastes = Tastes(lexicon, tokenizer.get_vocab_size(), seed)
    for token in [*tokens, lexicon.tags[0], 5]:
        row = tastes.row()
        before = row.copy()
        guard(row)
        np.testing.assert_array_equal(row, before)
        guard.accept(token)
        assert (guard.finished, guard.forced, guard.cut) == (False, None, False)


def test_guard_of_a_tokenizer_that_cannot_be_held() -> None:
    """Guards against refusing an answer because of a guard that nobody asked for."""
    tokenizer = without_spaces()
    guard = Guard([1], lambda: Location(read_lexicon(tokenizer), kinds=KINDS, eos=[0], max_tokens=9))
    guard.accept(1)
    row = np.zeros(20, np.float32)
    guard(row)
    assert not row.any()


def test_region_without_room_is_cut_off_and_not_made_up() -> None:
    """Guards against a region of another kind than the model began, where only a smaller one would have fitted."""
    tokenizer, lexicon, _ = made("nano")
    guard = Guard(lexicon.tags, lambda: Location(lexicon, kinds=KINDS, eos=[EOS], max_tokens=4))
    ids = decode(guard, Tastes(lexicon, tokenizer.get_vocab_size(), 0), 4, first=lexicon.tags[KINDS.index("obb")])
    assert len(ids) == 4
    assert tokenizer.decode(ids).startswith("<obb> ")
    assert not guard.finished


def said(location: Location, *tokens: int) -> None:
    """Let a location accept tokens."""
    for token in tokens:
        location.accept(token)


@pytest.mark.parametrize(("wants", "cut"), [("tag", True), ("end", False)])
def test_the_budget_is_blamed_only_where_it_bars_something(wants: str, cut: bool) -> None:
    """Guards against calling a complete answer cut off, or a cut one complete."""
    tokenizer, lexicon, _ = made("nano")
    number = tokenizer.token_to_id("▁7")
    location = Location(lexicon, kinds=["box"], eos=[EOS], max_tokens=10)  # one box and an end take 6
    said(location, lexicon.tags[1], number, number, number, number)
    assert not location.finished
    row = np.zeros(tokenizer.get_vocab_size(), np.float32)
    row[lexicon.tags[1] if wants == "tag" else EOS] = 1
    location(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == [EOS]
    assert location.cut is cut
    location.accept(EOS)
    assert location.finished


def test_polygon_is_closed_rather_than_continued_in_the_place_of_a_tag() -> None:
    """Guards against corners that are made up because the region that the model wants next has no room."""
    tokenizer, lexicon, _ = made("nano")
    number = tokenizer.token_to_id("▁7")
    location = Location(lexicon, kinds=["poly"], eos=[EOS], max_tokens=14)
    said(location, lexicon.tags[3], *[number] * 6)
    row = np.zeros(tokenizer.get_vocab_size(), np.float32)
    row[number], row[lexicon.tags[3]] = 1, 2
    location(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == [EOS]
    assert location.cut


def test_second_corner_is_held_behind_the_first() -> None:
    """Guards against bounds that are taken from the wrong axis."""
    tokenizer, lexicon, _ = made("nano")
    ids = [tokenizer.token_to_id(f"▁{n}") for n in range(1000)]
    location = Location(lexicon, kinds=["box"], eos=[EOS], max_tokens=20)
    said(location, lexicon.tags[1], ids[400], ids[100])
    for low, chosen in ((400, 999), (100, 100)):
        row = np.zeros(tokenizer.get_vocab_size(), np.float32)
        location(row)
        assert sorted(np.flatnonzero(np.isfinite(row)).tolist()) == sorted(ids[low:])
        location.accept(ids[chosen])


def test_most_regions_bound_the_tokens() -> None:
    """Guards against planning a cache of hundreds of tokens for one box."""
    _, lexicon, none = made("nano")

    def longest(kinds: list[Kind], most: int | None) -> int:
        made = Location(lexicon, kinds=kinds, eos=[EOS], max_tokens=200, max_regions=most, none=none)
        return made.longest

    assert longest(["box"], 1) == 6
    assert longest(["box", "obb"], 3) == 30
    assert longest(["box"], None) == longest(["poly"], 1) == longest(["box"], 100) == 200
