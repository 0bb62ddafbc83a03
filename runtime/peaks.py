"""From a map of scores and a geometry to regions: peaks, doubles removed, in reading order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmrt.runtime.image import FloatArray
from gmrt.runtime.points import GRID, Kind, Region, region

GEOMETRY = 9
"""Of every place: where in it the centre lies (x, y), log width and height, log long and short side, cos 2θ, sin 2θ,
and whether the thing is round (above 0); in places, not in pixels."""
THRESHOLD = 0.35
"""A place of a set counts from this score on."""
SAME = 0.5
"""Of two regions that overlap by more (IoU of their boxes), the one of lower score is the same thing seen twice."""
MOST = 100
"""Regions in an answer, at most."""
ROWS = 8
"""Rows of the order in which regions are written, top to bottom and left to right: those of nano's 8 × 8 tokens."""
UPRIGHT = 0.95
"""A rectangle that saves less than a twentieth of the upright box's area is written upright: on a round or an upright
thing its angle would be an accident."""
CORNERS = 12
"""Corners of the outline of a round thing; it has the area of the ellipse."""


_RECTANGLE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
_TURNS = (np.arange(CORNERS) + 0.5) / CORNERS * 2 * math.pi
_ELLIPSE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)
_ELLIPSE *= math.sqrt(2 * math.pi / CORNERS / math.sin(2 * math.pi / CORNERS))


@dataclass(frozen=True)
class Located:
    """``regions`` in reading order with the score of each in 0…1, and the ``best`` score of any place."""

    regions: tuple[Region, ...]
    scores: tuple[float, ...]
    best: float

    @property
    def confidence(self) -> float:
        """Mean score; of nothing found 1 minus the best score that was not enough."""
        return float(np.mean(self.scores)) if self.scores else 1 - self.best


def find_regions(
    maps: FloatArray, shapes: FloatArray, single: float, kind: Kind, max_regions: int | None = None
) -> Located:
    """Turn a centre map [G, G] and a geometry [GEOMETRY, G, G], both as logits and raw numbers, into regions of a kind.

    With ``single`` above 0 the answer is the one best place; otherwise every peak above `THRESHOLD` that is not another
    one's double, the best ``max_regions`` of them.
    """
    scores = _softmax(maps) if single > 0 else 1 / (1 + np.exp(-maps.astype(np.float64)))
    rows, columns = _peaks(scores, 1 if single > 0 else None)
    found = [(float(scores[row, column]), row, column) for row, column in zip(rows, columns, strict=True)]
    kept: list[tuple[float, Region, Region]] = []
    most = min(MOST, max_regions or MOST)
    for score, row, column in sorted(found, key=lambda each: -each[0]):
        shape = shapes[:, row, column].astype(np.float64)
        box = _box(shape, row, column, len(maps))
        if all(_overlap(box, other) <= SAME for _, other, _ in kept):
            kept.append((score, box, _written(shape, box, row, column, len(maps), kind)))
        if len(kept) == most:
            break
    kept.sort(key=lambda each: _place(each[1]))
    return Located(tuple(each[2] for each in kept), tuple(each[0] for each in kept), float(scores.max()))


def _softmax(maps: FloatArray) -> npt.NDArray[np.float64]:
    """Chances of the places, which add up to 1."""
    shifted = np.exp(maps.astype(np.float64) - float(maps.max()))
    chances: npt.NDArray[np.float64] = shifted / shifted.sum()
    return chances


def _peaks(scores: npt.NDArray[np.float64], most: int | None) -> tuple[Sequence[int], Sequence[int]]:
    """Rows and columns of the best place, or of all that are the highest of their 3 × 3 and above the threshold."""
    if most is not None:
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        return [row], [column]
    padded = np.pad(scores, 1, constant_values=-1.0)
    height, width = scores.shape
    highest = np.max([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
    rows, columns = np.nonzero((scores >= highest) & (scores >= THRESHOLD))
    return rows.tolist(), columns.tolist()


def _centre(shape: npt.NDArray[np.float64], row: int, column: int, side: int) -> tuple[float, float]:
    return (column + float(shape[0])) / side, (row + float(shape[1])) / side


def _box(shape: npt.NDArray[np.float64], row: int, column: int, side: int) -> Region:
    """The upright box of a place, cut off at the edges of the image."""
    x, y = _centre(shape, row, column, side)
    half_width, half_height = (math.exp(min(float(size), math.log(2 * side))) / side / 2 for size in shape[2:4])
    return region("box", [(x - half_width, y - half_height), (x + half_width, y + half_height)])


def _written(shape: npt.NDArray[np.float64], box: Region, row: int, column: int, side: int, kind: Kind) -> Region:
    """The place in the form that was asked for; an outline is a turned rectangle or, of a round thing, an ellipse."""
    if kind == "box":
        return box
    x, y = _centre(shape, row, column, side)
    if kind == "point":
        return region("point", [(x, y)])
    long, short = (math.exp(min(float(size), math.log(2 * side))) / side for size in shape[4:6])
    (x0, y0), (x1, y1) = box.points
    upright = long * short * GRID * GRID > UPRIGHT * max((x1 - x0) * (y1 - y0), 1)
    rounded = kind == "poly" and float(shape[8]) > 0
    if upright and not rounded:
        return Region(kind, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
    angle = 0.0 if upright else math.atan2(float(shape[7]), float(shape[6])) / 2
    if upright:
        long, short = (math.exp(min(float(size), math.log(2 * side))) / side for size in shape[2:4])
    along = np.array([math.cos(angle), math.sin(angle)]) * long / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * short / 2
    corners = np.array([x, y]) + (_ELLIPSE if rounded else _RECTANGLE) @ np.array([along, across])
    first = int(np.argmin(np.hypot(*corners.T)))
    return region(kind, np.roll(corners, -first, axis=0).tolist())


def _place(box: Region) -> tuple[int, int]:
    """Where a box comes in reading order."""
    x0, y0, x1, y1 = box.bounds
    return min((y0 + y1) * ROWS // (2 * GRID), ROWS - 1), x0 + x1


def _overlap(a: Region, b: Region) -> float:
    """Intersection over union of two boxes."""
    ax0, ay0, ax1, ay1 = a.bounds
    bx0, by0, bx1, by1 = b.bounds
    common = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - common
    return common / union if union else float(a.points == b.points)
