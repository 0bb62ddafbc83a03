"""A large scene in windows: which tiles cover it, and one list of places from what each of them holds.

Tiles overlap, so that whatever is no larger than the overlap lies whole in one of them; of what two tiles found, one
stays. The desk's scores of detection on tiles (`gmrt.georsmllm.evaluation.tiles`) and the field's walk use these same
functions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gmrt.runtime.outlines import area, areas
from gmrt.runtime.places import Place, Window

AGREE = 0.5
"""Two places of different tiles are one when their common area is this share of the smaller one, or more."""
CUT = 0.2
"""A place that its tile's border cuts is a part of another from this share on: the rest of it is a guess."""
EDGE = 0.008
"""Share of a tile's side from its border within which a place counts as cut off by it."""
REACH = 1 / 32
"""Two points of different tiles are one when they are no further apart than this share of a tile's side: one place of
nano's locator."""


def plan(window: Window, size: int, overlap: int) -> list[Window]:
    """Tiles of ``size`` pixels a side that overlap by ``overlap`` or more and cover a window, row by row.

    They are spread evenly and none leaves the window; one that is smaller than a tile is not divided in that direction.
    ``overlap`` lies in 0…size − 1.
    """
    column, row, width, height = window
    return [
        (column + x, row + y, min(size, width), min(size, height))
        for y in _starts(height, size, overlap)
        for x in _starts(width, size, overlap)
    ]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if length <= size:
        return [0]
    steps = math.ceil((length - size) / (size - overlap))
    return [step * (length - size) // steps for step in range(steps + 1)]


@dataclass(frozen=True)
class Merged:
    """The ``places`` of all tiles in reading order, and how many were ``dropped``, being the same as another tile's."""

    places: tuple[Place, ...]
    dropped: int


def merge(found: Iterable[tuple[Window, Sequence[Place]]], whole: Window) -> Merged:
    """Put the places of tiles of the window ``whole`` together, without those that another tile found as well.

    Of two that are the same, the one stays that no border of its tile cuts; of two such the one of higher confidence,
    then the larger one. Places of one tile are left as they are: the model meant them to be different. The result does
    not depend on the order of the tiles.
    """
    candidates = [
        _Candidate(
            place, tile, _cut(place, tile, whole), area(np.array(place.corners)) if len(place.corners) > 1 else 0
        )
        for tile, places in found
        for place in places
    ]
    kept = _Kept(max((max(each.tile[2:]) for each in candidates), default=1))
    for candidate in sorted(candidates, key=_Candidate.rank):
        if not any(other.tile != candidate.tile and _same(candidate, other) for other in kept.near(candidate)):
            kept.add(candidate)
    places = sorted((each.place for each in kept.all), key=lambda place: (*place.bounds[1::-1], place.corners))
    return Merged(tuple(places), len(candidates) - len(places))


@dataclass(frozen=True)
class _Candidate:
    place: Place
    tile: Window
    cut: bool
    area: float

    def rank(self) -> tuple[object, ...]:
        """Sorts the better one first, and the rest by position, so that the order of the tiles does not matter."""
        return self.cut, -self.place.confidence, -self.area, self.place.corners, self.tile


@dataclass
class _Kept:
    """Places by the cells of a grid, so that only neighbours are compared; ``side`` is the largest tile's in pixels."""

    side: int
    all: list[_Candidate] = field(default_factory=list)
    _cells: dict[tuple[int, int], list[_Candidate]] = field(default_factory=lambda: defaultdict(list))

    def add(self, candidate: _Candidate) -> None:
        """Keep a place: no larger than its tile, it touches four cells at most."""
        self.all.append(candidate)
        for cell in self._touched(candidate, 0.0):
            self._cells[cell].append(candidate)

    def near(self, candidate: _Candidate) -> Iterator[_Candidate]:
        """What is kept in the cells that a place touches, some of it more than once."""
        for cell in self._touched(candidate, REACH * self.side):
            yield from self._cells.get(cell, ())

    def _touched(self, candidate: _Candidate, beyond: float) -> Iterator[tuple[int, int]]:
        x0, y0, x1, y1 = candidate.place.bounds
        for x in range(math.floor((x0 - beyond) / self.side), math.floor((x1 + beyond) / self.side) + 1):
            for y in range(math.floor((y0 - beyond) / self.side), math.floor((y1 + beyond) / self.side) + 1):
                yield x, y


def _cut(place: Place, tile: Window, whole: Window) -> bool:
    """Whether a place reaches a border of its tile that is none of the scene."""
    x0, y0, x1, y1 = place.bounds
    column, row, width, height = tile
    across, down = EDGE * width, EDGE * height
    return (
        (x0 <= column + across and column > whole[0])
        or (y0 <= row + down and row > whole[1])
        or (x1 >= column + width - across and column + width < whole[0] + whole[2])
        or (y1 >= row + height - down and row + height < whole[1] + whole[3])
    )


def _same(a: _Candidate, b: _Candidate) -> bool:
    """Whether ``a`` is the same thing as ``b``, which ranks before it."""
    if a.area == 0 or b.area == 0:
        if a.area != b.area:
            return False
        (xa, ya), (xb, yb) = a.place.corners[0], b.place.corners[0]
        return math.hypot(xa - xb, ya - yb) <= REACH * max(*a.tile[2:], *b.tile[2:])
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.place.bounds, b.place.bounds
    if max(ax0, bx0) >= min(ax1, bx1) or max(ay0, by0) >= min(ay1, by1):
        return False
    first, second, both = areas(np.array(a.place.corners), np.array(b.place.corners))
    return both >= (CUT if a.cut else AGREE) * min(first, second)
