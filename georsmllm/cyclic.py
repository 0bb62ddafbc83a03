"""Cyclic referring: a region is described in words, the words are located again, and the two regions should agree.

The idea is GeoRSMLLM's (arXiv 2503.12490): data can check itself. As a step of data-making, `keep` leaves the pairs of
region and phrase that come back to where they began, and says how many that were. As a metric, the same cycle with one
model on both ways measures how far its descriptions and its locations agree, without any label. Whatever describes and
locates is a function: a model, a rule, a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from gmrt.georsmllm.evaluation.geometry import AGREE, overlap
from gmrt.runtime.points import Region

Image = TypeVar("Image")
Describe: TypeAlias = Callable[[Image, Region], str]
"""A phrase for a region of an image; an empty one says that there is none."""
Locate: TypeAlias = Callable[[Image, str], Sequence[Region]]
"""The regions of an image that a phrase stands for."""
Outcome: TypeAlias = Literal["agrees", "elsewhere", "several", "nowhere", "no phrase"]


@dataclass(frozen=True)
class Cycle(Generic[Image]):
    """One way there and back: the region, the phrase for it, and where the phrase led."""

    image: Image
    region: Region
    phrase: str
    found: tuple[Region, ...]

    @property
    def agreement(self) -> float:
        """Overlap with the region found; 0 when there is not exactly one, for then the phrase refers to nothing."""
        return overlap(self.region, self.found[0]) if len(self.found) == 1 else 0.0

    @property
    def outcome(self) -> Outcome:
        """Whether the regions agree (overlap of 0.5 or more), or what went wrong."""
        if not self.phrase:
            return "no phrase"
        if len(self.found) != 1:
            return "several" if self.found else "nowhere"
        return "agrees" if self.agreement >= AGREE else "elsewhere"


@dataclass(frozen=True)
class Yield(Generic[Image]):
    """What came of a data-making step: the pairs to keep, and the number of cycles by outcome."""

    kept: tuple[Cycle[Image], ...]
    outcomes: dict[Outcome, int]

    @property
    def rate(self) -> float:
        """Share of the regions that were kept, 0 when there were none."""
        tried = sum(self.outcomes.values())
        return len(self.kept) / tried if tried else 0.0

    def __str__(self) -> str:
        """The yield in one line, such as "kept 31 of 40 (78 %): 31 agrees, 6 several, 3 no phrase"."""
        counts = ", ".join(
            f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items(), key=lambda c: -c[1])
        )
        return f"kept {len(self.kept)} of {sum(self.outcomes.values())} ({self.rate:.0%}): {counts or 'nothing to try'}"


def cycle(image: Image, region: Region, describe: Describe[Image], locate: Locate[Image]) -> Cycle[Image]:
    """Describe a region and locate the description."""
    phrase = describe(image, region)
    return Cycle(image, region, phrase, tuple(locate(image, phrase)) if phrase else ())


def keep(regions: Iterable[tuple[Image, Region]], describe: Describe[Image], locate: Locate[Image]) -> Yield[Image]:
    """Try every region of every image, keep the pairs whose regions agree, and count what became of the others."""
    cycles = [cycle(image, region, describe, locate) for image, region in regions]
    counts = Counter(each.outcome for each in cycles)
    return Yield(tuple(each for each in cycles if each.outcome == "agrees"), dict(counts))


def cyclic_agreement(cycles: Iterable[Cycle[Image]]) -> list[float]:
    """The metric, one value a region: 1 where the cycle comes back (overlap of 0.5 or more), else 0."""
    return [float(each.outcome == "agrees") for each in cycles]
