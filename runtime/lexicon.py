"""How a tokenizer spells locations: tags and whole numbers as tries over token ids, which a decoding can walk.

Read off the tokenizer itself, from one text that holds every whole number behind a tag and behind a number, so that a
number may be one token (``▁512``) or several (``Ġ``, ``5``, ``1``, ``2``) and the tokens are those that training saw.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.points import GRID, NONE, TAGS

Ids = npt.NDArray[np.int64]

WORDS = (*TAGS, NONE)
"""What a location is written in beside whole numbers; a set of them is a number with the bit 1 << index of each."""

_WORD = re.compile(r"<\w+>|[^\s<]+")
_NO_TOKENS: Ids = np.empty(0, np.int64)


@dataclass(eq=False)
class Node:
    """A node of a trie.

    ``number`` and ``word`` (a bit) are what is complete here, ``top`` and ``words`` the largest number and all the
    words that are complete here or further down; −1 and 0 when there is none.
    """

    children: dict[int, Node] = field(default_factory=dict)
    number: int = -1
    word: int = 0
    top: int = -1
    words: int = 0
    _numbers: Ids = field(default_factory=lambda: _NO_TOKENS)
    _tops: Ids = field(default_factory=lambda: _NO_TOKENS)
    _by_words: dict[int, Ids] = field(default_factory=dict)

    def add(self, tokens: Sequence[int], *, number: int = -1, word: int = 0) -> None:
        """Spell a number or a word; raises `ConstraintError` when another one is spelled the same."""
        node = self
        for token in tokens:
            node = node.children.setdefault(token, Node())
        if node is self or node.number >= 0 or node.word:
            raise _refusal("its tokenizer cannot tell all numbers apart")
        node.number, node.word = number, word

    def prepare(self) -> None:
        """Index the finished trie for `tokens`."""
        self.top, self.words = self.number, self.word
        if not self.children:
            return
        for child in self.children.values():
            child.prepare()
            self.top = max(self.top, child.top)
            self.words |= child.words
        children = self.children.items()
        by_top = sorted((child.top, token) for token, child in children if child.top >= 0)
        self._tops = np.array([top for top, _ in by_top], np.int64)
        self._numbers = np.array([token for _, token in by_top], np.int64)

    def tokens(self, low: int, words: int) -> tuple[Ids, Ids]:
        """The tokens that lead on to a number of at least ``low``, and those that lead on to one of ``words``."""
        found = self._by_words.get(words)
        if found is None:
            found = np.array([token for token, child in self.children.items() if child.words & words], np.int64)
            self._by_words[words] = found
        return self._numbers[self._tops.searchsorted(low) :], found

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


@dataclass(frozen=True)
class Lexicon:
    """The spellings of one tokenizer.

    ``tags`` are the tokens of the tags in the order of `KINDS`. ``behind_tag`` holds the numbers as they follow a tag,
    ``behind_number`` numbers and tags as they follow a number. ``longest_number`` and ``longest_tag`` count tokens,
    the space before included.
    """

    tags: tuple[int, ...]
    behind_tag: Node
    behind_number: Node
    longest_number: int
    longest_tag: int

    @property
    def tokens(self) -> frozenset[int]:
        """Every token that a location may take."""
        nodes = (*self.behind_tag.walk(), *self.behind_number.walk())
        return frozenset(self.tags).union(*(node.children for node in nodes))


def tag_tokens(tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """The tokens of the tags in the order of `KINDS`, None for a tokenizer that lacks one of them."""
    found = [tokenizer.token_to_id(tag) for tag in TAGS]
    known = tuple(id_ for id_ in found if id_ is not None)
    return known if len(known) == len(found) else None


def read_lexicon(tokenizer: Tokenizer) -> Lexicon:
    """Read how ``tokenizer`` spells locations; takes about 30 ms.

    Raises `ConstraintError` for a tokenizer in which a location cannot be told token by token: a tag is not one token,
    locations are not given back as they were written, or a number does not show where it ends.
    """
    tags = tag_tokens(tokenizer)
    if tags is None:
        raise _refusal("its tokenizer has no tokens for regions")
    behind_tag, behind_number = Node(), Node()
    longest = [0, 0]
    for (after_tag, word), tokens in _spellings(tokenizer).items():
        node, is_tag = behind_tag if after_tag else behind_number, word in TAGS
        if is_tag:
            node.add(tokens, word=1 << TAGS.index(word))
        else:
            node.add(tokens, number=int(word))
        longest[is_tag] = max(longest[is_tag], len(tokens))
    behind_tag.prepare()
    behind_number.prepare()
    # A token either goes on with a number or begins what follows it; were it both, nobody could say where it ends.
    for node in (*behind_tag.walk(), *behind_number.walk()):
        if node.number >= 0 and node.children.keys() & behind_number.children.keys():
            raise _refusal("its tokenizer does not show where a number ends")
    return Lexicon(tags, behind_tag, behind_number, longest_number=longest[False], longest_tag=longest[True])


def _spellings(tokenizer: Tokenizer) -> dict[tuple[bool, str], tuple[int, ...]]:
    """The tokens of every tag and number, by whether it stands behind a tag, and its text."""
    zeros = [f"{tag} 0 0" for tag in TAGS]
    text = " ".join([*(f"{TAGS[0]} {number} {number}" for number in range(GRID)), *zeros])
    words = text.split(" ")
    encoding = tokenizer.encode(text, add_special_tokens=False)
    if _WORD.findall(tokenizer.decode(encoding.ids)) != words:
        raise _refusal("its tokenizer does not give locations back as they were written")
    ends = list(accumulate(len(word) + 1 for word in words))  # a word's tokens end before this; the space before counts
    tokens: list[list[int]] = [[] for _ in words]
    for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
        at = bisect_left(ends, end + 1)
        if at and begin < ends[at - 1] - 1:
            raise _refusal("its tokenizer does not show where a number ends")
        tokens[at].append(token)
    found: dict[tuple[bool, str], tuple[int, ...]] = {}
    for before, word, ids in zip(words, words[1:], tokens[1:], strict=False):
        spelling = tuple(ids)
        if found.setdefault((before in TAGS, word), spelling) != spelling:
            raise _refusal("its tokenizer spells a number now so and now so")
    return found


def _refusal(why: str) -> ConstraintError:
    return ConstraintError(f"this model cannot be held to locations, because {why}: ask without points")
