"""The vocabulary: everything that a request, a condition or an answer can say is whole in the tokenizer."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tokenizers import Tokenizer

from gmrt.georsmllm.data import Example, Question, tokenizer_texts
from gmrt.georsmllm.lexicon import lexicon, phrases
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.tasks import Change, Measure, Request, pair_requests, requests
from gmrt.georsmllm.tokenizer import train_tokenizer

SQUARE = ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The tokenizer of no data at all."""
    return train_tokenizer(tokenizer_texts([]))


def test_every_wording_comes_back_and_words_are_whole(tokenizer: Tokenizer) -> None:
    """Guards against a wording that loses a hyphen on the way, and against verbs spelt in pieces."""
    tokens = words = 0
    for text in {text.lower() for text in lexicon()}:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == re.sub(r"(?<=[^\s\d])(?=\d)", " ", text)
        tokens += len(ids)
        words += len(re.findall(r"\w+|[^\w\s]", text))
    assert tokens <= 1.02 * words
    assert tokenizer.get_vocab_size() < 4096


def test_what_is_asked_of_a_labelled_scene_is_in_the_lexicon(tokenizer: Tokenizer) -> None:
    """Guards against a word of the grammar or of a change that nobody listed, and that costs several tokens."""
    things = tuple(
        SceneObject(name, tuple((x + dx, y + dy) for dx, dy in SQUARE), "poly", {"colour": colour, "size": size})
        for name, x, y, colour, size in (
            ("ship", 0.0, 0.0, "white", "large"),
            ("ship", 0.5, 0.6, "red", "small"),
            ("storage tank", 0.7, 0.1, "grey", "medium"),
            ("car", 0.0, 0.7, "blue", "small"),
        )
    )
    labels = SceneLabels(objects=things, exhaustive=frozenset({"ship", "storage tank", "car", "house"}))
    rng = np.random.default_rng(0)
    changes = [Change("new", things[0]), Change("gone", things[2])]
    drawn = [r for _ in range(6) for r in (*requests(labels, rng), *pair_requests(labels, labels, changes, rng))]
    split = {
        word
        for request in drawn
        for text in (*request.wordings, request.answer)
        for word in re.findall(r"(?<!<)\b[a-z]+", text)
        if len(tokenizer.encode(word, add_special_tokens=False).ids) > 1
    }
    assert len(drawn) > 80
    assert split == set()


def test_data_are_learnt_from_too() -> None:
    """Guards against a new field of an example that the tokenizer never sees."""
    example = Example(
        "a",
        b"",
        "karst spring",
        ("a quarry",),
        (Question("any gantry?", "wharfage", "qa"),),
        requests=(Request("caption", "", ("narrate",), "a moraine"),),
        measures=(Measure("how rough is it?", "rugosity", 1.0),),
    )
    texts = set(tokenizer_texts([example]))
    assert {"karst spring", "a quarry", "any gantry?", "wharfage", "narrate", "a moraine", "rugosity"} <= texts
    assert not any("{" in text for text in phrases())
