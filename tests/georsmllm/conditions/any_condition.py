"""Any condition, for hypothesis."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from gmrt.georsmllm.conditions import And, Attribute, Category, Condition, Not, Or, Position, Relation, Size
from gmrt.georsmllm.conditions.tree import Link, Place
from gmrt.georsmllm.conditions.words import ADJECTIVES

NOUNS = st.sampled_from(
    ["ship", "storage tank", "building", "large vehicle", "aircraft", "water", "bus", "baseball diamond", "ferry"]
)
INVENTED = st.from_regex(r"[vz][aeo][kmprt]{1,2}( [vz][aeo][kmprt]{1,2})?", fullmatch=True)
UNTABLED = [("roof", "green thatch"), ("colour", "teal")]
ATTRIBUTES = st.sampled_from(sorted(ADJECTIVES.values())) | st.sampled_from(UNTABLED)

LEAVES: st.SearchStrategy[Condition] = (
    st.builds(Category, NOUNS | INVENTED)
    | ATTRIBUTES.map(lambda pair: Attribute(*pair))
    | st.sampled_from([Size("largest"), Size("smallest")])
    | st.sampled_from(get_args(Place)).map(Position)
)


def _grown(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return (
        several.map(And)
        | several.map(Or)
        | parts.map(Not)
        | st.builds(Relation, st.sampled_from(get_args(Link)), parts)
        | st.builds(Size, st.sampled_from(["larger", "smaller"]), parts)
        | st.just(And(()))
    )


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(LEAVES, _grown, max_leaves=12)
