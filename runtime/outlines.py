"""Areas and overlaps of outlines, exactly, in numpy.

An outline is float64 [N, 2], x before y, without repeating its first point; any unit, y pointing down.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def following(points: FloatArray) -> FloatArray:
    """For each corner the next one round the outline, [N, 2]; `numpy.roll` does the same in five times the time."""
    return np.concatenate([points[1:], points[:1]])


def area(points: FloatArray) -> float:
    """Area inside a simple outline (shoelace formula)."""
    return abs(signed_area(points))


def signed_area(points: FloatArray) -> float:
    """Area inside a simple outline, above 0 when it runs clockwise on a screen."""
    (x, y), (u, v) = points.T, following(points).T
    return float(np.dot(x, v) - np.dot(u, y)) / 2


def areas(a: FloatArray, b: FloatArray) -> tuple[float, float, float]:
    """Areas inside ``a``, inside ``b`` and inside both, exactly, for any two outlines.

    The plane is cut into horizontal slabs at every corner and every crossing. Within a slab no two edges cross, so the
    widths are linear in y, and the width half-way up times the height is the exact area. What is inside follows the
    even-odd rule, which also gives a meaning to the self-crossing outline that a model may answer with.
    """
    starts = np.concatenate([a, b]).astype(np.float64)
    ends = np.concatenate([following(a), following(b)]).astype(np.float64)
    owner = np.arange(len(starts)) < len(a)
    levels = np.unique(np.concatenate([starts[:, 1], _crossings(starts, ends)]))
    middles, heights = (levels[1:] + levels[:-1]) / 2, np.diff(levels)

    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    crossed = (low < middles[:, None]) & (middles[:, None] < high)
    rise = np.where(ends[:, 1] == starts[:, 1], 1.0, ends[:, 1] - starts[:, 1])
    x = starts[:, 0] + (middles[:, None] - starts[:, 1]) * (ends[:, 0] - starts[:, 0]) / rise
    x = np.where(crossed, x, starts[:, 0].max() + 1)
    order = np.argsort(x, axis=1, kind="stable")
    widths = np.diff(np.take_along_axis(x, order, axis=1), axis=1)
    in_a = np.cumsum(np.take_along_axis(crossed & owner, order, axis=1), axis=1)[:, :-1] % 2 == 1
    in_b = np.cumsum(np.take_along_axis(crossed & ~owner, order, axis=1), axis=1)[:, :-1] % 2 == 1
    first, second, both = (float(heights @ (widths * inside).sum(axis=1)) for inside in (in_a, in_b, in_a & in_b))
    return first, second, both


def _crossings(starts: FloatArray, ends: FloatArray) -> FloatArray:
    """Heights y at which any two of the edges cross; parallel edges never do."""
    along = ends - starts
    between = starts[None] - starts[:, None]
    cross = along[:, None, 0] * along[None, :, 1] - along[:, None, 1] * along[None, :, 0]
    parallel = cross == 0
    cross = np.where(parallel, 1.0, cross)
    t = (between[..., 0] * along[None, :, 1] - between[..., 1] * along[None, :, 0]) / cross
    u = (between[..., 0] * along[:, None, 1] - between[..., 1] * along[:, None, 0]) / cross
    hit = ~parallel & (t > 0) & (t < 1) & (u > 0) & (u < 1)
    heights: FloatArray = (starts[:, None, 1] + t * along[:, None, 1])[hit]
    return heights


def iou(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of any two outlines; two outlines without area agree only when they are the same."""
    first, second, both = areas(a, b)
    union = first + second - both
    if union <= 0:
        return float(a.shape == b.shape and np.array_equal(a, b))
    return both / union


def box_outline(x0: float, y0: float, x1: float, y1: float) -> FloatArray:
    """The four corners of an upright box, clockwise from the top left."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)


def contains(outline: FloatArray, point: tuple[float, float]) -> bool:
    """Whether a point is inside an outline (even-odd rule; a point on the edge may fall either way)."""
    x, y = point
    ends = following(outline)
    spans = (outline[:, 1] > y) != (ends[:, 1] > y)
    rise = np.where(spans, ends[:, 1] - outline[:, 1], 1.0)
    at = outline[:, 0] + (y - outline[:, 1]) * (ends[:, 0] - outline[:, 0]) / rise
    return bool((spans & (at > x)).sum() % 2)
