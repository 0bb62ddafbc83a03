"""Everything that requests, conditions and answers can say beside the words of the data: for the tokenizer.

A word that is whole in the vocabulary is one step of the decoder and one thing to learn, so every word of the tables of
tasks, conditions and scenes is listed here, whether the training data happen to use it or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from gmrt.georsmllm import prompts
from gmrt.georsmllm.conditions import words
from gmrt.georsmllm.conditions.tree import Extent, Link
from gmrt.georsmllm.data import UCM_CLASSES
from gmrt.georsmllm.scenes.labels import CATEGORIES
from gmrt.georsmllm.scenes.plan import COVERS
from gmrt.georsmllm.tasks import wordings
from gmrt.georsmllm.tasks.change import NOTHING

_SLOT = re.compile(r"\{\w*\}")
_GRAMMAR = (
    *("that are", "that is", "whose", "but not the", "and not", "or", "every", "all", "an", "object", "objects"),
    *("larger than", "smaller than", "one", "ones", "none"),
    *("has appeared", "have appeared", "has disappeared", "have disappeared"),
)
"""Words between the words, in conditions (`conditions.english`) and in captions of changes (`tasks.change`)."""


def phrases() -> Iterator[str]:
    """All wordings of requests, without what stands in their slots."""
    tables = [value for name, value in sorted(vars(wordings).items()) if name.isupper()]
    tables += [prompts.CAPTION, prompts.CLASS, prompts.IS_CLASS, prompts.OPENINGS]
    for table in tables:
        for said in table.values() if isinstance(table, Mapping) else (table,):
            for wording in said:
                yield " ".join(_SLOT.sub(" ", wording).split()).replace(" ?", "?")


def lexicon() -> Iterator[str]:
    """Wordings, and every word and name that can stand in their slots or in an answer."""
    yield from phrases()
    yield from (Path(__file__).parent / "vocabulary.txt").read_text(encoding="utf-8").split()
    yield from (*_GRAMMAR, NOTHING, *get_args(Link), *get_args(Extent))
    for word, (kind, value) in words.ADJECTIVES.items():
        yield from (word, kind, value)
    yield from (*words.SPELLINGS, *words.PLACES.values(), *words.RANKS, *words.MASS, *words.COMPOUNDS)
    yield from (*words.IRREGULAR, *words.IRREGULAR.values(), *UCM_CLASSES.values())
    for name in sorted(CATEGORIES | set(COVERS)):
        yield from (name, words.plural(name))
