"""A small task score on the gate's inputs: how much of an answer, not of its tokens, a bundle shares.

    captions          F1 of the words, as bags
    class, yes or no  1 for the same text, also of the words that announce a scalar
    places            F1 of the regions that meet at an overlap of 0.5; nothing found on both sides is 1

Two captions that differ in one token can say the same, and two that share nine of ten tokens can name another class:
token agreement alone tells neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gmrt.georsmllm import prompts
from gmrt.georsmllm.evaluation.geometry import AGREE, overlaps
from gmrt.runtime.points import Region

CAPTION, CLASS, YES_NO, SCALAR, PLACES = "caption", "class", "yes or no", "scalar, in words", "places"


@dataclass(frozen=True)
class Score:
    """Mean agreement, in 0…1, over the answers of one task."""

    task: str
    cases: int
    agreement: float


@dataclass
class Scores:
    """Agreements by task, gathered case by case."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add_text(self, question: str, ours: str, theirs: str) -> None:
        """Compare two answers in words: ``ours`` the checkpoint's, ``theirs`` the bundle's."""
        task = task_of(question)
        same = word_f1(ours, theirs) if task == CAPTION else float(ours == theirs)
        self.values.setdefault(task, []).append(same)

    def add_regions(self, ours: Sequence[Region], theirs: Sequence[Region]) -> None:
        """Compare two answers that are places."""
        self.values.setdefault(PLACES, []).append(region_f1(ours, theirs))

    @property
    def mean(self) -> float:
        """Agreement over all answers, whatever their task; 0 without any."""
        values = [value for task in self.values.values() for value in task]
        return float(np.mean(values)) if values else 0.0

    def rows(self) -> Iterator[Score]:
        """One row a task."""
        for task, values in self.values.items():
            yield Score(task, len(values), round(float(np.mean(values)), 6))


def task_of(question: str) -> str:
    """The task that a question of the gate is about."""
    if question in prompts.CAPTION:
        return CAPTION
    if question in prompts.CLASS:
        return CLASS
    return YES_NO if question.startswith("is this ") else SCALAR


def word_f1(ours: str, theirs: str) -> float:
    """F1 of two texts as bags of words; two empty ones are the same."""
    a, b = Counter(ours.split()), Counter(theirs.split())
    if not a and not b:
        return 1.0
    return 2 * sum((a & b).values()) / (a.total() + b.total())


def region_f1(ours: Sequence[Region], theirs: Sequence[Region]) -> float:
    """F1 of two sets of regions, paired greedily by overlap; two empty ones are the same."""
    if not ours and not theirs:
        return 1.0
    table, pairs = overlaps(ours, theirs), 0
    while table.size and table.max() >= AGREE:
        row, column = divmod(int(table.argmax()), table.shape[1])
        table[row], table[:, column] = -1, -1
        pairs += 1
    return 2 * pairs / (len(ours) + len(theirs))
