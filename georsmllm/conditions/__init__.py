"""The condition parser: a compound request ↔ a small tree of conditions, and which objects of an image fulfil it."""

from gmrt.georsmllm.conditions.english import format_condition
from gmrt.georsmllm.conditions.evaluate import Measured, is_ambiguous, select
from gmrt.georsmllm.conditions.grammar import parse_condition
from gmrt.georsmllm.conditions.tree import (
    ANYTHING,
    And,
    Attribute,
    Category,
    Condition,
    Not,
    Or,
    Position,
    Relation,
    Size,
    normalise,
)
from gmrt.georsmllm.conditions.words import ConditionError, ParseError

__all__ = [
    "ANYTHING",
    "And",
    "Attribute",
    "Category",
    "Condition",
    "ConditionError",
    "Measured",
    "Not",
    "Or",
    "ParseError",
    "Position",
    "Relation",
    "Size",
    "format_condition",
    "is_ambiguous",
    "normalise",
    "parse_condition",
    "select",
]
