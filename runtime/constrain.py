"""Constraints: which tokens may come next. A small model that must answer from a closed set is held to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from gmrt.runtime.errors import ConstraintError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.points import GRID
from gmrt.runtime.vocabulary import Vocabulary

YES_NO = ("yes", "no")
NUMBERS = tuple(map(str, range(GRID)))
"""The whole numbers that a count or a coordinate can be."""


class Constraint(Protocol):
    """Called on each row of logits before a token is chosen, and told which one was.

    ``finished`` is True when nothing may follow. ``forced`` is the only token that may come next, or None when there
    is a choice: a decoder can append a forced token without looking at its logits. ``cut`` is True when the budget of
    tokens, and not the model, ended the answer.
    """

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""

    @property
    def forced(self) -> int | None:
        """The one token that may come next."""

    @property
    def cut(self) -> bool:
        """Whether the answer had to end early."""

    def __call__(self, row: FloatArray) -> None:
        """Set the logits float32 [V] of everything that may not come next to −inf, in place."""

    def accept(self, token: int) -> None:
        """Move on over ``token``."""


@dataclass
class _Node:
    """A node of the trie: what may follow by token id, and the choice that is complete here."""

    children: dict[int, _Node] = field(default_factory=dict)
    choice: str | None = None
    allowed: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Choice:
    """One of several texts, as a prefix trie over their token ids.

    ``sequences`` holds the token ids of each of ``texts``. Where one is the beginning of another, an end token decides
    for the shorter one. ``chosen`` is the text that was reached, ``longest`` the most tokens that an answer can take,
    an end token included. Raises `ConstraintError` when there is nothing to choose from, or when two texts are the
    same to the tokenizer.
    """

    cut = False

    def __init__(self, texts: Sequence[str], sequences: Sequence[Sequence[int]], eos: Sequence[int]) -> None:
        self._eos = frozenset(eos)
        self._root = _Node()
        for text, tokens in zip(texts, sequences, strict=True):
            node = self._root
            for token in tokens:
                node = node.children.setdefault(token, _Node())
            if node is self._root:
                raise ConstraintError("a choice must not be empty")
            if node.choice is not None:
                raise ConstraintError(f"the choices {node.choice!r} and {text!r} are the same to this model")
            node.choice = text
        if not self._root.children:
            raise ConstraintError("choices is empty: give at least one")
        self._prepare(self._root)
        self._node = self._root
        self._ended = False
        self.longest = max(map(len, sequences)) + 1

    def _prepare(self, root: _Node) -> None:
        waiting = [root]
        while waiting:
            node = waiting.pop()
            ends = self._eos if node.choice is not None and node.children else ()
            node.allowed = np.array([*node.children, *ends], np.int64)
            waiting.extend(node.children.values())

    @property
    def chosen(self) -> str | None:
        """The text that has been reached, None while it is still open."""
        return self._node.choice if self.finished else None

    @property
    def finished(self) -> bool:
        """Whether one of the texts is complete and none goes on from here."""
        return self._ended or not self._node.children

    @property
    def forced(self) -> int | None:
        """The one token that may come next, None when there are several or the choice is made."""
        return int(self._node.allowed[0]) if not self.finished and len(self._node.allowed) == 1 else None

    def __call__(self, row: FloatArray) -> None:
        """Leave only the logits of tokens that lead to one of the texts."""
        kept = row[self._node.allowed]
        row.fill(-np.inf)
        row[self._node.allowed] = kept

    def accept(self, token: int) -> None:
        """Move on over ``token``, which `__call__` has allowed."""
        if token in self._node.children:
            self._node = self._node.children[token]
        else:
            self._ended = True


def choice(
    texts: Sequence[str],
    *,
    prompt: str,
    tokenizer: Tokenizer,
    eos: Sequence[int],
    max_tokens: int,
    vocabulary: Vocabulary | None = None,
) -> Choice:
    """Hold the answer to one of ``texts``, tokenised as they follow the rendered ``prompt``.

    Raises `ConstraintError` as `spell` does, for a text that needs more than ``max_tokens``, and for one that the head
    cannot give (``vocabulary``; None: all words).
    """
    if isinstance(texts, str):
        raise ConstraintError(f'choices must be a list of texts, got the text {texts!r}: write ("{texts}", …)')
    sequences = spell(texts, prompt=prompt, tokenizer=tokenizer)
    for text, tokens in zip(texts, sequences, strict=True):
        if len(tokens) > max_tokens:
            raise ConstraintError(f"the choice {text!r} takes {len(tokens)} tokens: raise max_tokens from {max_tokens}")
        if vocabulary is not None and not vocabulary.holds(tokens):
            raise ConstraintError(
                f"the choice {text!r} needs words that were left out of this bundle's head: choose other words, or "
                "export with a larger vocabulary"
            )
    return Choice(texts, sequences, eos)


def spell(texts: Sequence[str], *, prompt: str, tokenizer: Tokenizer) -> list[list[int]]:
    """The token ids of each of ``texts`` as an answer to the rendered ``prompt``.

    Tokenising behind the prompt gives the tokens that training saw, whatever the tokenizer does to the first word of
    a text. Raises `ConstraintError` for a text that is empty, holds a control token, or grows together with the end of
    the prompt.
    """
    special = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    whole = tokenizer.encode(prompt, add_special_tokens=False).ids
    # What stands before the last control token has no bearing on what follows, and a thousand texts are spelled faster
    # without it.
    behind = prompt[max([0, *(prompt.rfind(content) for content in special.values())]) :]
    before = tokenizer.encode(behind, add_special_tokens=False).ids
    if whole[len(whole) - len(before) :] != before:
        behind, before = prompt, whole
    sequences = []
    for text in texts:
        ids = tokenizer.encode(behind + text.strip(), add_special_tokens=False).ids
        tokens = ids[len(before) :]
        if not text.strip() or ids[: len(before)] != before or special.keys() & set(tokens):
            raise ConstraintError(f"the choice {text!r} cannot be an answer of this model: use plain words")
        sequences.append(tokens)
    return sequences
