"""What is asked in a pass: only what is true of the view, and of every kind as much as the recipe says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from gmrt.georsmllm import prompts
from gmrt.georsmllm.data import Example, Question
from gmrt.georsmllm.packing import Turn
from gmrt.georsmllm.tasks import Measure, Request, wordings
from gmrt.georsmllm.turns import turns

REQUESTS = (
    Request("detect", "box", ("locate the cars", "find all cars"), "<box> 1 2 3 4"),
    Request("detect", "box", ("locate the ships",), "none"),
    Request("describe", "box", ("locate the cars on the left",), "none"),
    Request("qa", "count", ("how many cars are there?",), "1"),
    Request("qa", "count", ("how many horizontal cars are there?",), "1"),
    Request("class", "harbor", ("classify this image",), "harbor"),
)


def asked(example: Example, branches: dict[str, int], seed: int = 0, **view: Any) -> list[Turn]:
    """Turns without another wording, so that texts can be compared."""
    return turns(example, ("harbor", "beach"), branches, np.random.default_rng(seed), **{"upright": True, **view})


@pytest.fixture(autouse=True)
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question is reworded here."""
    monkeypatch.setattr("gmrt.georsmllm.turns.REWORDED", 0.0)


def test_each_kind_is_asked_as_often_as_the_recipe_says() -> None:
    """Guards against a kind of question that is never drawn, or that crowds out the others."""
    example = Example(
        "a",
        b"",
        "harbor",
        ("boats", "many boats", "a harbour"),
        (Question("is it rural?", "no", "qa"), Question("how many?", "2", "qa")),
        requests=REQUESTS,
        measures=(Measure("what is the mean height?", "mean height", 4.5),),
    )
    drawn = asked(example, {"caption": 2, "class": 1, "is_class": 1, "qa": 1, "request": 4, "measure": 1})
    assert len(drawn) == 10
    assert len({turn.answer for turn in drawn if turn.answer in example.captions}) == 2
    assert drawn[-1] == Turn("what is the mean height?", "<value> mean height", 4.5, "mean height")
    assert asked(example, {}) == []
    assert drawn == asked(example, {"caption": 2, "class": 1, "is_class": 1, "qa": 1, "request": 4, "measure": 1})


def test_places_are_asked_of_upright_views_only() -> None:
    """Guards against teaching that a mirrored image's car is still on the left."""
    placed = [("Where is it?", "upper left"), ("locate the cars", "<box> 1 2 3 4"), ("is it the topmost?", "yes")]
    questions = tuple(Question(text, answer, "qa") for text, answer in [*placed, ("How many?", "two")])
    example = Example(
        "a", b"", captions=("a car on the right", "made up of cars"), questions=questions, requests=REQUESTS
    )
    every = {"caption": 9, "qa": 9, "request": 9}
    assert len(asked(example, every)) == 2 + 4 + 6
    turned = {turn.answer for turn in asked(example, {**every, "request": 0}, upright=False)}
    assert turned == {"made up of cars", "two"}
    texts = [turn.question for turn in asked(example, {"request": 9}, upright=False)]
    assert sorted(texts) == ["classify this image", "how many cars are there?", "locate the ships"]


@pytest.mark.parametrize(
    ("text", "directional"),
    [
        ("locate the ships in the centre", True),
        ("is there a car in a corner?", True),
        ("how many cars are below a ship?", True),
        ("count the vertical runways", True),
        ("find the uppermost tank", True),
        ("it is made up of houses", False),
        ("what is the built-up fraction?", False),
        ("find the ships next to a pier", False),
        ("the flat rooftops", False),
    ],
)
def test_words_of_direction_are_known(text: str, directional: bool) -> None:
    """Guards against a place that turned views are asked about, and against plain questions taken for directions."""
    assert Question(text, "yes", "qa").directional is directional


def test_what_is_counted_is_asked_of_whole_views_only() -> None:
    """Guards against the exact count of an image taught of a crop that has cut half of the things away."""
    example = Example("a", b"", requests=REQUESTS, measures=(Measure("the mean height", "mean height", 4.5),))
    cropped = asked(example, {"request": 9, "measure": 1}, whole=False)
    assert [turn.answer for turn in cropped] == ["harbor"]


def test_wrong_classes_come_from_the_examples_own_source() -> None:
    """Guards against "is this a sea lake?" asked of aerial images, and against a yes and a no for the same class."""
    example = Example("a", b"", "harbor")
    answers = Counter(asked(example, {"is_class": 1}, seed)[0].answer for seed in range(40))
    assert min(answers["yes"], answers["no"]) > 10
    for seed in range(40):
        turn = asked(example, {"is_class": 1}, seed)[0]
        assert ("harbor" in turn.question) is (turn.answer == "yes")
        assert "harbor" in turn.question or "beach" in turn.question
    alone = turns(example, ("harbor",), {"is_class": 5}, np.random.default_rng(0), upright=True)
    assert {turn.answer for turn in alone} == {"yes"}


def test_of_a_pair_the_changes_are_asked_for() -> None:
    """Guards against "describe the image" answered with what changed."""
    example = Example("a", b"", captions=("two houses have appeared",), after=b"")
    single = Example("a", b"", captions=("two houses",))
    assert asked(single, {"caption": 1})[0].question in prompts.CAPTION
    pair = Example("a", b"1", captions=example.captions, after=b"2")
    assert asked(pair, {"caption": 1})[0].question in wordings.WHAT_CHANGED


def test_some_questions_are_reworded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a model that answers "locate the ships" and not "could you locate the ships?"."""
    monkeypatch.setattr("gmrt.georsmllm.turns.REWORDED", 0.3)
    example = Example("a", b"", requests=(Request("detect", "box", ("locate the ships",), "none"),))
    said = Counter(asked(example, {"request": 1}, seed)[0].question for seed in range(200))
    assert 110 < said["locate the ships"] < 170
    assert {"locate the ships.", "please locate the ships", "could you locate the ships?"} <= set(said)


def test_rewording_keeps_the_request() -> None:
    """Guards against "please is there a car" and against an ending that piles up."""
    rng = np.random.default_rng(0)
    assert {prompts.reword("is there a car?", rng) for _ in range(50)} == {"is there a car"}
    assert {prompts.reword("land use", rng) for _ in range(50)} == {"land use."}
    assert {prompts.reword("caption", rng) for _ in range(50)} == {"caption."}
    tables = [getattr(wordings, name) for name in vars(wordings) if name.isupper()]
    listed = [text for t in tables for said in (t.values() if isinstance(t, dict) else (t,)) for text in said]
    assert len(listed) > 150
    for text in (*listed, *prompts.CAPTION, *prompts.CLASS):
        other = prompts.reword(text, rng)
        assert text.rstrip("?").removeprefix("please ") in other
        assert not other.endswith(("..", "??", "?."))
