"""How tokenizers spell locations: what training saw is what the constraint walks, or it says that it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fabricate import make_metaspace_tokenizer, make_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.lexicon import Node, read_lexicon
from gmrt.runtime.points import GRID, TAGS

NANO = Path(__file__).parents[2] / "models" / "georsmllm-nano-int8" / "tokenizer.json"


def merging_tokenizer() -> Tokenizer:
    """A BPE that merges digits as it likes, so that numbers are one token, or two, or three."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f"the {n} none" for n in range(0, GRID, 7)], trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "nano": lambda: Tokenizer.from_file(str(NANO)),
    "bytes": make_tokenizer,
    "metaspace": make_metaspace_tokenizer,
    "merging": merging_tokenizer,
}


def spelled(node: Node) -> dict[int | str, tuple[int, ...]]:
    """Everything in a trie and its tokens; words by their bit."""
    found: dict[int | str, tuple[int, ...]] = {}

    def walk(at: Node, path: tuple[int, ...]) -> None:
        if at.number >= 0:
            found[at.number] = path
        if at.word:
            found[TAGS[at.word.bit_length() - 1]] = path
        for token, child in at.children.items():
            walk(child, (*path, token))

    walk(node, ())
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_spellings_are_the_tokenizers(name: str) -> None:
    """Guards against forcing tokens that training never saw: each spelling is found in a tokenised text."""
    tokenizer = MAKERS[name]()
    lexicon = read_lexicon(tokenizer)
    behind_tag, behind_number = spelled(lexicon.behind_tag), spelled(lexicon.behind_number)
    assert set(behind_tag) == set(range(GRID))
    assert set(behind_number) == {*range(GRID), *TAGS}
    for tag, number in (("<box>", 0), ("<poly>", 7), ("<point>", 86), ("<obb>", 512), ("<poly>", 999)):
        ids = tokenizer.encode(f"<obb> {number} {number} {tag} {number}", add_special_tokens=False).ids
        first = (lexicon.tags[TAGS.index("<obb>")],)
        assert tuple(ids) == first + sum(
            (behind_tag[number], behind_number[number], behind_number[tag], behind_tag[number]), ()
        )
    assert lexicon.longest_number == max(len(ids) for word, ids in behind_number.items() if word not in TAGS)
    assert (lexicon.longest_number == 1) == (name == "nano")


def test_tokens_by_the_number_that_they_lead_to() -> None:
    """Guards against a dead end: a digit from which no number is large enough."""
    root = Node()
    for number in (5, 57, 570, 8, 12):
        root.add([int(digit) for digit in str(number)], number=number)
    root.add([9], word=4)
    root.prepare()
    assert {low: sorted(root.tokens(low, 0)[0].tolist()) for low in (0, 9, 13, 571)} == {
        0: [1, 5, 8],
        9: [1, 5],
        13: [5],
        571: [],
    }
    assert root.tokens(571, 4)[1].tolist() == [9]
    assert root.tokens(571, 2)[1].tolist() == []
    assert root.children[5].tokens(58, 0)[0].tolist() == [7]


def without_tags() -> Tokenizer:
    """No tokens for the tags."""
    state = json.loads(make_tokenizer().to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in TAGS]
    return Tokenizer.from_str(json.dumps(state))


def without_digits() -> Tokenizer:
    """Every number is the same unknown word."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **{tag: i for i, tag in enumerate(TAGS, 1)}}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def without_spaces() -> Tokenizer:
    """Digits without the space between numbers."""
    vocab = {"<unk>": 0, **{tag: i for i, tag in enumerate(TAGS, 1)}, **{str(digit): 10 + digit for digit in range(10)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return tokenizer


def with_control_tags() -> Tokenizer:
    """Tags that a decoding leaves out."""
    tokenizer = without_tags()
    tokenizer.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in TAGS])
    return tokenizer


@pytest.mark.parametrize("make", [without_tags, without_digits, without_spaces, with_control_tags])
def test_tokenizers_that_cannot_tell_a_location(make: Callable[[], Tokenizer]) -> None:
    """Guards against a constraint that holds an answer to what nobody can read: it is refused in one sentence."""
    with pytest.raises(ConstraintError, match="cannot be held to locations"):
        read_lexicon(make())
