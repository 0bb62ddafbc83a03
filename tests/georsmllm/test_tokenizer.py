"""The nano tokenizer: numbers are whole, text survives, control tokens stay apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gmrt.georsmllm.data import tokenizer_texts
from gmrt.georsmllm.tokenizer import CONTROL, train_tokenizer
from gmrt.runtime.points import Region, format_regions, parse_regions


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The tokenizer trained on the field's words alone."""
    return train_tokenizer(tokenizer_texts([]))


_TOKENIZER = train_tokenizer(tokenizer_texts([]))
_cell = st.integers(0, 999)
_point = st.tuples(_cell, _cell)


def test_every_whole_number_is_one_token_wherever_it_stands(tokenizer: Tokenizer) -> None:
    """Guards against a count or coordinate split into digits behind a bracket, a letter or a comma."""
    for number in range(1000):
        for text in (
            f"{number}",
            f"there are {number} ships",
            f"({number})",
            f"b{number}",
            f"1,{number}",
            f"<box>{number}",
        ):
            tokens = tokenizer.encode(text, add_special_tokens=False).tokens
            assert f"▁{number}" in tokens, (text, tokens)


@given(st.lists(st.builds(Region, st.just("poly"), st.lists(_point, min_size=3, max_size=6).map(tuple)), max_size=4))
def test_locations_survive_the_tokenizer(regions: list[Region]) -> None:
    """Guards against a tag or number glued to its neighbour by the decoder, which the codec could not read back."""
    text = format_regions(regions)
    ids = _TOKENIZER.encode(text, add_special_tokens=False).ids
    assert _TOKENIZER.decode(ids) == text
    assert parse_regions(_TOKENIZER.decode(ids)) == tuple(regions)
    numbers = sum(2 * len(region.points) + 1 for region in regions)
    assert not regions or len(ids) == numbers


@given(
    st.lists(st.text("abcdefghijklmnopqrstuvwxyzäß水", min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)
)
def test_any_words_survive(text: str) -> None:
    """Guards against unknown characters lost: whatever is not in the vocabulary goes through bytes."""
    assert _TOKENIZER.decode(_TOKENIZER.encode(text, add_special_tokens=False).ids) == text


def test_control_tokens_are_special_and_tags_are_not(tokenizer: Tokenizer) -> None:
    """Guards against location tags dropped from answers as special tokens are."""
    special = {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
    assert special == set(CONTROL)
    assert tokenizer.decode(tokenizer.encode("<user><box> 1 2 3 4<eos>").ids) == "<box> 1 2 3 4"


def test_case_does_not_matter(tokenizer: Tokenizer) -> None:
    """Guards against "Describe" and "describe" being different requests."""
    assert tokenizer.encode("Describe THE Image").ids == tokenizer.encode("describe the image").ids
