"""Which objects fulfil a condition: every word against a case worked out by hand, and what must hold for any scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from any_condition import CONDITIONS, LEAVES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.conditions import (
    And,
    Condition,
    Measured,
    Not,
    Or,
    Position,
    Relation,
    Size,
    is_ambiguous,
    normalise,
    parse_condition,
    select,
)
from gmrt.georsmllm.objects import SceneObject

PROPERTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def thing(category: str, x: float, y: float, width: float, height: float, **attributes: str) -> SceneObject:
    """An upright box from its top-left corner."""
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return SceneObject(category, corners, "box", attributes)


SCENE = {
    "a": thing("storage tank", 0.05, 0.05, 0.20, 0.20, colour="white"),
    "b": thing("storage tank", 0.05, 0.45, 0.10, 0.10, colour="grey"),
    "c": thing("storage tanks", 0.80, 0.10, 0.08, 0.08, colour="White"),
    "d": thing("building", 0.27, 0.05, 0.15, 0.15, colour="brown"),
    "e": thing("car", 0.30, 0.08, 0.04, 0.04, colour="red"),
    "f": thing("car", 0.45, 0.45, 0.06, 0.06, colour="white"),
    "g": thing("building", 0.76, 0.80, 0.20, 0.15, colour="grey"),
}

CASES = {
    "storage tanks": "abc",
    "white storage tanks": "ac",
    "white objects": "acf",
    "objects on the left": "abe",
    "storage tanks at the top": "ac",
    "objects in the centre": "f",
    "storage tanks in a corner": "ac",
    "objects at the bottom right": "g",
    "the largest storage tank": "a",
    "the smallest storage tank": "c",
    "the largest white object": "a",
    "the storage tanks, but not the largest one": "bc",
    "the leftmost car": "e",
    "the bottommost storage tank": "b",
    "the largest storage tank on the right": "c",
    "objects larger than the cars": "abcdg",
    "cars smaller than every storage tank": "ef",
    "storage tanks larger than a ship": "",
    "storage tanks next to a building": "a",
    "cars inside a building": "e",
    "cars that are not inside a building": "f",
    "objects next to a car": "a",  # the building is not: the car is in it
    "storage tanks left of a building": "ab",
    "buildings right of a storage tank": "dg",
    "cars below a building": "f",
    "buildings above a car": "d",
    "storage tanks above a car": "",
    "storage tanks that are grey or on the right": "bc",
    "storage tanks that are not white": "b",
    "the storage tanks, but not the white ones on the right": "ab",
    "the cars and the grey buildings": "efg",
    "ships": "",
    "the storage tanks next to the largest building": "",
}


@pytest.mark.parametrize(("text", "names"), CASES.items(), ids=str)
def test_every_word_means_what_it_says(text: str, names: str) -> None:
    """Guards against a spatial word that drifts: one case for each word of the grammar, worked out by hand."""
    found = select(parse_condition(text), tuple(SCENE.values()))
    assert "".join(name for name, each in SCENE.items() if each in found) == names


@pytest.mark.parametrize(
    ("text", "things", "ambiguous"),
    [
        ("ships on the left", [thing("ship", 0.29, 0.1, 0.1, 0.1)], True),
        ("ships on the left", [thing("ship", 0.20, 0.1, 0.1, 0.1)], False),
        ("ships on the left", [thing("car", 0.29, 0.1, 0.1, 0.1)], False),
        ("the largest ship", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("ship", 0.5, 0.1, 0.1, 0.11)], True),
        ("the largest ship", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("ship", 0.5, 0.1, 0.2, 0.2)], False),
        ("the largest ship", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("car", 0.5, 0.1, 0.1, 0.1)], False),
        ("the topmost ship", [thing("ship", 0.1, 0.10, 0.1, 0.1), thing("ship", 0.5, 0.11, 0.1, 0.1)], True),
        ("white ships", [thing("ship", 0.1, 0.1, 0.1, 0.1)], True),  # its colour is not known
        ("ships that are not white", [thing("ship", 0.1, 0.1, 0.1, 0.1)], True),
        ("ships inside the water", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("water", 0.15, 0, 0.5, 0.5)], True),
        ("ships inside the water", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("water", 0.05, 0, 0.5, 0.5)], False),
        ("ships next to a pier", [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("pier", 0.27, 0, 0.1, 0.5)], True),
        # The second ship may or may not be on the left, and would be the larger one.
        (
            "the largest ship on the left",
            [thing("ship", 0.1, 0.1, 0.1, 0.1), thing("ship", 0.26, 0.3, 0.2, 0.2)],
            True,
        ),
    ],
)
def test_what_people_could_disagree_about_is_flagged(text: str, things: list[SceneObject], ambiguous: bool) -> None:
    """Guards against training data whose answer hangs on a thousandth of the image, and against flagging everything."""
    assert is_ambiguous(parse_condition(text), things) is ambiguous


@st.composite
def scenes(draw: st.DrawFn) -> list[SceneObject]:
    """Up to eight boxes of the categories and attributes that conditions are drawn with."""
    place = st.floats(0.0, 0.75)
    side = st.floats(0.05, 0.25)
    return [
        replace(
            thing(
                draw(st.sampled_from(["ship", "building", "water"])), draw(place), draw(place), draw(side), draw(side)
            ),
            attributes={"colour": draw(st.sampled_from(["white", "grey"])), "roof": "flat"},
        )
        for _ in range(draw(st.integers(0, 8)))
    ]


@PROPERTY
@given(CONDITIONS, scenes())
def test_a_condition_or_its_negation_holds(condition: Condition, things: list[SceneObject]) -> None:
    """Guards against an object on a border that is neither in nor out, and against one that is both."""
    measured = Measured(things)
    yes, no = measured.slack(condition) > 0, measured.slack(Not(condition)) > 0
    assert (yes ^ no).all()
    assert not np.isnan(measured.slack(condition)).any()


@PROPERTY
@given(LEAVES, LEAVES, scenes())
def test_and_is_the_intersection_and_or_the_union(a: Condition, b: Condition, things: list[SceneObject]) -> None:
    """Guards against joining words that do not join; superlatives are apart, for they choose from what is left."""
    measured = Measured(things)
    first, second = measured.slack(a) > 0, measured.slack(b) > 0
    assert ((measured.slack(Or((a, b))) > 0) == (first | second)).all()
    if not any(isinstance(c, Size) or (isinstance(c, Position) and c.place.endswith("most")) for c in (a, b)):
        assert ((measured.slack(And((a, b))) > 0) == (first & second)).all()


_MIRROR = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


def mirrored(condition: Condition) -> Condition:
    """The condition as it would be said of the image seen in a mirror."""
    match condition:
        case And(parts) | Or(parts):
            return type(condition)(tuple(map(mirrored, parts)))
        case Not(part):
            return Not(mirrored(part))
        case Size(extent, than) if than is not None:
            return Size(extent, mirrored(than))
        case Position(place):
            return Position(" ".join(_MIRROR.get(word, word) for word in place.split()))  # type: ignore[arg-type]
        case Relation(link, other):
            swapped = {"left of": "right of", "right of": "left of"}.get(link, link)
            return Relation(swapped, mirrored(other))  # type: ignore[arg-type]
    return condition


@PROPERTY
@given(CONDITIONS, scenes())
def test_a_mirror_swaps_left_and_right(condition: Condition, things: list[SceneObject]) -> None:
    """Guards against x taken for y, or a side measured from the wrong edge."""
    flipped = [replace(each, outline=tuple((1 - x, y) for x, y in each.outline)) for each in things]
    here, there = Measured(things), Measured(flipped)
    # On a border itself the last digit decides, and mirroring rounds.
    clear = np.abs(here.slack(condition)) > 1e-6
    assert ((here.slack(condition) > 0) == (there.slack(mirrored(condition)) > 0))[clear].all()


@PROPERTY
@given(CONDITIONS, scenes(), st.randoms(use_true_random=False))
def test_a_clear_answer_survives_a_nudge(condition: Condition, things: list[SceneObject], random: object) -> None:
    """Guards against a margin that promises more than it keeps: a shift of half a pixel must not change the answer."""
    if is_ambiguous(condition, things):
        return
    nudged = []
    for each in things:
        dx, dy = (random.uniform(-0.002, 0.002) for _ in range(2))  # type: ignore[attr-defined]
        nudged.append(replace(each, outline=tuple((x + dx, y + dy) for x, y in each.outline)))
    before, after = Measured(things), Measured(nudged)
    assert ((before.slack(condition) > 0) == (after.slack(condition) > 0)).all()


@PROPERTY
@given(LEAVES, scenes())
def test_a_superlative_picks_one_at_most(part: Condition, things: list[SceneObject]) -> None:
    """Guards against two largest ships."""
    for rank in (Size("largest"), Size("smallest"), Position("topmost")):
        assert len(select(And((part, rank)), things)) <= 1


def test_order_of_parts_does_not_matter() -> None:
    """Guards against a superlative that chooses before the other parts have spoken."""
    parts = parse_condition("the largest white storage tank on the right").parts  # type: ignore[union-attr]
    for turned in (parts, parts[::-1]):
        assert select(And(turned), tuple(SCENE.values())) == (SCENE["c"],)
    assert normalise(And(parts)) == normalise(And(parts[::-1]))


def test_an_empty_scene_has_an_answer() -> None:
    """Guards against a crash on an image with nothing in it."""
    for text in (*CASES, "the ships next to the largest building that is not white"):
        assert select(parse_condition(text), ()) == ()
        assert not is_ambiguous(parse_condition(text), ())
