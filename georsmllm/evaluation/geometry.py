"""Scores of location answers: overlap of any two regions, a single place found, sets of places, counts.

Every function gives one value an item, for `scores.mean_score` to average with its bootstrap interval. A region is what
`gmrt.runtime.points` reads; ``None`` stands for an answer that is no location at all and scores 0, also where nothing
was to be found. "Wanted" is the truth, "given" the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.shapes import box_outline, iou, ordered
from gmrt.runtime.errors import PointsError
from gmrt.runtime.points import Region, parse_regions

AGREE = 0.5
"""Two regions agree from this overlap on: the "@0.5" of Acc@0.5 and F1@0.5."""
POINT_REACH = 50
"""Two points agree within this many cells of the grid, a twentieth of the image: there their overlap counts as 0.5."""

Regions = Sequence[Region]
_NUMBER, _WORD = re.compile(r"\d+"), re.compile(r"[a-z]+")
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)


def read_regions(text: str) -> tuple[Region, ...] | None:
    """The regions of an answer; None when it is not a location."""
    try:
        return parse_regions(text)
    except PointsError:
        return None


def outline(region: Region) -> npt.NDArray[np.float64]:
    """A box, rotated box or polygon as its corners [N, 2] in cells of the grid, a point as one corner."""
    if region.kind == "box":
        (x0, y0), (x1, y1) = region.points
        return box_outline(x0, y0, x1, y1)
    return np.array(region.points, dtype=np.float64)


def overlap(a: Region, b: Region) -> float:
    """Agreement of two regions in 0…1: intersection over union, exact for boxes, rotated boxes and any polygons.

    Kinds may differ. Two points have no area: theirs falls linearly from 1 when they coincide to 0.5 at `POINT_REACH`
    and 0 at twice that, so that "from 0.5 on" holds for every kind. A point and an area never agree.
    """
    if a.kind == "point" or b.kind == "point":
        if a.kind != b.kind:
            return 0.0
        (xa, ya), (xb, yb) = a.points[0], b.points[0]
        return max(0.0, 1 - float(np.hypot(xa - xb, ya - yb)) / (2 * POINT_REACH))
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.bounds, b.bounds
    if max(ax0, bx0) > min(ax1, bx1) or max(ay0, by0) > min(ay1, by1):
        return 0.0
    return iou(ordered(outline(a)), ordered(outline(b)))


def overlaps(wanted: Regions, given: Regions) -> npt.NDArray[np.float64]:
    """Overlap of every wanted region (row) with every given one (column), float64 [W, G]."""
    table = np.array([[overlap(w, g) for g in given] for w in wanted], dtype=np.float64)
    return table.reshape(len(wanted), len(given))


@dataclass(frozen=True)
class Match:
    """How a set of given regions meets a set of wanted ones: the overlaps of the pairs, and the sizes of both sets."""

    pairs: tuple[float, ...]
    wanted: int
    given: int

    @property
    def hits(self) -> int:
        """Pairs that agree."""
        return sum(pair >= AGREE for pair in self.pairs)

    @property
    def f1(self) -> float:
        """F1@0.5 of the item; 1 when nothing was to be found and nothing was given."""
        total = self.wanted + self.given
        return 2 * self.hits / total if total else 1.0

    @property
    def members(self) -> tuple[float, ...]:
        """1 for every region of either set whose partner agrees, 0 for every other.

        The mean of the members of many items is their pooled F1@0.5, as detection papers report it, so that
        `scores.mean_score` over the members, grouped by image, gives it with its interval.
        """
        return (1.0,) * (2 * self.hits) + (0.0,) * (self.wanted + self.given - 2 * self.hits)

    @property
    def mean_iou(self) -> float:
        """Mean overlap of the pairs, where what has no partner on either side counts as 0; 1 for two empty sets."""
        most = max(self.wanted, self.given)
        return sum(self.pairs) / most if most else 1.0


def match(wanted: Regions, given: Regions | None) -> Match:
    """Pair regions one to one, greedily by falling overlap.

    For disjoint wanted regions and an overlap above 0.5 no pairing has more hits: a given region that covers more than
    half of its union with one wanted region cannot do so with a second. An answer that is no location has no pairs, and
    counts as one given region, so that it is never right.
    """
    if given is None:
        return Match((), len(wanted), 1)
    table = overlaps(wanted, given)
    pairs = []
    while table.size and table.max() > 0:
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        pairs.append(float(table[row, column]))
        table = np.delete(np.delete(table, row, axis=0), column, axis=1)
    return Match(tuple(pairs), len(wanted), len(given))


def set_f1(wanted: Regions, given: Regions | None) -> float:
    """F1@0.5 of one item: open-vocabulary detection, described objects, and change (on the changed regions)."""
    return match(wanted, given).f1


def mean_iou(wanted: Regions, given: Regions | None) -> float:
    """Mean overlap of one item; with one wanted and one given region simply their overlap."""
    return match(wanted, given).mean_iou


def found(wanted: Regions, given: Regions | None) -> float:
    """Acc@0.5 of a referring expression: 1 when exactly one region was given and it agrees with the one wanted."""
    return float(given is not None and len(given) == len(wanted) == 1 and overlap(wanted[0], given[0]) >= AGREE)


def count_in(text: str) -> int | None:
    """The first whole number of a text, in digits or as a word up to twenty; None when there is none."""
    number = _NUMBER.search(text)
    if number:
        return int(number.group())
    return next((_NUMBER_WORDS.index(word) for word in _WORD.findall(text.lower()) if word in _NUMBER_WORDS), None)


def count_error(wanted: int, given: str) -> float:
    """Absolute error of a counting answer, by its first number; an answer without one counts as 0 things."""
    return float(abs(wanted - (count_in(given) or 0)))


def count_exact(wanted: int, given: str) -> float:
    """1 when the first number of the answer is the count."""
    return float(count_in(given) == wanted)
