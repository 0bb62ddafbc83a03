"""Conditions on the objects of an image, as a small tree.

``And``, ``Or`` and ``Not`` join what is said of an object: its category, an attribute, its size, where in the image it
is, and how it lies to other objects. ``And(())`` holds for everything. What each word means exactly stands in
`evaluate`; how it is said, in `english`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, TypeGuard, get_args

from gmrt.georsmllm.conditions.words import ConditionError, check_noun, check_value, plain, singular

Extent = Literal["largest", "smallest", "larger", "smaller"]
Place = Literal[
    "left", "right", "top", "bottom", "centre", "corner", "top left", "top right", "bottom left", "bottom right",
    "leftmost", "rightmost", "topmost", "bottommost",
]  # fmt: skip
Link = Literal["left of", "right of", "above", "below", "next to", "inside"]


@dataclass(frozen=True)
class Category:
    """The object is of this category, a noun phrase in either number: "storage tank"."""

    name: str

    def __post_init__(self) -> None:
        """Refuse a name that the grammar would read as something else."""
        check_noun(self.name)


@dataclass(frozen=True)
class Attribute:
    """The object's attribute ``kind`` has this value: ("colour", "white")."""

    kind: str
    value: str

    def __post_init__(self) -> None:
        """Refuse words that the grammar would read as something else."""
        check_value(self.kind)
        check_value(self.value)


@dataclass(frozen=True)
class Size:
    """The largest or smallest of what the rest of the condition leaves; or larger or smaller than *all* of others."""

    extent: Extent
    than: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown word, a comparison with nothing, and a superlative with something."""
        if self.extent not in get_args(Extent):
            raise ConditionError(f"unknown size {self.extent!r}: expected one of {', '.join(get_args(Extent))}")
        if (self.than is not None) != (self.extent in ("larger", "smaller")):
            raise ConditionError("a size is 'largest' or 'smallest', or 'larger' or 'smaller' than something")


@dataclass(frozen=True)
class Position:
    """The object is in this part of the image, or the leftmost (…) of those that the rest of the condition leaves."""

    place: Place

    def __post_init__(self) -> None:
        """Refuse an unknown place."""
        if self.place not in get_args(Place):
            raise ConditionError(f"unknown place {self.place!r}: expected one of {', '.join(get_args(Place))}")


@dataclass(frozen=True)
class Relation:
    """The object lies so to *some other* object that fulfils ``other``."""

    link: Link
    other: Condition

    def __post_init__(self) -> None:
        """Refuse an unknown relation."""
        if self.link not in get_args(Link):
            raise ConditionError(f"unknown relation {self.link!r}: expected one of {', '.join(get_args(Link))}")


@dataclass(frozen=True)
class And:
    """All parts hold. Superlatives among them choose from what the other parts leave, whatever the order."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """At least one of the parts holds; there is at least one."""

    parts: tuple[Condition, ...]

    def __post_init__(self) -> None:
        """Refuse an empty choice."""
        if not self.parts:
            raise ConditionError("a choice needs at least one part")


@dataclass(frozen=True)
class Not:
    """The part does not hold. "Not the largest" leaves out the largest of what the rest of the condition leaves."""

    part: Condition


Condition: TypeAlias = Category | Attribute | Size | Position | Relation | And | Or | Not
ANYTHING = And(())


def is_rank(condition: Condition) -> TypeGuard[Size | Position]:
    """Whether the condition is a plain superlative: largest, smallest, leftmost, rightmost, topmost, bottommost."""
    if isinstance(condition, Size):
        return condition.than is None
    return isinstance(condition, Position) and condition.place.endswith("most")


@lru_cache(maxsize=16384)
def holds_rank(condition: Condition) -> bool:
    """Whether the condition holds a superlative of its own, and so depends on which objects it chooses from."""
    if isinstance(condition, (And, Or)):
        return any(holds_rank(part) for part in condition.parts)
    return holds_rank(condition.part) if isinstance(condition, Not) else is_rank(condition)


@lru_cache(maxsize=16384)  # the same conditions are asked of scene after scene
def normalise(condition: Condition) -> Condition:
    """The one form in which equal conditions are equal: what `parse_condition` gives and `format_condition` says.

    Nested And and Or are joined, repetitions dropped, single parts unwrapped, double negations removed, parts sorted,
    words in the singular and in one spelling. ``And(And(tank, largest), leftmost)`` is read as tank *and* largest *and*
    leftmost, with both superlatives among the tanks.
    """
    if isinstance(condition, (And, Or)):
        return _joined(condition)
    if isinstance(condition, Not):
        part = normalise(condition.part)
        return part.part if isinstance(part, Not) else Not(part)
    return _word(condition)


def _word(condition: Category | Attribute | Size | Position | Relation) -> Condition:
    if isinstance(condition, Category):
        return Category(singular(plain(condition.name)))
    if isinstance(condition, Attribute):
        return Attribute(plain(condition.kind), plain(condition.value))
    if isinstance(condition, Size):
        return Size(condition.extent, None if condition.than is None else normalise(condition.than))
    if isinstance(condition, Relation):
        return Relation(condition.link, normalise(condition.other))
    return condition


def _joined(condition: And | Or) -> Condition:
    kind = type(condition)
    parts: set[Condition] = set()
    for part in map(normalise, condition.parts):
        parts.update(part.parts if isinstance(part, kind) else (part,))
    return parts.pop() if len(parts) == 1 else kind(tuple(sorted(parts, key=_place_in_order)))


_ORDER = (Category, Attribute, Position, Size, Relation, Or, And, Not)


def _place_in_order(condition: Condition) -> tuple[int, str]:
    return _ORDER.index(type(condition)), repr(condition)
