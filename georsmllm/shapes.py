"""Geometry of outlines: areas, overlaps, distances, the smallest rotated box, fewer corners.

An outline is float [N, 2], x before y, without repeating its first point; any unit. "Clockwise" is as seen on a screen,
with y pointing down. Everything is numpy: shapes here have some dozens of corners, and exact formulas on that many are
a page of code and need no library. Areas and overlaps, which the field needs too, lie in `gmrt.runtime.outlines`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmrt.runtime.outlines import area, areas, box_outline, contains, following, iou, signed_area

__all__ = [
    "FloatArray",
    "area",
    "areas",
    "box_outline",
    "contains",
    "distance",
    "following",
    "hull",
    "iou",
    "minimal_rotated_box",
    "ordered",
    "simplify",
    "turned_rectangle",
]

FloatArray = npt.NDArray[np.float64]


def distance(a: FloatArray, b: FloatArray) -> float:
    """Shortest way from the edge of one outline to the edge of another that it does not cross."""
    return min(_corners_to_edges(a, b), _corners_to_edges(b, a))


def _corners_to_edges(corners: FloatArray, outline: FloatArray) -> float:
    along = following(outline) - outline
    to = corners[:, None] - outline[None]
    length = (along**2).sum(axis=1)
    place = np.clip((to * along).sum(axis=2) / np.where(length == 0, 1.0, length), 0, 1)
    return float(np.sqrt(((to - place[..., None] * along) ** 2).sum(axis=2)).min())


def ordered(points: FloatArray) -> FloatArray:
    """The same outline clockwise, from the corner nearest to the image's top left.

    One shape then has one way of being written. Measured by x + y, the first corner of an upright box stays the same
    when the box turns a little, which the topmost corner would not.
    """
    if signed_area(points) < 0:
        points = points[::-1]
    first = int(np.lexsort((points[:, 1], points.sum(axis=1)))[0])
    return np.roll(points, -first, axis=0)


def hull(points: FloatArray) -> FloatArray:
    """Convex hull, clockwise (Andrew's monotone chain, 1979); points in a line give its two ends, one point itself."""
    unique = np.unique(points, axis=0)  # sorted by x, then y
    if len(unique) <= 2:
        return unique

    def chain(sequence: FloatArray) -> list[FloatArray]:
        kept: list[FloatArray] = []
        for point in sequence:
            while len(kept) >= 2 and _turn(kept[-2], kept[-1], point) <= 0:
                kept.pop()
            kept.append(point)
        return kept[:-1]

    return np.array(chain(unique) + chain(unique[::-1]))


def _turn(a: FloatArray, b: FloatArray, c: FloatArray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def minimal_rotated_box(points: FloatArray) -> FloatArray:
    """The rectangle of least area that holds all points, float64 [4, 2] in the order of `ordered`.

    One side of it lies on a side of the hull (Freeman and Shapira 1975), so trying every side is enough. It is a
    rectangle in the unit of the points: positions in 0…1 give one in the image only when the image is square.
    """
    corners = hull(np.asarray(points, dtype=np.float64))
    sides = following(corners) - corners
    lengths = np.hypot(*sides.T)
    directions = sides[lengths > 0] / lengths[lengths > 0][:, None]
    if len(directions) == 0:
        directions = np.array([(1.0, 0.0)])
    across = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    u, v = corners @ directions.T, corners @ across.T
    best = int(np.argmin(np.ptp(u, axis=0) * np.ptp(v, axis=0)))
    (u0, u1), (v0, v1) = ((s[:, best].min(), s[:, best].max()) for s in (u, v))
    return ordered(box_outline(u0, v0, u1, v1) @ np.stack([directions[best], across[best]]))


def turned_rectangle(corners: FloatArray) -> tuple[float, float, float, float]:
    """Long and short side of a rectangle [4, 2], and cosine and sine of twice its angle: turned by half it is the same.

    Of a square, cosine and sine are those of either side.
    """
    first, second, third, _ = corners
    long, short = sorted((second - first, third - second), key=lambda side: -float(np.hypot(*side)))
    angle = 2 * np.arctan2(long[1], long[0])
    return float(np.hypot(*long)), float(np.hypot(*short)), float(np.cos(angle)), float(np.sin(angle))


def simplify(points: FloatArray, most: int, *, flat: float = 0.0) -> FloatArray:
    """The outline with at most ``most`` (≥ 3) of its corners, in the order of `ordered`.

    The corner whose triangle with its neighbours is smallest goes first, so that each step changes the area least
    (Visvalingam and Whyatt 1993); corners whose triangle is not larger than ``flat`` go even when there is room.
    """
    kept = np.asarray(points, dtype=np.float64)
    while len(kept) > 3:
        first = following(kept) - kept
        second = following(first)
        triangles = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2  # each at the corner after
        least = int(triangles.argmin())
        if len(kept) <= most and triangles[least] > flat:
            break
        kept = np.delete(kept, (least + 1) % len(kept), axis=0)
    return ordered(kept)
