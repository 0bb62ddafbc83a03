"""The ground on which a layout is laid out: what is where already, and whether one more thing fits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.scenes.item import GROUND, Item
from gmrt.georsmllm.scenes.plan import Ground, Plan, seen
from gmrt.georsmllm.scenes.raster import Box, FloatArray, area_of, bounds, clip, frame, mask_patch
from gmrt.georsmllm.scenes.styles import Style

LAND, PAVED, WATER, TAKEN = range(4)
"""What a place is, for the question whether something may be put there."""
SMALLEST = 6.0
"""Pixels: what is shorter than this is not drawn, because nobody could count it."""
_LEAST_INSIDE = 0.45
_DRAWINGS = 4


class _Allowed(dict[tuple[int, ...], npt.NDArray[np.bool_]]):
    """For a choice of kinds of place, whether each kind is one of them."""

    def __missing__(self, on: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        table = np.zeros(TAKEN + 1, bool)
        table[list(on)] = True
        self[on] = table
        return table


_ALLOWED = _Allowed()


class Site:
    """A plan in the making: ``size`` pixels of ``gsd`` metres, laid out by one generator of chance."""

    def __init__(
        self,
        rng: np.random.Generator,
        style: Style,
        size: int,
        gsd: float,
        edges: FloatArray,
        lean: tuple[float, float],
    ) -> None:
        self.rng, self.style, self.palette, self.size, self.gsd = rng, style, style.palette, size, gsd
        self.side = size * gsd
        self.ground = Ground()
        self.turn = float(rng.integers(4) * math.pi / 2 + (0.0 if rng.random() < 0.3 else rng.uniform(-0.75, 0.75)))
        self.facts: list[str] = []
        self.uncounted: set[str] = set()
        self._edges, self._lean = edges, lean
        self._window = np.concatenate([frame(size, size), edges])
        self._items: list[Item] = []
        self._drawn: dict[tuple[str, ...], list[Item]] = {}
        self._map = np.zeros((size, size), np.uint8)

    def survey(self, ground: npt.NDArray[np.uint8]) -> None:
        """Take over what each pixel is from a map [size, size] (`LAND`, `PAVED`, `WATER` or `TAKEN`)."""
        self._map[:] = ground

    def at(self, u: float, v: float) -> tuple[float, float]:
        """A place given in metres from the middle, along and across the site's own direction, as x, y."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.side / 2 + u * cos - v * sin, self.side / 2 + u * sin + v * cos

    def anywhere(self, reach: float = 0.5) -> tuple[float, float]:
        """A place by chance for `at`: metres from the middle, up to ``reach`` sides away along and across."""
        u, v = self.rng.uniform(-reach, reach, 2).tolist()
        return u * self.side, v * self.side

    def spot(self) -> tuple[float, float]:
        """A place by chance in the picture: x, y in metres."""
        x, y = self.rng.uniform(0, self.side, 2).tolist()
        return x, y

    def near(self, u: float, v: float, reach: float = 0.0) -> bool:
        """Whether something ``reach`` metres long with its middle `at` a place can show in the picture."""
        x, y = self.at(u, v)
        return -reach / 2 < x < self.side + reach / 2 and -reach / 2 < y < self.side + reach / 2

    def line(self, *places: tuple[float, float]) -> FloatArray:
        """Several places `at` once, as points [N, 2]."""
        return np.array([self.at(*place) for place in places])

    def turned(self, item: Item, u: float, v: float, angle: float = 0.0) -> Item:
        """An item moved to a place `at` and turned with the site."""
        return item.moved(*self.at(u, v), self.turn + angle)

    def draw(self, category: str, *how: object) -> Item:
        """Draw one thing in the site's style."""
        return self.style.draw(category, self.rng, *how)

    def another(self, category: str, *how: object) -> Item:
        """One of a few drawings of a category in a colour, made as they are asked for: what there is many of."""
        words = tuple(word for word in how if isinstance(word, str))
        drawn = self._drawn.setdefault((category, *words), [])
        if len(drawn) < _DRAWINGS:
            drawn.append(self.draw(category, *how))
            return drawn[-1]
        return drawn[self.rng.integers(len(drawn))]

    def colour(self, *weighted: tuple[str, float]) -> str:
        """A colour word by weight."""
        pick = self.rng.random() * sum(weight for _, weight in weighted)
        for word, weight in weighted:
            pick -= weight
            if pick < 0:
                return word
        return weighted[-1][0]

    def choose(self, *options: str) -> str:
        """One of some words."""
        return options[self.rng.integers(len(options))]

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return bool(self.rng.random() < probability)

    def count(self, category: str) -> int:
        """How many of a category have been put down."""
        return sum(item.category == category for item in self._items)

    def lay(self, item: Item, becomes: int | None = None) -> bool:
        """Put something flat down; with ``becomes``, what the place is from now on."""
        outline = item.outline / self.gsd
        if self._hidden(item, outline, bounds(outline)):
            return False
        self._items.append(item)
        if becomes is not None:
            rows, columns, inside = mask_patch(outline, self.size, self.size)
            self._map[rows, columns][inside] = becomes
        return True

    def put(self, item: Item, on: tuple[int, ...] = (LAND,), *, slack: float = 0.0, claim: bool = True) -> bool:
        """Put a thing down where the ground is one of ``on``, save for a share ``slack`` of its outline.

        Nothing is put down, and the answer is False, when it does not fit, lies outside the picture, shows too little
        of itself there, or would be too small to see. ``claim`` keeps the place from others; without it and without
        slack only the corners are looked at, which will do for small things in rows.
        """
        outline = seen(item, self._lean) / self.gsd
        box = bounds(outline)
        allowed = _ALLOWED[on]
        if not slack and not allowed[self._at_corners(outline, box)].all():
            return False
        if self._hidden(item, outline, box):
            return False
        if slack or claim:
            rows, columns, inside = mask_patch(outline, self.size, self.size)
            here = self._map[rows, columns]
            fits = allowed[here[inside]]
            if fits.size - np.count_nonzero(fits) > slack * fits.size:
                return False
            if claim:
                here[inside] = TAKEN
        self._items.append(item)
        return True

    def _at_corners(self, outline: FloatArray, box: Box) -> npt.NDArray[np.uint8]:
        """What the ground is at those corners of an outline (pixels) that lie in the picture."""
        column, row = outline.astype(np.int64).T
        if self._cut_off(box):
            inside = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
            row, column = row[inside], column[inside]
        found: npt.NDArray[np.uint8] = self._map[row, column]
        return found

    def _cut_off(self, box: Box) -> bool:
        """Whether something with these bounds reaches beyond the picture."""
        left, top, right, bottom = box
        return left < 0 or top < 0 or right >= self.size or bottom >= self.size

    def free(self, item: Item, on: tuple[int, ...] = (LAND,)) -> bool:
        """Whether the whole outline of an item lies on ground of the given kinds."""
        rows, columns, inside = mask_patch(item.outline / self.gsd, self.size, self.size)
        return bool(_ALLOWED[on][self._map[rows, columns][inside]].all())

    def trees(self, tries: int, sizes: tuple[float, float] = (4.0, 10.0), on: tuple[int, ...] = (LAND,)) -> None:
        """Scatter trees, alone and in groves."""
        drawn = [self.draw("tree", self.rng.uniform(*sizes)) for _ in range(min(tries, 8))]
        x, y = self.spot()
        for _ in range(tries):
            if self.chance(0.6):
                x, y = self.spot()
            else:
                x, y = x + self.rng.normal(0, sizes[1]), y + self.rng.normal(0, sizes[1])
            tree, angle = drawn[self.rng.integers(len(drawn))], self.rng.uniform(0, 2 * math.pi)
            column, row = int(x / self.gsd), int(y / self.gsd)
            # Most places are ruled out by the stem alone.
            if not (0 <= row < self.size and 0 <= column < self.size) or self._map[row, column] in on:
                self.put(tree.moved(x, y, angle), on)

    def plan(self, kind: str, scene_class: str) -> Plan:
        """The finished plan."""
        texture = int(self.rng.integers(2**31))
        return Plan(
            kind,
            scene_class,
            self.style,
            self.size,
            self.gsd,
            self.ground,
            tuple(self._items),
            self._edges,
            self._lean,
            texture,
            tuple(self.facts),
            frozenset(self.uncounted),
        )

    def _hidden(self, item: Item, outline: FloatArray, box: Box) -> bool:
        """Whether so little of an item, its outline in pixels, would show that it is better left out."""
        left, top, right, bottom = box
        if right <= 0 or bottom <= 0 or left >= self.size or top >= self.size:
            return True
        if not item.category:
            return False
        area = area_of(outline)
        if len(self._edges) or self._cut_off(box):
            least = 0.0 if item.stage == GROUND else min(_LEAST_INSIDE * area, 0.02 * self.size**2)
            outline = clip(outline, self._window)
            if len(outline) < 3 or (area := area_of(outline)) < least:
                return True
            left, top, right, bottom = bounds(outline)
        return max(right - left, bottom - top) < SMALLEST or area < 8.0
