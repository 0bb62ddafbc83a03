"""Requests about a pair of images."""

from __future__ import annotations

import numpy as np
from tank_farm import outline, tank_farm

from gmrt.georsmllm.evaluation.geometry import set_f1
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.tasks import Change, pair_questions, pair_requests, wordings
from gmrt.georsmllm.tasks.change import NOTHING, change_caption
from gmrt.georsmllm.tasks.request import located
from gmrt.runtime.points import parse_regions

SHIP = SceneObject("ship", outline(0.1, 0.1, 0.1, 0.05, 4, 0), "obb")
FAR_SHIP = SceneObject("ship", outline(0.15, 0.2, 0.1, 0.05, 4, 0), "obb")
BUILDING = SceneObject("building", outline(0.8, 0.8, 0.1, 0.1, 4, 0))
CHANGES = (Change("new", SHIP), Change("gone", BUILDING), Change("new", FAR_SHIP))
PAIR = (tank_farm(0), tank_farm(1))


def test_a_caption_says_what_how_many_and_where() -> None:
    """Guards against a change caption that contradicts its labels."""
    assert change_caption(CHANGES) == (
        "two ships have appeared at the top left and a building has disappeared at the bottom right"
    )
    assert change_caption(()) == NOTHING
    both_sides = (Change("gone", SHIP), Change("gone", BUILDING), Change("new", BUILDING))
    assert change_caption(both_sides) == (
        "a building has disappeared at the bottom right, a building has appeared at the bottom right and "
        "a ship has disappeared at the top left"
    )
    apart = (Change("new", SHIP), Change("new", SceneObject("ship", outline(0.9, 0.9, 0.1, 0.1, 4, 0))))
    assert change_caption(apart) == "two ships have appeared"


def test_changes_are_located_and_counted() -> None:
    """Guards against new and gone that are mixed up, and against a category that takes all changes."""
    counts, places = {}, {}
    for seed in range(40):
        for request in pair_requests(*PAIR, CHANGES, np.random.default_rng(seed)):
            assert len(set(request.wordings)) >= 10
            if request.kind == "count":
                counts[request.wordings[0]] = request.answer
                assert len(parse_regions(request.counted)) == int(request.answer)
            elif request.task == "change" and request.kind == "box":
                places[request.wordings[0]] = request.answer
    for said, what in ((wordings.NEW, "new"), (wordings.GONE, "gone")):
        for words in said:
            for name in ("ship", "building", "car"):
                things = [change.thing for change in CHANGES if (change.what, change.thing.category) == (what, name)]
                asked = words.format(bare=f"{name}s")
                assert counts.get(f"how many {asked} are there?", str(len(things))) == str(len(things))
                assert places.get(f"locate the {asked}", located(things, "box")) == located(things, "box")
    assert places["locate the changes"] == located([SHIP, FAR_SHIP, BUILDING], "box")
    assert set(counts.values()) == {"0", "1", "2"}
    assert "none" in places.values()


def test_nothing_has_changed() -> None:
    """Guards against a model that always finds a change: the same pair of scenes must be answered with no and none."""
    asked = pair_questions(PAIR[0], PAIR[0], (), np.random.default_rng(0))
    answers = {(question.task, question.kind): question.answer for question in asked}
    assert answers["qa", "change"] == "no"
    assert answers["caption", "change"] == NOTHING
    assert {answer for (task, _), answer in answers.items() if task == "change"} == {"none"}
    assert set_f1((), parse_regions("none")) == 1


def test_categories_of_one_image_only_are_not_asked_by_name() -> None:
    """Guards against "new" ships where the first image never listed its ships."""
    before = PAIR[0].__class__(objects=PAIR[0].objects)
    asked = pair_questions(before, PAIR[1], CHANGES, np.random.default_rng(0))
    assert {(question.task, question.kind) for question in asked} <= {
        ("qa", "change"),
        ("caption", "change"),
        *(("change", form) for form in ("point", "box", "obb", "poly")),
    }
    assert not any("ship" in question.text or "building" in question.text for question in asked)
