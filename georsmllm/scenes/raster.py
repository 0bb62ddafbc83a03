"""Polygons to pixels: antialiased, many at a time, each with weights of its own.

A polygon is an array of points [N, 2] (x, y) in pixels, origin at the top-left *corner* of the image, so that pixel
(row, column) covers the square from (column, row) to (column + 1, row + 1). Many polygons travel together as one array
``points`` [M, 2] and the number of points of each, ``sizes`` [P].

Every edge is cut into strips, three to a pixel, narrower where it begins or ends within one. In the middle of each
piece the polygon's weight is switched on or off, in proportion to the width of the piece and split between two pixels
by where the crossing lies in them; a running sum down the column then gives coverage. The area of a polygon within the
image comes out exactly, however thin it is; only along steep edges does coverage go in steps.
Because all this is linear, a batch with a weight per polygon and channel costs as much as one polygon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Planes = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

STRIPS = 3


@dataclass(frozen=True)
class Edges:
    """Directed edges ``ends`` [E, 4] (x0, y0, x1, y1) and the polygon that each belongs to, ``owner`` [E]."""

    ends: FloatArray
    owner: IntArray


@dataclass(frozen=True)
class Patch:
    """What a fill touched: rows and columns of the image, and the sums ``planes`` float32 [K, rows, columns]."""

    rows: slice
    columns: slice
    planes: Planes

    @property
    def empty(self) -> bool:
        """Whether nothing fell into the image."""
        return self.planes.size == 0


def edges_of(points: FloatArray, sizes: IntArray) -> Edges:
    """Edges of closed polygons, all turned the same way round."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    following = np.arange(1, len(points) + 1)
    stops = np.cumsum(sizes)
    following[stops - 1] = stops - sizes
    ends = np.concatenate([points, points[following]], axis=1)
    doubled = ends[:, 0] * ends[:, 3] - ends[:, 2] * ends[:, 1]
    area = np.add.reduceat(doubled, stops - sizes) if len(sizes) else doubled
    flip = (area < 0)[owner]
    ends[flip] = ends[flip][:, [2, 3, 0, 1]]
    return Edges(ends, owner)


def swept(points: FloatArray, sizes: IntArray, shifts: FloatArray) -> Edges:
    """Edges of what polygons cover while each slides along its shift [P, 2]: shadows, and walls seen at a slant.

    The sweep is the polygon plus a parallelogram for each edge that faces forward.
    """
    still = edges_of(points, sizes)
    shift = shifts[still.owner]
    along = still.ends[:, 2:] - still.ends[:, :2]
    forward = along[:, 1] * shift[:, 0] - along[:, 0] * shift[:, 1] > 0
    ends, moved = still.ends.copy(), shift[forward]
    start, stop = still.ends[forward, :2], still.ends[forward, 2:]
    ends[forward] += np.concatenate([moved, moved], axis=1)
    sides = np.concatenate(
        [np.concatenate([start, start + moved], axis=1), np.concatenate([stop + moved, stop], axis=1)]
    )
    owner = still.owner[forward]
    return Edges(np.concatenate([ends, sides]), np.concatenate([still.owner, owner, owner]))


def fill(edges: Edges, weights: FloatArray, height: int, width: int) -> Patch:
    """Sum of coverage × weight over polygons, for each of K weights: ``weights`` [P, K] → planes [K, rows, columns]."""
    nothing = Patch(slice(0, 0), slice(0, 0), np.zeros((weights.shape[1], 0, 0), np.float32))
    x0, y0, x1, y1 = edges.ends.T * np.array([[STRIPS], [1.0], [STRIPS], [1.0]])
    low, high = np.clip(np.minimum(x0, x1), 0, width * STRIPS), np.clip(np.maximum(x0, x1), 0, width * STRIPS)
    across = np.flatnonzero(high - low > 1e-9)  # an edge straight down switches nothing
    if not len(across):
        return nothing
    x0, y0, x1, y1, low, high = (ends[across] for ends in (x0, y0, x1, y1, low, high))
    first, last = np.floor(low), np.ceil(high)
    count = (last - first).astype(np.int64)
    stops = np.cumsum(count)
    starts = stops - count
    strip = np.arange(int(stops[-1])) + np.repeat(first.astype(np.int64) - starts, count)
    share, middle = np.ones(len(strip)), strip + 0.5
    share[starts] -= low - first
    share[stops - 1] -= last - high
    middle[starts] += (low - first) / 2
    middle[stops - 1] -= (last - high) / 2
    slope = (y1 - y0) / (x1 - x0)
    y = np.clip(np.repeat(y0 - x0 * slope, count) + middle * np.repeat(slope, count), 0, height)
    row, column = y.astype(np.int64), strip // STRIPS
    top, bottom = int(row.min()), min(int(np.ceil(y.max())), height)
    left, right = int(column.min()), int(column.max()) + 1
    if bottom <= top:
        return nothing
    rows, columns = bottom - top, right - left
    below = ((y - row) * share).astype(np.float32)
    above = share.astype(np.float32) - below
    turns = ((np.sign(x1 - x0) / STRIPS)[:, None] * weights[edges.owner[across]]).astype(np.float32)
    channels = turns.shape[1]
    sums = np.zeros((rows + 2, channels, columns), np.float32)
    cells, place = sums.reshape(-1), (row - top) * (channels * columns) + (column - left)
    for channel, turn in enumerate(turns.T):
        weight = np.repeat(turn, count)
        np.add.at(cells[channel * columns :], place, weight * above)
        np.add.at(cells[(channels + channel) * columns :], place, weight * below)
    sums = sums[:rows]
    for upper, lower in pairwise(sums):
        np.add(lower, upper, out=lower)
    return Patch(slice(top, bottom), slice(left, right), sums.transpose(1, 0, 2))


def coverage(points: FloatArray, height: int, width: int) -> Patch:
    """How much of each pixel one polygon covers, in 0…1; one plane."""
    patch = fill(edges_of(points, np.array([len(points)])), np.ones((1, 1)), height, width)
    np.clip(patch.planes, 0, 1, out=patch.planes)
    return patch


def mask_patch(points: FloatArray, height: int, width: int) -> tuple[slice, slice, npt.NDArray[np.bool_]]:
    """Rows, columns and the pixels there whose centres lie in a polygon (even-odd rule): quick for small polygons."""
    left, top, right, bottom = bounds(points)
    rows = slice(max(int(top), 0), max(min(math.ceil(bottom), height), 0))
    columns = slice(max(int(left), 0), max(min(math.ceil(right), width), 0))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    ends = following(points)
    y = np.arange(rows.start + 0.5, rows.stop)
    above = points[:, 1:] <= y
    edge, line = np.nonzero(above != following(above))
    along = ends - points
    slope = along[:, 0] / np.where(along[:, 1] == 0, 1.0, along[:, 1])
    at = points[edge, 0] + (y[line] - points[edge, 1]) * slope[edge]
    # Pixels to the right of an odd number of crossings are inside.
    wide = columns.stop - columns.start + 1
    first = np.minimum(np.maximum(np.ceil(at - (0.5 + columns.start)), 0), wide - 1).astype(np.int64)
    toggles = np.bincount(line * wide + first, minlength=len(y) * wide).reshape(len(y), wide)
    inside: npt.NDArray[np.bool_] = (np.add.accumulate(toggles, axis=1)[:, :-1] & 1).astype(bool)
    return rows, columns, inside


def following(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The point after each of a closed polygon's, or what is known of it."""
    return np.concatenate([points[1:], points[:1]])


def bounds(points: FloatArray) -> Box:
    """The box round points, as numbers (left, top, right, bottom)."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def area_of(points: FloatArray) -> float:
    """Area of a polygon (shoelace formula), never negative."""
    x, y = points[:, 0], points[:, 1]
    twice = x[:-1].dot(y[1:]) - x[1:].dot(y[:-1]) + x[-1] * y[0] - x[0] * y[-1]
    return abs(float(twice)) / 2


def clip(points: FloatArray, planes: FloatArray) -> FloatArray:
    """The part of a polygon where a·x + b·y ≤ c for every row (a, b, c) of ``planes`` (Sutherland–Hodgman 1974)."""
    for index in np.flatnonzero((points @ planes[:, :2].T > planes[:, 2]).any(axis=0)):
        a, b, c = planes[index]
        beyond = points @ np.array([a, b]) - c
        out = beyond > 0
        ahead, next_points = np.concatenate([beyond[1:], beyond[:1]]), following(points)
        crossing = out != np.concatenate([out[1:], out[:1]])
        share = np.where(crossing, beyond / np.where(crossing, beyond - ahead, 1.0), 0.0)[:, None]
        both = np.stack([points, points + share * (next_points - points)], axis=1)
        points = both[np.stack([~out, crossing], axis=1)]
        if len(points) < 3:
            return np.zeros((0, 2))
    return points


def frame(width: float, height: float) -> FloatArray:
    """The four half-planes of a rectangle that begins at the origin, for `clip`."""
    return np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, width], [0.0, -1.0, 0.0], [0.0, 1.0, height]])
