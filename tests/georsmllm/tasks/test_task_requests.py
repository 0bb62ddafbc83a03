"""Requests and answers made from labels: the answer must be what the words of the request ask for."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tank_farm import COUNTABLE, tank_farm

from gmrt.georsmllm.conditions import Category, is_ambiguous, parse_condition, select
from gmrt.georsmllm.conditions.evaluate import canonical
from gmrt.georsmllm.evaluation.geometry import match, outline
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.shapes import area, iou
from gmrt.georsmllm.tasks import Request, measures, questions, requests, wordings
from gmrt.georsmllm.tasks.request import FIT, MOST, as_region, located, reading_order
from gmrt.runtime.points import GRID, parse_regions

SEEDS = range(60)
PLACES = ("detect", "refer", "describe")


@pytest.fixture(scope="module")
def asked() -> list[tuple[SceneLabels, Request]]:
    """Requests about some scenes, each with its scene."""
    scenes = [(tank_farm(seed), np.random.default_rng(seed)) for seed in SEEDS]
    return [(labels, request) for labels, rng in scenes for request in requests(labels, rng)]


def countable(labels: SceneLabels) -> tuple[SceneObject, ...]:
    """The objects that can be asked about."""
    return tuple(thing for thing in labels.objects if thing.category in COUNTABLE)


def phrase(request: Request) -> str:
    """What a location request asks for, cut out of its first wording."""
    table = wordings.LOCATE_ONE if request.task == "refer" else wordings.LOCATE
    start, end = re.split(r"\{\w+\}", table[request.kind][0])  # type: ignore[index]
    return request.wordings[0].removeprefix(start).removesuffix(end).rstrip(",")


def test_places_are_those_that_the_words_ask_for(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against an answer to another phrase: the words are parsed again and looked up in the labels."""
    tasks = Counter[tuple[str, str]]()
    for labels, request in asked:
        if request.task not in PLACES:
            continue
        things = countable(labels)
        condition = parse_condition(phrase(request))
        wanted = located(select(condition, things), request.kind)  # type: ignore[arg-type]
        assert request.answer == wanted, request.wordings[0]
        assert not is_ambiguous(condition, things)
        tasks[request.task, request.kind] += 1
    assert set(tasks) == {(task, form) for task in PLACES for form in MOST}


def test_counts_and_presence_are_those_of_the_labels(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against "how many white tanks" that counts all tanks, and against a presence that is always yes."""
    answers = Counter[str]()
    for labels, request in asked:
        if request.kind == "count":
            words = request.wordings[0].removeprefix("how many ").removesuffix(" are there?")
            things = select(parse_condition(words), countable(labels))
            assert request.answer == str(len(things))
            boxes = {thing.as_region("box") for thing in things}
            assert set(parse_regions(request.counted)) == boxes
        if request.kind == "presence":
            words = request.wordings[0].removeprefix("is there ").removesuffix("?")
            assert (request.answer == "yes") == bool(select(parse_condition(words), countable(labels)))
            answers[request.answer] += 1
        if request.kind == "comp":
            first, second = request.wordings[0].removeprefix("are there more ").removesuffix("?").split(" than ")
            numbers = [len(select(parse_condition(name), countable(labels))) for name in (first, second)]
            assert request.answer == ("yes" if numbers[0] > numbers[1] else "no")
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_every_task_is_asked(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against a task that silently drops out."""
    kinds = {(r.task, r.kind if r.task == "qa" else "") for _, r in asked}
    assert kinds == {
        ("caption", ""),
        ("class", ""),
        *(("qa", kind) for kind in ("presence", "count", "comp", "area")),
        *((task, "") for task in PLACES),
    }


def test_negation_and_none_are_asked(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against data in which everything that is asked for is there, and nothing is ever left out."""
    described = [request for _, request in asked if request.task == "describe"]
    assert 0.05 < sum(request.answer == "none" for request in described) / len(described) < 0.4
    assert sum(" not " in request.wordings[0] for request in described) > len(described) / 5
    assert sum(" or " in request.wordings[0] for request in described) > len(described) / 20
    detected = [request for _, request in asked if request.task == "detect"]
    assert 0.05 < sum(request.answer == "none" for request in detected) / len(detected) < 0.4


def test_a_referring_answer_is_one_region(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against "the ship" where there are two."""
    referring = [request for _, request in asked if request.task == "refer"]
    assert len(referring) > 100
    assert all(len(parse_regions(request.answer)) == 1 for request in referring)


def test_ten_wordings_of_everything(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against a model that knows one way of asking, and against slots left unfilled."""
    for _, request in asked:
        assert len(set(request.wordings)) >= 10
        assert not any(re.search(r"[{}]|  ", words) for words in request.wordings), request.wordings
    tables = [wordings.CHANGED, wordings.WHAT_CHANGED, wordings.MEASURE, *wordings.LOCATE_CHANGES.values()]
    assert all(len(set(table)) >= 10 for table in tables)


def test_what_is_not_fully_labelled_is_not_asked(asked: list[tuple[SceneLabels, Request]]) -> None:
    """Guards against "none" and counts for things of which nobody listed every one (here: trees)."""
    assert not any("tree" in words for _, request in asked for words in request.wordings)
    bare = replace(tank_farm(0), exhaustive=frozenset())
    tasks = {(r.task, r.kind) for r in requests(bare, np.random.default_rng(0))}
    assert tasks == {("caption", ""), ("class", "storage tanks"), ("qa", "area")}
    assert requests(SceneLabels(), np.random.default_rng(0)) == []


def test_the_same_seed_asks_the_same() -> None:
    """Guards against a resumed training that sees other data."""
    once, again = (questions(tank_farm(3), np.random.default_rng(5)) for _ in range(2))
    assert once == again
    assert once != questions(tank_farm(3), np.random.default_rng(6))


def test_answers_do_not_depend_on_the_order_of_labels() -> None:
    """Guards against an order that only the label file knows, which no model could learn."""
    things = [thing for thing in tank_farm(4).objects if thing.category == "car"]
    assert len(things) > 2
    assert located(things, "box") == located(things[::-1], "box")
    rows = [int(thing.centre[1] * 8) for thing in reading_order(things)]
    assert rows == sorted(rows)
    for a, b in zip(reading_order(things), reading_order(things)[1:], strict=False):
        assert int(a.centre[1] * 8) < int(b.centre[1] * 8) or a.centre[0] <= b.centre[0]


def test_too_many_are_not_asked_for() -> None:
    """Guards against an answer that does not fit the model's context."""
    thing = tank_farm(0).objects[0]
    for form, most in MOST.items():
        assert located([thing] * most, form) is not None
        assert located([thing] * (most + 1), form) is None


def test_polygons_keep_their_shape() -> None:
    """Guards against a polygon that has few corners and is another shape."""
    for labels in map(tank_farm, range(10)):
        for thing in labels.objects:
            found = as_region(thing, "poly")
            if thing.exact != "poly":
                assert found is None
            elif found is not None:
                assert len(found.points) <= 12
                assert iou((outline(found) + 0.5) / GRID, thing.points) >= FIT
    zigzag = tuple((0.1 + 0.02 * i, 0.2 + 0.5 * (i % 2)) for i in range(30))
    assert as_region(SceneObject("comb", (*zigzag, (0.7, 0.9), (0.1, 0.9))), "poly") is None


def test_rotated_boxes() -> None:
    """Guards against an angle that is an accident of a round thing's corners, and against a loose box."""
    for labels in map(tank_farm, range(10)):
        for thing in labels.objects:
            found = as_region(thing, "obb")
            assert found is not None
            if thing.category == "storage tank":
                x0, y0, x1, y1 = found.bounds
                assert set(found.points) == {(x0, y0), (x1, y0), (x1, y1), (x0, y1)}
            if thing.category == "car":
                assert area(outline(found)) / GRID**2 == pytest.approx(thing.area, rel=0.25)
    boxed = SceneObject("ship", ((0.1, 0.1), (0.3, 0.1), (0.3, 0.4), (0.1, 0.4)), "box")
    assert as_region(boxed, "obb") is None
    assert as_region(boxed, "box") is not None


def test_boxes_agree_with_themselves_in_any_order() -> None:
    """Guards against an answer that its own score does not accept."""
    for labels in map(tank_farm, range(5)):
        for form in ("point", "box", "obb"):
            regions = [as_region(thing, form) for thing in countable(labels)]  # type: ignore[arg-type]
            known = [region for region in regions if region is not None]
            assert match(known, known[::-1]).f1 == 1


def test_areas_are_asked_away_from_borders() -> None:
    """Guards against "60 percent" of 0.649, which nobody could tell from 0.651."""
    labels = SceneLabels(fractions={"grass": 0.649, "water": 0.351})
    kinds = [r.wordings[0] for seed in range(20) for r in requests(labels, np.random.default_rng(seed))]
    assert not any(words.startswith("how much") for words in kinds)
    clear = SceneLabels(fractions={"grass": 0.62, "water": 0.38})
    answers = {r.wordings[0]: r.answer for s in range(20) for r in requests(clear, np.random.default_rng(s))}
    assert answers["how much of the image is covered by grass?"] == "60 percent"
    assert answers["how much of the image is covered by water?"] == "40 percent"
    assert answers["is more than half of the image covered by grass?"] == "yes"
    assert answers["is more than half of the image covered by water?"] == "no"
    assert answers["which land cover has the largest area?"] == "grass"


def test_a_scalar_has_a_number_for_its_answer() -> None:
    """Guards against a regression that is answered with digits."""
    found = measures(tank_farm(0), np.random.default_rng(0))
    assert {each.name: each.target for each in found} == {"built-up fraction": 0.31, "mean height in metres": 4.5}
    assert all(each.name in each.text for each in found)


def test_a_dataset_that_writes_plurals_is_understood() -> None:
    """Guards against "storage tanks" of a dataset and "storage tank" of a request that never meet."""
    thing = replace(tank_farm(0).objects[0], category="Storage_Tanks")
    assert canonical(thing.category) == "storage tank"
    assert select(Category("storage tank"), [thing]) == (thing,)
    labels = SceneLabels(objects=(thing,), exhaustive=frozenset({"Storage_Tanks"}))
    assert any(r.task == "refer" for r in requests(labels, np.random.default_rng(0)))
