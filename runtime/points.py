"""The set-of-points codec: every location, whatever the task, is a set of points on a 1000 × 1000 grid.

A region is written as its kind's tag and its whole numbers, x before y, separated by single spaces::

    <point> 512 430        <box> 12 34 200 310        <obb> x0 y0 x1 y1 x2 y2 x3 y3        <poly> x0 y0 x1 y1 x2 y2 …

Several regions follow each other; the empty set is the word ``none``. Cell ``n`` covers the n-th thousandth of the
image's width or height, and stands for its centre: position = (n + 0.5) / 1000. Whole numbers 0–999 are single tokens
of the tokenizer, so a coordinate is never split. The idea of one point set for every location is GeoRSMLLM's
(arXiv 2503.12490); the grid and the tags are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gmrt.runtime.errors import PointsError

GRID = 1000
Kind = Literal["point", "box", "obb", "poly"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TAGS: tuple[str, ...] = tuple(f"<{kind}>" for kind in KINDS)
NONE = "none"

_TAG = re.compile(r"<(\w+)>")
_WHOLE = re.compile(r"\d{1,3}")


@dataclass(frozen=True)
class Region:
    """One location on the grid: ``kind`` and its points (x, y), whole numbers in 0…999.

    A point has one, a box two (top-left, bottom-right), a rotated box four corners, a polygon three or more without
    repeating the first. Raises `PointsError` when the numbers do not fit the kind.
    """

    kind: Kind
    points: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse a kind, a number of points, a range or a corner order that is not well-formed."""
        if self.kind not in KINDS:
            raise PointsError(f"unknown kind of region {self.kind!r}: expected one of {', '.join(KINDS)}")
        count = len(self.points)
        wanted = {"point": count == 1, "box": count == 2, "obb": count == 4, "poly": count >= 3}
        if not wanted[self.kind]:
            raise PointsError(f"a {self.kind} with {count} points is not well-formed")
        if not all(0 <= value < GRID for point in self.points for value in point):
            raise PointsError(f"coordinates must be whole numbers from 0 to {GRID - 1}: {self.points}")
        if self.kind == "box":
            (x0, y0), (x1, y1) = self.points
            if x1 < x0 or y1 < y0:
                raise PointsError(f"a box runs from top-left to bottom-right, got {self.points}")

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The enclosing box (x0, y0, x1, y1) on the grid."""
        xs = [x for x, _ in self.points]
        ys = [y for _, y in self.points]
        return min(xs), min(ys), max(xs), max(ys)


def to_grid(position: float) -> int:
    """Map a position in 0…1 along an axis to its cell; positions outside are clipped to the edge cells."""
    return min(max(int(position * GRID), 0), GRID - 1)


def from_grid(cell: int) -> float:
    """Map a cell to the position of its centre in 0…1."""
    return (cell + 0.5) / GRID


def region(kind: Kind, positions: Iterable[Sequence[float]]) -> Region:
    """Build a region from positions (x, y) in 0…1; a box's corners may come in any order."""
    points = tuple((to_grid(x), to_grid(y)) for x, y in positions)
    if kind == "box" and len(points) == 2:
        (xa, ya), (xb, yb) = points
        points = ((min(xa, xb), min(ya, yb)), (max(xa, xb), max(ya, yb)))
    return Region(kind, points)


def format_regions(regions: Iterable[Region]) -> str:
    """Write regions as text; the empty set is ``none``."""
    parts = [" ".join([f"<{r.kind}>", *(str(v) for point in r.points for v in point)]) for r in regions]
    return " ".join(parts) if parts else NONE


def parse_regions(text: str) -> tuple[Region, ...]:
    """Read regions from text that is a location answer; the inverse of `format_regions`.

    Raises `PointsError` when the text holds anything but well-formed regions or ``none``.
    """
    stripped = text.strip()
    if stripped == NONE:
        return ()
    pieces = _TAG.split(stripped)
    if pieces[0].strip() or len(pieces) < 3:
        raise PointsError(f"not a location: {text!r}")
    regions = []
    for tag, body in zip(pieces[1::2], pieces[2::2], strict=True):
        words = body.split()
        if tag not in KINDS or not all(_WHOLE.fullmatch(word) for word in words) or len(words) % 2:
            raise PointsError(f"not a location: <{tag}>{body!r}")
        numbers = [int(word) for word in words]
        regions.append(Region(tag, tuple(zip(numbers[::2], numbers[1::2], strict=True))))
    return tuple(regions)


def has_regions(text: str) -> bool:
    """Whether the text opens with a region's tag, that is, whether it is a location answer with something in it."""
    return text.lstrip().startswith(TAGS)
