"""A thing in a scene: its outline, the polygons that draw it, what casts its shadow, what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gmrt.georsmllm.scenes.materials import CODES, Colour, Material
from gmrt.georsmllm.scenes.raster import FloatArray, IntArray
from gmrt.georsmllm.scenes.shapes import turned

GROUND, THINGS, CANOPY = range(3)
"""Stages, drawn in this order: what lies flat, what stands on it, what hangs over both."""


@dataclass(frozen=True)
class Parts:
    """The polygons that draw an item, in metres.

    They are points [M, 2] and sizes [P], and of each polygon its colour [P, 3], material code [P], level [P] (lower
    ones are drawn first; those below 0 are no part of the item but lie round it: kerbs, decks), opacity [P], and tilt
    [P, 2] (the direction in which its face slopes times the steepness: a face turned to the sun is brighter).
    """

    points: FloatArray
    sizes: IntArray
    colours: FloatArray
    materials: IntArray
    levels: IntArray
    opacity: FloatArray
    tilts: FloatArray


@dataclass(frozen=True)
class Casts:
    """The polygons that throw shadows.

    They are points [M, 2] and sizes [P], and each rises from ``bases`` to ``heights`` [P] in metres.
    """

    points: FloatArray
    sizes: IntArray
    bases: FloatArray
    heights: FloatArray


@dataclass(frozen=True)
class Stripes:
    """A pattern laid over a flat item: waves across ``angle`` with a ``period`` in metres.

    ``contrast`` is the share by which brightness swings, ``wander`` how far the lines bend (metres), ``share`` the
    part of a period that is dark.
    """

    angle: float
    period: float
    contrast: float
    wander: float = 0.0
    share: float = 0.5


@dataclass(frozen=True)
class Item:
    """One thing: what it looks like in coordinates of its own, and where it has been `moved` to (metres).

    ``category`` is the label in words, empty for what is not labelled; ``shape`` [N, 2] is what the label will say, in
    the item's own coordinates; ``x``, ``y`` and ``angle`` (radians, from x towards y) are its pose; ``cover`` is the
    land cover that it makes of the ground, empty when it makes none; ``height`` in metres; ``wall`` the colour of its
    sides when they can be seen at a slant; ``heading`` the direction of its length in its own coordinates, None for
    what has none; ``attributes`` are words by kind.
    """

    category: str
    shape: FloatArray
    parts: Parts
    casts: Casts
    stage: int = THINGS
    cover: str = ""
    height: float = 0.0
    wall: Colour | None = None
    heading: float | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    stripes: Stripes | None = None
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0

    @cached_property
    def outline(self) -> FloatArray:
        """The outline where the item is, in metres [N, 2]."""
        points: FloatArray = turned(self.shape, self.angle) + np.array([self.x, self.y])
        return points

    @property
    def width(self) -> float:
        """How far the item reaches across its own x axis, in metres."""
        return float(np.ptp(self.shape[:, 1]))

    def moved(self, x: float, y: float, angle: float = 0.0) -> Item:
        """The same thing turned by ``angle`` and put at x, y. An item is moved once."""
        # dataclasses.replace runs the whole constructor: ten times as long, fifty times a scene.
        thing = object.__new__(Item)
        vars(thing).update(vars(self), x=x, y=y, angle=angle)
        vars(thing).pop("outline", None)
        return thing


class Pen:
    """Collects the polygons of an item while it is drawn."""

    def __init__(self) -> None:
        self._points: list[FloatArray] = []
        self._sizes: list[int] = []
        self._rows: list[tuple[float, ...]] = []
        self._casts: list[FloatArray] = []
        self._rises: list[tuple[float, float]] = []

    def fill(
        self,
        points: FloatArray,
        colour: Colour,
        material: Material = "roof",
        *,
        level: int = 0,
        opacity: float = 1.0,
        tilt: tuple[float, float] = (0.0, 0.0),
        size: int = 0,
    ) -> None:
        """Paint a polygon; with ``size``, ``points`` holds several polygons of so many corners each."""
        count = len(points) // size if size else 1
        self._points.append(points)
        self._sizes += [size or len(points)] * count
        self._rows += [(*colour, CODES[material], level, opacity, *tilt)] * count

    def cast(self, points: FloatArray, height: float, base: float = 0.0) -> None:
        """Let a polygon throw the shadow of something that rises from ``base`` to ``height`` metres."""
        self._casts.append(points)
        self._rises.append((base, height))

    def item(self, category: str, outline: FloatArray, **known: object) -> Item:
        """Put the pen down: everything drawn becomes one item; ``known`` are the item's other fields."""
        rows = np.array(self._rows, dtype=np.float64).reshape(-1, 8)
        parts = Parts(
            np.concatenate([*self._points, np.zeros((0, 2))]),
            np.array(self._sizes, dtype=np.int64),
            rows[:, :3],
            rows[:, 3].astype(np.int64),
            rows[:, 4].astype(np.int64),
            rows[:, 5],
            rows[:, 6:],
        )
        sizes = np.array([len(points) for points in self._casts], dtype=np.int64)
        rises = np.array(self._rises, dtype=np.float64).reshape(-1, 2)
        casts = Casts(np.concatenate([*self._casts, np.zeros((0, 2))]), sizes, rises[:, 0], rises[:, 1])
        return Item(category, outline, parts, casts, **known)  # type: ignore[arg-type]


def gather(items: list[Item]) -> tuple[Parts, Casts]:
    """All polygons of several items as one batch in their order, where the items are."""
    group = [*items, _NOTHING]
    pose = np.array([(item.x, item.y, item.angle) for item in group])
    sizes = np.concatenate([item.parts.sizes for item in group])
    counts = np.array([(len(i.parts.points), len(i.parts.sizes), len(i.casts.points)) for i in group])
    points = _posed(np.concatenate([item.parts.points for item in group]), np.repeat(pose, counts[:, 0], axis=0))
    turns = np.repeat(pose, counts[:, 1], axis=0) * (0.0, 0.0, 1.0)
    parts = Parts(
        points,
        sizes,
        np.concatenate([item.parts.colours for item in group]),
        np.concatenate([item.parts.materials for item in group]),
        np.concatenate([item.parts.levels for item in group]),
        np.concatenate([item.parts.opacity for item in group]),
        _posed(np.concatenate([item.parts.tilts for item in group]), turns),
    )
    casts = Casts(
        _posed(np.concatenate([item.casts.points for item in group]), np.repeat(pose, counts[:, 2], axis=0)),
        np.concatenate([item.casts.sizes for item in group]),
        np.concatenate([item.casts.bases for item in group]),
        np.concatenate([item.casts.heights for item in group]),
    )
    return parts, casts


def _posed(points: FloatArray, poses: FloatArray) -> FloatArray:
    """Points [M, 2], each turned and moved by a pose (x, y, angle) of its own."""
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    x, y = points.T
    return np.stack([x * cos - y * sin + poses[:, 0], x * sin + y * cos + poses[:, 1]], axis=1)


_NOTHING = Pen().item("", np.zeros((0, 2)))


def flat(
    category: str, outline: FloatArray, colour: Colour, material: Material, *, cover: str, **known: object
) -> Item:
    """A flat piece of ground in one colour."""
    pen = Pen()
    pen.fill(outline, colour, material)
    return pen.item(category, outline, stage=GROUND, cover=cover, **known)
