"""Polygons to pixels: antialiased, many at a time, each with weights of its own.

A polygon is an array of points [N, 2] (x, y) in pixels, origin at the top-left *corner* of the image, so that pixel
(row, column) covers the square from (column, row) to (column + 1, row + 1). Many polygons travel together as one array
``points`` [M, 2] and the number of points of each, ``sizes`` [P].

Every polygon is cut along lines that run down the image, four to a pixel. At each crossing its weight is switched on
or off, split between two pixels in the proportion of the crossing's place in them; a running sum down the column then
gives coverage that is exact in y.
Because all this is linear, a batch with a weight per polygon and channel costs as much as one polygon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Planes = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

SUBLINES = 4


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
    x0, y0, x1, y1 = edges.ends.T * np.array([[SUBLINES], [1.0], [SUBLINES], [1.0]])
    first = np.clip(np.ceil(np.minimum(x0, x1) - 0.5), 0, width * SUBLINES).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(x0, x1) - 0.5), 0, width * SUBLINES).astype(np.int64)
    count = last - first
    total = int(count.sum())
    if not total:
        return nothing
    line = np.arange(total) - np.repeat(np.cumsum(count) - count - first, count)
    slope = (y1 - y0) / np.where(x1 == x0, 1.0, x1 - x0)
    y = np.clip(np.repeat(y0 - (x0 - 0.5) * slope, count) + line * np.repeat(slope, count), 0, height)
    row, column = y.astype(np.int64), line // SUBLINES
    top, bottom = int(row.min()), min(int(np.ceil(y.max())), height)
    left, right = int(column.min()), int(column.max()) + 1
    if bottom <= top:
        return nothing
    rows, columns = bottom - top, right - left
    cell = (row - top) * columns + (column - left)
    under, size = y - row, (rows + 2) * columns
    turns = np.where(x1 > x0, 1.0, -1.0)[:, None] / SUBLINES * weights[edges.owner]
    sums = np.empty((rows, weights.shape[1], columns), np.float32)
    for channel, turn in enumerate(turns.T):
        above = np.repeat(turn, count)
        below = above * under
        switched = np.bincount(cell, above - below, size)
        switched[columns:] += np.bincount(cell, below, size - columns)
        sums[:, channel] = switched[: rows * columns].reshape(rows, columns)
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
    x0, y0 = points.T[:, :, None]
    x1, y1 = following(points).T[:, :, None]
    y = np.arange(rows.start, rows.stop) + 0.5
    crossed = (y0 <= y) != (y1 <= y)
    at = x0 + (y - y0) * ((x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0))
    # Pixels to the right of an odd number of crossings are inside.
    first = np.clip(np.ceil(at - 0.5) - columns.start, 0, columns.stop - columns.start).astype(np.int64)
    wide = columns.stop - columns.start + 1
    cells = (np.arange(len(y)) * wide + first)[crossed]
    toggles = np.bincount(cells, minlength=len(y) * wide).reshape(len(y), wide)
    inside: npt.NDArray[np.bool_] = (np.cumsum(toggles, axis=1)[:, :-1] & 1).astype(bool)
    return rows, columns, inside


def following(points: FloatArray) -> FloatArray:
    """The point after each of a closed polygon's."""
    return np.concatenate([points[1:], points[:1]])


def bounds(points: FloatArray) -> Box:
    """The box round points, as numbers (left, top, right, bottom)."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def area_of(points: FloatArray) -> float:
    """Area of a polygon (shoelace formula), never negative."""
    x, y = points.T
    twice = np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]) + x[-1] * y[0] - x[0] * y[-1]
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
