"""Which objects of an image fulfil a condition, and how far each is from the border between yes and no.

Every condition gives each object a *slack*: above 0 it holds, below it does not, and the size says how clearly, in
units of a margin below which people would disagree. Not turns the sign, And takes the least and Or the greatest, so the
slack of a sentence follows from that of its words. An object with a slack within ±1 makes the sentence ambiguous for
the image, and data-making leaves it out.

Positions and lengths are in 0…1 of the image; a side is the square root of an area.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.conditions.tree import (
    And,
    Attribute,
    Category,
    Condition,
    Not,
    Or,
    Position,
    Relation,
    Size,
    holds_rank,
    normalise,
)
from gmrt.georsmllm.conditions.words import plain, singular
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.shapes import areas, contains, distance

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

THIRD = 1 / 3
"""Left, right, top and bottom are the outer thirds, the centre the middle one both ways: the usual grid of nine."""
MARGIN = 0.03
"""What is closer than this to a border is ambiguous: 8 pixels of 256, a fifth to a half of most things asked for."""
NEXT_TO = 0.06
"""At most this between the outlines of two things next to each other: half a token of the 8 × 8 of the nano model."""
INSIDE = 0.5
"""At least this share of an object is inside what it is in, on or under: most of it."""
SHARE_MARGIN = 0.25
"""Shares of an object between 0.25 and 0.75 are ambiguous: partly in, partly out."""
SIZE_MARGIN = 0.15
"""Sides that differ by less than this share are ambiguous: a third in area, about what the eye tells apart."""
UNKNOWN = -0.5
"""Slack of an attribute that is not known: taken as absent, and always ambiguous."""
_LEAST = 1e-9

_NEVER, _ALWAYS = -np.inf, np.inf


def select(condition: Condition, objects: Sequence[SceneObject]) -> tuple[SceneObject, ...]:
    """The objects that fulfil a condition, in the order given; empty when none does."""
    return Measured(objects).select(condition)


def is_ambiguous(condition: Condition, objects: Sequence[SceneObject]) -> bool:
    """Whether people could disagree about which of the objects fulfil the condition."""
    return Measured(objects).is_ambiguous(condition)


@lru_cache(maxsize=4096)
def canonical(category: str) -> str:
    """A label's category as conditions compare it: singular, one spelling."""
    return singular(plain(category))


def _signed(slack: FloatArray) -> FloatArray:
    """No slack is 0, so that a condition or its negation holds for every object: on the border it does not hold."""
    return np.where(slack > 0, slack, np.minimum(slack, -_LEAST))


class Measured:
    """The objects of one image, measured once and asked many times; `slack` is float64 [n] by object."""

    def __init__(self, objects: Iterable[SceneObject]) -> None:
        self.objects = tuple(objects)
        self.categories = tuple(canonical(thing.category) for thing in self.objects)
        self.attributes = [{plain(k): plain(v) for k, v in thing.attributes.items()} for thing in self.objects]
        self.boxes = np.array([thing.box for thing in self.objects], dtype=np.float64).reshape(-1, 4)
        self.centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        self.sides = np.sqrt(np.maximum([thing.area for thing in self.objects], _LEAST**2))
        self._everything = np.ones(len(self.objects), dtype=bool)
        self._slacks: dict[Condition, FloatArray] = {}
        self._pairs: dict[str, FloatArray] = {}

    def select(self, condition: Condition) -> tuple[SceneObject, ...]:
        """The objects that fulfil a condition, in the order given."""
        return tuple(self.objects[i] for i in np.flatnonzero(self.slack(condition) > 0))

    def is_ambiguous(self, condition: Condition) -> bool:
        """Whether any object is within the margin of a word of the condition that decides about it."""
        return bool((np.abs(self.slack(condition)) < 1).any())

    def slack(self, condition: Condition) -> FloatArray:
        """How clearly each object fulfils the condition, chosen from all objects; above 0 it does."""
        return self._slack(normalise(condition), self._everything)

    def _slack(self, condition: Condition, among: BoolArray) -> FloatArray:
        if holds_rank(condition):
            return self._worked_out(condition, among)
        if condition not in self._slacks:  # what holds no superlative does not depend on what it chooses from
            self._slacks[condition] = self._worked_out(condition, among)
        return self._slacks[condition]

    def _worked_out(self, condition: Condition, among: BoolArray) -> FloatArray:
        match condition:
            case Not(part):
                return -self._slack(part, among)
            case Or(parts):
                best: FloatArray = np.max([self._slack(part, among) for part in parts], axis=0)
                return best
            case And(parts):
                return self._all(parts, among)
        return self._word(condition, among)

    def _word(self, condition: Category | Attribute | Size | Position | Relation, among: BoolArray) -> FloatArray:
        match condition:
            case Category(name):
                return np.where([category == name for category in self.categories], _ALWAYS, _NEVER)
            case Attribute(kind, value):
                known = [words.get(kind) for words in self.attributes]
                held = [UNKNOWN if word is None else _ALWAYS if word == value else _NEVER for word in known]
                return np.array(held, dtype=np.float64)
            case Size():
                return self._size(condition, among)
            case Position(place):
                return self._position(place, among)
            case Relation(link, other):
                return self._relation(link, self._slack(other, self._everything))

    def _all(self, parts: tuple[Condition, ...], among: BoolArray) -> FloatArray:
        slack = np.full(len(self.objects), _ALWAYS)
        for part in parts:
            if not holds_rank(part):
                slack = np.minimum(slack, self._slack(part, among))
        left = among & (slack > 0)
        for part in parts:
            if holds_rank(part):
                # A superlative says nothing about what the other parts have ruled out already.
                slack = np.minimum(slack, np.where(left, self._slack(part, left), _ALWAYS))
        return slack

    def _size(self, size: Size, among: BoolArray) -> FloatArray:
        if size.than is None:
            value = self.sides if size.extent == "largest" else 1 / self.sides
            return _signed((value / _best_other(value, among, _LEAST**2) - 1) / SIZE_MARGIN)
        than = self._slack(size.than, self._everything)
        if not (than > 0).any():
            return np.full(len(self.objects), _NEVER)
        value = self.sides if size.extent == "larger" else 1 / self.sides
        slack = _signed((value / value[than > 0].max() - 1) / SIZE_MARGIN)
        # No clearer than what it is compared with.
        bounded: FloatArray = np.sign(slack) * np.minimum(np.abs(slack), np.abs(than).min())
        return bounded

    def _position(self, place: str, among: BoolArray) -> FloatArray:
        x, y = self.centres.T
        if place.endswith("most"):
            value = {"left": -x, "right": x, "top": -y, "bottom": y}[place.removesuffix("most")]
            return _signed((value - _best_other(value, among, _NEVER)) / MARGIN)
        parts = {"left": THIRD - x, "right": x - 2 * THIRD, "top": THIRD - y, "bottom": y - 2 * THIRD}
        if place == "centre":
            slack = np.min([-part for part in parts.values()], axis=0)
        elif place == "corner":
            slack = np.minimum(np.maximum(parts["left"], parts["right"]), np.maximum(parts["top"], parts["bottom"]))
        else:
            slack = np.min([parts[word] for word in place.split()], axis=0)
        return _signed(slack / MARGIN)

    def _relation(self, link: str, other: FloatArray) -> FloatArray:
        if link not in self._pairs:
            self._pairs[link] = self._links(link)
        slack: FloatArray = np.max(np.minimum(self._pairs[link], other[None]), axis=1, initial=_NEVER)
        return slack

    def _links(self, link: str) -> FloatArray:
        """Slack [n, n] of the first object (row) lying so to the second (column); nothing relates to itself."""
        if link == "next to":
            apart = (INSIDE - np.maximum(self._shares, self._shares.T)) / SHARE_MARGIN
            slack = np.minimum((NEXT_TO - self._gaps) / MARGIN, apart)
        elif link == "inside":
            slack = (self._shares - INSIDE) / SHARE_MARGIN
        else:
            slack = self._beyond(link) / MARGIN
        slack = _signed(slack)
        np.fill_diagonal(slack, _NEVER)
        return slack

    def _beyond(self, link: str) -> FloatArray:
        """How far the centre is beyond the other's box on that side, less how far it is off to either side of it."""
        axis = 0 if link in ("left of", "right of") else 1
        centre, across = self.centres[:, axis, None], self.centres[:, 1 - axis, None]
        low, high = self.boxes[None, :, axis], self.boxes[None, :, axis + 2]
        ahead = low - centre if link in ("left of", "above") else centre - high
        off = np.maximum(self.boxes[None, :, 1 - axis] - across, across - self.boxes[None, :, 3 - axis])
        slack: FloatArray = ahead - np.maximum(off, 0)
        return slack

    @cached_property
    def _between_boxes(self) -> FloatArray:
        """Distance [n, n] between the enclosing boxes, which never exceeds that between the outlines."""
        low, high = self.boxes[:, None, :2], self.boxes[:, None, 2:]
        apart = np.maximum(np.maximum(low - self.boxes[None, :, 2:], self.boxes[None, :, :2] - high), 0)
        return np.hypot(apart[..., 0], apart[..., 1])

    @cached_property
    def _shares(self) -> FloatArray:
        """Share [n, n] of the first object's area (row) that is inside the second (column)."""
        shares = np.zeros((len(self.objects), len(self.objects)))
        for i, j in np.argwhere(np.triu(self._between_boxes == 0, 1)):
            a, b = self.objects[i], self.objects[j]
            first, second, both = areas(a.points, b.points)
            shares[i, j] = both / first if first > 0 else contains(b.points, a.centre)
            shares[j, i] = both / second if second > 0 else contains(a.points, b.centre)
        return shares

    @cached_property
    def _gaps(self) -> FloatArray:
        """Distance [n, n] between outlines, 0 where they overlap; of far things, that of their boxes."""
        gaps = np.where((self._shares > 0) | (self._shares.T > 0), 0.0, self._between_boxes)
        close = (self._between_boxes < NEXT_TO + MARGIN) & (self._shares == 0) & (self._shares.T == 0)
        for i, j in np.argwhere(np.triu(close, 1)):
            gaps[i, j] = gaps[j, i] = distance(self.objects[i].points, self.objects[j].points)
        return gaps


def _best_other(value: FloatArray, among: BoolArray, nothing: float) -> FloatArray:
    """For each object the greatest value of the others to choose from, ``nothing`` where there is no other."""
    others = np.where(among[None] & ~np.eye(len(value), dtype=bool), value[None], nothing)
    best: FloatArray = others.max(axis=1, initial=nothing)
    return best
