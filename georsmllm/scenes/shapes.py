"""Outlines in metres round the origin, x to the front (or right), y to the side (or down); polygons are [N, 2]."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from gmrt.georsmllm.scenes.raster import FloatArray


def rectangle(length: float, width: float, x: float = 0.0, y: float = 0.0) -> FloatArray:
    """A rectangle, ``length`` along x, with its middle at x, y."""
    a, b = length / 2, width / 2
    return np.array([[x - a, y - b], [x + a, y - b], [x + a, y + b], [x - a, y + b]])


@lru_cache(maxsize=64)
def _circle(count: int) -> FloatArray:
    angle = np.arange(count) * (2 * math.pi / count)
    # Pushed out a little, so that the polygon has the area of the circle.
    grow = math.sqrt(2 * math.pi / count / math.sin(2 * math.pi / count))
    rim: FloatArray = grow * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return rim


def ellipse(rx: float, ry: float, x: float = 0.0, y: float = 0.0, *, count: int = 16) -> FloatArray:
    """An ellipse of half-axes rx, ry as a polygon of ``count`` corners and the same area."""
    points: FloatArray = _circle(count) * np.array([rx, ry]) + np.array([x, y])
    return points


def disc(radius: float, x: float = 0.0, y: float = 0.0, *, count: int = 16) -> FloatArray:
    """A circle as a polygon."""
    return ellipse(radius, radius, x, y, count=count)


def sector(radius: float, start: float, stop: float, *, inner: float = 0.0, count: int = 5) -> FloatArray:
    """A slice of a disc or, with an ``inner`` radius, of a ring; angles in radians."""
    angle = np.linspace(start, stop, count)
    rim = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if inner <= 0:
        return np.concatenate([np.zeros((1, 2)), rim])
    return np.concatenate([rim, rim[::-1] * (inner / radius)])


def rounded(length: float, width: float, corner: float, x: float = 0.0, y: float = 0.0) -> FloatArray:
    """A rectangle with its corners rounded off, three points to a corner."""
    corner = min(corner, length / 2, width / 2)
    a, b, cut = length / 2 - corner, width / 2 - corner, corner * math.sqrt(0.5)
    quarter = np.array([[a + corner, b], [a + cut, b + cut], [a, b + corner]])
    turned = quarter[::-1] * np.array([-1.0, 1.0])
    points: FloatArray = np.concatenate([quarter, turned, -quarter, -turned]) + np.array([x, y])
    return points


def mirrored(half: list[tuple[float, float]]) -> FloatArray:
    """A shape symmetric about the x axis from the points of its half with y ≥ 0, front to back."""
    side = np.array(half)
    other = side[::-1] * np.array([1.0, -1.0])
    keep = np.abs(other[:, 1]) > 1e-9  # points on the axis are not repeated
    return np.concatenate([side, other[keep]])


def ribbon(line: FloatArray, width: float | FloatArray) -> FloatArray:
    """A strip of the given width (one number, or one per point) along a polyline [N, 2]."""
    aside = sideways(line) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([line + aside, (line - aside)[::-1]])


def sideways(line: FloatArray) -> FloatArray:
    """At each point of a polyline [N, 2], the unit vector across it."""
    step = np.empty_like(line)
    step[0], step[-1] = line[1] - line[0], line[-1] - line[-2]
    step[1:-1] = line[2:] - line[:-2]
    x, y = step.T / np.maximum(np.hypot(*step.T), 1e-9)
    return np.stack([-y, x], axis=1)


def bar(start: tuple[float, float], stop: tuple[float, float], width: float) -> FloatArray:
    """A straight stroke between two points."""
    (x0, y0), (x1, y1) = start, stop
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    a, b = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
    return np.array([[x0 + a, y0 + b], [x1 + a, y1 + b], [x1 - a, y1 - b], [x0 - a, y0 - b]])


def strokes(lines: FloatArray, width: float) -> FloatArray:
    """Straight strokes, one for each line of [N, 2, 2] from point to point, as quadrangles [4 N, 2]."""
    start, stop = lines[:, 0], lines[:, 1]
    x, y = (stop - start).T / np.maximum(np.hypot(*(stop - start).T), 1e-9) * (width / 2)
    aside = np.stack([-y, x], axis=1)
    return np.stack([start + aside, stop + aside, stop - aside, start - aside], axis=1).reshape(-1, 2)


def wobbly(radius: float, rng: np.random.Generator, *, count: int = 12, depth: float = 0.15) -> FloatArray:
    """A disc with an uneven rim: crowns, bushes, spills, copses."""
    points: FloatArray = _circle(count) * (radius * (1 + depth * rng.uniform(-1, 1, count)))[:, None]
    return points


def star(radius: float, inner: float, tips: int, turn: float = 0.0) -> FloatArray:
    """A star with the given number of tips."""
    angle = turn + np.arange(2 * tips) * (math.pi / tips)
    reach = np.where(np.arange(2 * tips) % 2, inner, radius)
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def rows(length: float, width: float, positions: FloatArray) -> FloatArray:
    """Equal rectangles (length along x) at positions [N, 2], one after the other as [4 N, 2]."""
    return (positions[:, None] + rectangle(length, width)[None]).reshape(-1, 2)


def turned(points: FloatArray, angle: float) -> FloatArray:
    """Points turned by an angle in radians, from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    moved: FloatArray = points @ np.array([[cos, sin], [-sin, cos]])
    return moved
