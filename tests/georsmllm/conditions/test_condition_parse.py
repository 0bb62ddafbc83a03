"""Requests in English ↔ conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
from any_condition import CONDITIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.conditions import (
    ANYTHING,
    And,
    Attribute,
    Category,
    Condition,
    ConditionError,
    Not,
    Or,
    ParseError,
    Position,
    Relation,
    Size,
    format_condition,
    normalise,
    parse_condition,
)
from gmrt.georsmllm.conditions.words import plural, singular

TANK, SHIP, WHITE, LEFT = Category("storage tank"), Category("ship"), Attribute("colour", "white"), Position("left")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONDITIONS, st.booleans(), st.sampled_from(["the", "all", "a", ""]))
def test_what_is_said_is_understood(condition: Condition, many: bool, article: str) -> None:
    """Guards against a sentence that another condition would be read from, in any number and with any article."""
    text = format_condition(condition, many=many, article=article)  # type: ignore[arg-type]
    assert parse_condition(text) == normalise(condition), text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONDITIONS)
def test_normalising_twice_changes_nothing(condition: Condition) -> None:
    """Guards against two forms of one condition, of which only one would be found in a table."""
    assert normalise(normalise(condition)) == normalise(condition)


SENTENCES = {
    "the white storage tanks on the left that are next to a building, but not the largest one": And(
        (TANK, WHITE, LEFT, Relation("next to", Category("building")), Not(Size("largest")))
    ),
    "red-roofed houses beside the river, not the ones under trees": And(
        (
            Category("house"),
            Attribute("roof", "red"),
            Relation("next to", Category("river")),
            Not(Relation("inside", Category("tree"))),
        )
    ),
    "the ships and the storage tanks on the left": Or((SHIP, And((TANK, LEFT)))),
    "ships next to a pier or a dock": And((SHIP, Relation("next to", Or((Category("pier"), Category("dock")))))),
    "ships next to a pier and a dock": And(
        (SHIP, Relation("next to", Category("pier")), Relation("next to", Category("dock")))
    ),
    "ships left of a pier and right of a dock": And(
        (SHIP, Relation("left of", Category("pier")), Relation("right of", Category("dock")))
    ),
    "ships on the left of the pier": And((SHIP, Relation("left of", Category("pier")))),
    "ships on the left of the image": And((SHIP, LEFT)),
    "any gray ship in the upper left corner": And((SHIP, Attribute("colour", "grey"), Position("top left"))),
    "the biggest ship": And((SHIP, Size("largest"))),
    "ships that are larger than the storage tanks": And((SHIP, Size("larger", TANK))),
    "buildings whose roof is thatched and that are on the left": And(
        (Category("building"), Attribute("roof", "thatched"), LEFT)
    ),
    "ships that are white or moored and on the left": And(
        (SHIP, Or((WHITE, And((Attribute("state", "moored"), LEFT)))))
    ),
    "the ships except the white ones and the ones on the left": And((SHIP, Not(Or((WHITE, LEFT))))),
    "the ships that are white and the buses": Or((And((SHIP, WHITE)), Category("bus"))),
    "the ships that are white or the buses": Or((And((SHIP, WHITE)), Category("bus"))),
    "the objects": ANYTHING,
    "Small vehicles, ships, and storage tanks.": Or((Category("small vehicle"), SHIP, TANK)),
}


@pytest.mark.parametrize(("text", "condition"), SENTENCES.items(), ids=str)
def test_sentences_that_people_write(text: str, condition: Condition) -> None:
    """Guards against a parser that only understands our own formatter."""
    assert parse_condition(text) == normalise(condition)


BY_A_PIER = Relation("next to", Category("pier"))
EASILY_MISREAD = [
    And((LEFT, Or((BY_A_PIER, And((WHITE, SHIP)))))),
    And((SHIP, BY_A_PIER, Or((Size("largest"), Position("topmost"))))),
    Or((And((SHIP, BY_A_PIER)), Category("bus"))),
    And((SHIP, Not(And((WHITE, Not(Size("largest"))))), Not(Or((LEFT, BY_A_PIER))))),
    And((SHIP, Relation("above", And((Category("house"), BY_A_PIER))), Attribute("roof", "thatched"))),
]


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("condition", EASILY_MISREAD, ids=str)
def test_what_follows_a_relation_is_no_part_of_it(condition: Condition, many: bool) -> None:
    """Guards against "next to a pier or a white ship" where the white ship is an alternative of its own."""
    assert parse_condition(format_condition(condition, many=many, article="a")) == normalise(condition)


SAID = {
    And((TANK, WHITE, LEFT, Relation("next to", Category("building")), Not(Size("largest")))): (
        "the white storage tanks on the left that are next to a building, but not the largest one"
    ),
    And((SHIP, Relation("above", And((Category("house"), WHITE))))): "the ships above a white house",
    And((SHIP, Not(WHITE), Not(LEFT))): "the ships that are not white and not on the left",
    And((SHIP, Or((WHITE, LEFT)))): "the ships that are white or on the left",
    And((SHIP, Not(And((WHITE, LEFT))))): "the ships, but not the white ones on the left",
    And((SHIP, Position("leftmost"))): "the leftmost ship",
    Or((TANK, SHIP, Category("bus"))): "the buses, the ships and the storage tanks",
    And((Category("water"), LEFT)): "the water on the left",
}


@pytest.mark.parametrize(("condition", "text"), SAID.items(), ids=str)
def test_conditions_sound_natural(condition: Condition, text: str) -> None:
    """Guards against training data that no person would write."""
    assert format_condition(condition) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ships on the left blorp", "blorp"),
        ("the ships next to", "next to"),
        ("the white", "white"),
        ("ships, but not", "but not"),
        ("the ships (", "("),
        ("ships € 5", "€"),
        ("buildings whose roof flat", "expected 'is'"),
        ("", "''"),
    ],
)
def test_what_is_not_understood_is_named(text: str, named: str) -> None:
    """Guards against half a request that is answered as if it were whole, and against a message without the word."""
    with pytest.raises(ParseError, match=r"understood|follows") as caught:
        parse_condition(text)
    assert named in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_documentation_is_right() -> None:
    """Guards against a manual whose examples are not understood, or come back as something else."""
    manual = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text(encoding="utf-8")
    examples = [line.split("→") for line in manual.splitlines() if line.startswith("    ") and "→" in line]
    assert len(examples) >= 10
    for request, said in examples:
        assert format_condition(parse_condition(request)) == said.strip()


def test_endless_nesting_is_refused_in_words() -> None:
    """Guards against a request that exhausts the stack."""
    with pytest.raises(ParseError, match="too long"):
        parse_condition("ships that are " + "not " * 5000 + "white")
    assert parse_condition("ships that are " + "not " * 150 + "white") == And((SHIP, WHITE))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Category("ships on the left"),
        lambda: Category("white ship"),
        lambda: Category(""),
        lambda: Attribute("roof", "flat or gabled"),
        lambda: Size("larger"),
        lambda: Size("largest", SHIP),
        lambda: Or(()),
        lambda: Position("upstairs"),
        lambda: Relation("behind", SHIP),
    ],
)
def test_conditions_that_cannot_be_said_are_refused(build: object) -> None:
    """Guards against a tree that is formatted as another one."""
    with pytest.raises(ConditionError):
        build()  # type: ignore[operator]


def test_plurals_of_the_datasets_names() -> None:
    """Guards against "buss" and "storage tankses", by the categories of DOTA, DIOR, xView and our own scenes."""
    names = (
        "airplane airport aircraft baseball-diamond basketball-court boat bridge building bus car chimney crane dam "
        "dock excavator ferry field fishing-vessel ground-track-field harbor harbour helicopter helipad hangar house "
        "hut intersection large-vehicle lake locomotive overpass parking-lot person pier pylon railway river road "
        "runway roundabout school ship small-vehicle soccer-field solar-panel stadium storage-tank swimming-pool "
        "taxiway tennis-court tower train-station tree truck tugboat vehicle warehouse water wharf windmill "
        "wind-turbine yacht bench taxi"
    )
    for name in (name.replace("-", " ") for name in names.split()):
        assert singular(plural(name)) == singular(name) == name
    forms = {"ferry": "ferries", "bus": "buses", "house": "houses", "bench": "benches", "person": "people"}
    assert {name: plural(name) for name in forms} == forms
