"""Scores of whole sets, with models whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pretend import Pretender, picture
from tank_farm import tank_farm

from gmrt.georsmllm.data import DatasetError, Example, Question
from gmrt.georsmllm.evaluation.evaluate import format_table, labelled_set, run
from gmrt.georsmllm.evaluation.predict import Given
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.tasks import Change, Measure, Request, measures, pair_requests, requests


def scene(number: int) -> Example:
    """An image of which everything is known and asked."""
    labels, rng = tank_farm(number), np.random.default_rng(number)
    return Example(
        name=f"scene {number}",
        image=picture(number),
        scene_class=labels.scene_class,
        captions=("a tank farm beside a road", "there are some storage tanks"),
        requests=tuple(dict.fromkeys(requests(labels, rng))),
        measures=tuple(replace(m, target=m.target + number) for m in measures(labels, rng)),
        labels=labels,
    )


def pair(number: int) -> Example:
    """A pair; what changed are the tanks of the second image."""
    before, after = replace(tank_farm(number), objects=()), tank_farm(number)
    changes = [Change("new", thing) for thing in after.objects if thing.category == "storage tank"]
    asked = pair_requests(before, after, changes, np.random.default_rng(number))
    return Example(f"pair {number}", picture(number), after=picture(number + 50), requests=tuple(asked))


EXAMPLES = [*map(scene, range(6)), *map(pair, range(6, 9))]
EVERYTHING = labelled_set("everything", EXAMPLES)
TRUTH = {
    (number, words): Given(one.wanted, 0.99, value=one.target)
    for number, group in EVERYTHING.asked.items()
    for one in group
    for words in one.wordings
}


def oracle(number: int, question: str) -> Given:
    """The true answer in any wording; for the phrases of cyclic referring there is none among the requests."""
    return TRUTH.get((number, question), Given("none"))


def values(result, task):
    """The scores of a task by name."""
    return {name: numbers["value"] for name, numbers in result["scores"][task].items()}


def one_image(*wanted: Request, **known) -> object:
    """A set of one image."""
    return labelled_set("one", [Example("a", picture(0), requests=wanted, **known)])


def test_a_perfect_model_has_full_marks_everywhere() -> None:
    """Guards against answers compared with another question's, and against a score that can never be reached."""
    result = run(Pretender(oracle), EVERYTHING, wordings=40)
    for task in ("class", "qa", "detect", "refer", "describe", "polygon", "location", "wordings"):
        assert set(values(result, task).values()) == {1}, task
    assert values(result, "count") == {"exact": 1, "mean absolute error": 0}
    assert values(result, "change") == dict.fromkeys(values(result, "change"), 1)
    assert values(result, "caption")["BLEU-4"] == pytest.approx(1)
    assert values(result, "change caption")["ROUGE-L"] == pytest.approx(1)
    regression = values(result, "regression")
    assert regression["R² built-up fraction"] == pytest.approx(1)
    assert regression["mean absolute error mean height in metres"] == pytest.approx(0)
    assert values(result, "confidence") == {"ECE": pytest.approx(0.01)}
    assert all(answer["right"] in (True, None) for answer in result["answers"])


def test_a_model_that_babbles_has_none() -> None:
    """Guards against credit for an answer that is no location, no number and no class."""
    result = run(Pretender(lambda _n, _q: "well well <box>"), EVERYTHING, wordings=40)
    for task in ("class", "qa", "detect", "refer", "describe", "polygon", "cyclic"):
        assert set(values(result, task).values()) == {0}, task
    assert values(result, "location")["is a location"] == 0
    assert values(result, "count")["exact"] == 0
    assert "regression" not in result["scores"]
    assert values(result, "wordings")["as the first wording, words"] == 1
    assert values(result, "wordings")["as the first wording, locations"] == 0


def test_every_score_has_an_interval_and_the_table_shows_it() -> None:
    """Guards against a row that is computed and not printed, and a result that JSON cannot hold."""
    result = json.loads(json.dumps(run(Pretender(oracle), EVERYTHING)))
    table = format_table(result)
    for task, rows in result["scores"].items():
        for name, numbers in rows.items():
            assert numbers["low"] - 1e-9 <= numbers["value"] <= numbers["high"] + 1e-9
            assert any(line.startswith(task) and name in line for line in table.splitlines())


def test_the_baselines_vote_among_all_images() -> None:
    """Guards against a baseline made weak by scoring a slice, and against one that sees its own answer."""
    question = Question("is it night?", "no", "qa", "presence")
    examples = [Example(str(n), picture(n), scene_class="field", questions=(question,)) for n in range(4)]
    result = run(Pretender(lambda _n, _q: "yes"), labelled_set("nights", examples, range(3, 4)))
    assert values(result, "qa") == {"all": 0}
    assert values(result, "question only") == {"all": 1}
    assert values(result, "question and class") == {"all": 1}
    assert result["images"] == 1
    unique = labelled_set("nights", examples[:1])
    assert values(run(Pretender(lambda _n, _q: "no"), unique), "question only") == {"all": 0}


def test_kinds_of_questions_stand_apart() -> None:
    """Guards against one accuracy that hides that counting does not work."""
    asked = (
        Question("is there a road?", "yes", "qa", "presence"),
        Question("how many roads are there?", "two", "qa", "count"),
        Question("what is the area covered by roads?", "12m2", "qa", "area"),
    )
    answers = {"is there a road?": "Yes.", "how many roads are there?": "5", "what is the area covered by roads?": "0"}
    result = run(
        Pretender(lambda _n, q: answers[q]), labelled_set("kinds", [Example("a", picture(0), questions=asked)])
    )
    assert values(result, "qa") == {
        "all": pytest.approx(1 / 3), "yes or no": 1, "presence": 1, "count": 0, "area": 0
    }  # fmt: skip
    assert values(result, "count") == {"exact": 0, "mean absolute error": 3}


def test_sets_are_pooled_and_told_apart_by_form() -> None:
    """Guards against "none" that hides misses, and against a mean over requests where papers pool regions."""
    two = "<box> 0 0 99 99 <box> 300 300 399 399"
    asked = [
        Request("detect", "box", ("locate the ships",), two),
        Request("detect", "point", ("point at the cars",), "none"),
        Request("detect", "obb", ("locate the tanks as rotated boxes",), "<obb> 10 10 20 10 20 20 10 20"),
    ]
    given = {
        "locate the ships": "<box> 0 0 99 99",
        "point at the cars": "<point> 3 3",
        "locate the tanks as rotated boxes": "<box> 10 10 20 20",
    }
    result = run(Pretender(lambda _n, q: given[q]), one_image(*asked))
    assert values(result, "detect") == {
        "F1@0.5": pytest.approx(2 * 2 / 6),
        "F1@0.5 as boxes": pytest.approx(2 / 3),
        "F1@0.5 as points": 0,
        "F1@0.5 as rotated boxes": 1,
        "none, where none is": 0,
    }
    assert values(result, "location")["in the form asked for"] == pytest.approx(2 / 3)


def test_referring_has_accuracy_and_overlap() -> None:
    """Guards against an overlap of points, which have none, in the mean."""
    asked = [
        Request("refer", "box", ("locate the ship",), "<box> 0 0 100 100"),
        Request("refer", "poly", ("outline the ship",), "<poly> 0 0 100 0 100 100 0 100"),
        Request("refer", "point", ("point at the ship",), "<point> 50 50"),
    ]
    given = {"locate the ship": "<box> 0 0 100 50", "outline the ship": "none", "point at the ship": "<point> 50 60"}
    result = run(Pretender(lambda _n, q: given[q]), one_image(*asked))
    assert values(result, "refer") == {
        "Acc@0.5": pytest.approx(2 / 3),
        "Acc@0.5 as points": 1,
        "Acc@0.5 as boxes": 1,
        "Acc@0.5 as polygons": 0,
        "mIoU": pytest.approx(0.25),
        "mIoU as boxes": pytest.approx(0.5),
        "mIoU as polygons": 0,
    }
    assert values(result, "polygon") == {"mIoU": 0}


def test_a_number_that_is_not_given_explains_nothing() -> None:
    """Guards against R² over the easy part that a model chose to answer."""
    targets = [1.0, 2.0, 3.0, 6.0]
    examples = [
        Example(str(n), picture(n), measures=(Measure("the height", "height", target),))
        for n, target in enumerate(targets)
    ]
    result = run(
        Pretender(lambda n, _q: Given("<value> height", value=3.5) if n == 2 else Given("no idea")),
        labelled_set("heights", examples),
    )
    regression = values(result, "regression")
    assert regression["answered by a number"] == 0.25
    assert regression["R² height"] == pytest.approx(1 - (4 + 1 + 0.25 + 9) / 14)


def test_wordings_that_change_the_answer_are_found() -> None:
    """Guards against consistency measured against the truth instead of against the first answer."""
    asked = Request("qa", "count", tuple(f"wording {n}" for n in range(14)), "7")
    result = run(
        Pretender(lambda _n, q: "4" if q.endswith(("0", "1", "2", "3", "4")) else "5"), one_image(asked), wordings=1
    )
    rows = values(result, "wordings")
    assert rows["as the first wording"] == pytest.approx(4 / 9)
    assert rows["any two wordings"] == pytest.approx((10 + 10) / 45)
    assert rows["all wordings"] == 0


def test_cyclic_agreement_goes_there_and_back() -> None:
    """Guards against a cycle that compares a region with itself."""
    tank = SceneObject("tank", ((0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)))
    known = SceneLabels(objects=(tank,), exhaustive=frozenset({"tank"}))
    labelled = one_image(Request("qa", "presence", ("is there a tank?",), "yes"), labels=known)
    there = run(Pretender(lambda _n, q: "<box> 100 100 300 300" if q == "locate the tank" else "yes"), labelled)
    assert (values(there, "cyclic"), there["cyclic"]) == ({"agreement": 1}, {"agrees": 1})
    away = run(Pretender(lambda _n, _q: "<box> 500 500 600 600"), labelled)
    assert (values(away, "cyclic"), away["cyclic"]) == ({"agreement": 0}, {"elsewhere": 1})


def test_tiles_find_what_the_whole_image_hides() -> None:
    """Guards against boxes left in the frame of a tile, and against categories that only count where they are."""
    corners = ((0.5, 0.5), (0.6, 0.5), (0.6, 0.6), (0.5, 0.6))
    known = SceneLabels(objects=(SceneObject("car", corners, "box"),), exhaustive=frozenset({"car", "person"}))
    labelled = labelled_set("drone", [Example("a", picture(7, 400, 200), labels=known)], every_category=True)
    whole = run(Pretender(lambda _n, _q: "none"), labelled)
    assert values(whole, "detect")["F1@0.5 car"] == 0

    class Near(Pretender):
        def look(self, *scenes):
            rgb = scenes[0].rgb
            x0, y0 = int(rgb[0, 0, 1]) * 10, int(rgb[0, 0, 2]) * 10
            width, height = rgb.shape[1], rgb.shape[0]
            inside = x0 <= 200 and y0 <= 100 and x0 + width >= 240 and y0 + height >= 120 and width <= 100
            x, y, w, h = (200 - x0) / width, (100 - y0) / height, 40 / width, 20 / height
            cells = [int(1000 * value) for value in (x, y, x + w, y + h)]
            said = f"<box> {' '.join(map(str, cells))}" if inside else "none"
            return (
                super().look(*scenes)
                if not inside
                else Pretender(lambda _n, q: said if "car" in q else "none").look(*scenes)
            )

    tiled = run(Near(lambda _n, _q: "none"), labelled, tile=100)
    assert values(tiled, "detect") == {
        "F1@0.5": 1, "F1@0.5 car": 1, "F1@0.5 person": 1, "none, where none is": 1
    }  # fmt: skip
    assert tiled["scores"]["detect"]["F1@0.5"]["items"] == 2


def test_pairs_need_a_model_for_pairs() -> None:
    """Guards against pairs that are scored on their first image, or that vanish without a word."""
    single = run(Pretender(oracle, max_images=1), EVERYTHING)
    assert "change" not in single["scores"]
    assert single["notes"] == ["3 pairs are left out: this model takes one image at a time"]
    with pytest.raises(DatasetError, match="one image at a time"):
        run(Pretender(oracle, max_images=1), labelled_set("pairs", EXAMPLES[6:]))


def test_two_models_are_compared_on_the_same_items() -> None:
    """Guards against a difference with the wrong sign, or of unpaired items."""
    result = run(Pretender(oracle), EVERYTHING, against=Pretender(lambda _n, _q: "none", name="lazy"))
    numbers = result["scores"]["refer"]["Acc@0.5"]
    assert (numbers["value"], numbers["against"]) == (1, 0)
    assert numbers["difference"] == {"value": 1, "low": 1, "high": 1}
    assert "+100.0 (+100.0 … +100.0)" in format_table(result)
    same = run(Pretender(oracle), EVERYTHING, against=Pretender(oracle))
    assert {n["difference"]["value"] for rows in same["scores"].values() for n in rows.values()} == {0}


def test_flags_are_counted_on_the_set_and_on_strangers() -> None:
    """Guards against a share of false alarms without the share of alarms, and the other way round."""
    labelled = one_image(Request("qa", "presence", ("is there a tank?",), "yes"))
    flagged = values(run(Pretender(lambda _n, _q: "yes", unfamiliar=True), labelled), "unfamiliar")
    assert flagged["flagged, of this set"] == 1
    assert flagged["flagged, of noise"] == 1
    assert "unfamiliar" not in run(Pretender(lambda _n, _q: "yes"), labelled)["scores"]
