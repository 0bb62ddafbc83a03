"""What is written beside a sample: complete, true of the scene, and the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from gmrt.georsmllm.scenes import STYLES_TEST, generate
from gmrt.georsmllm.scenes.dataset import labels_from
from gmrt.georsmllm.scenes.truth import truth, truth_json
from gmrt.runtime.points import parse_regions


@pytest.fixture(scope="module")
def scene():
    """A port in a style kept from training."""
    return generate(3, kind="port", style=STYLES_TEST[1], size=128)


def test_answers_are_true_of_the_labels(scene):
    """Guards against truths of another scene, and against a plain question that chance leaves out."""
    counts = Counter(thing.category for thing in scene.labels.objects if thing.category in scene.labels.exhaustive)
    asked = {one["prompt"]: one for one in truth(scene)["requests"]}
    assert counts["ship"] > 1
    for name, count in counts.items():
        assert asked[f"how many {name}s are there?"]["answer"] == str(count)
        assert len(parse_regions(asked[f"locate the {name}s"]["answer"])) == count
    assert asked["estimate the mean height"]["answer"] == pytest.approx(scene.labels.measures["mean height"], abs=1e-4)


def test_every_task_is_asked_once(scene):
    """Guards against a task that is missing, a prompt with two answers, and a location that no parser reads."""
    requests = truth(scene)["requests"]
    assert {one["task"] for one in requests} == {"caption", "class", "qa", "detect", "refer", "describe", "measure"}
    assert len({one["prompt"] for one in requests}) == len(requests)
    for one in requests:
        if one["task"] in ("detect", "refer", "describe"):
            assert {region.kind for region in parse_regions(one["answer"])} <= {one["kind"]}


def test_text_reads_back(scene):
    """Guards against JSON that no parser takes, or that loses the labels on the way."""
    text = truth_json(scene)
    assert text == truth_json(scene)
    fields = json.loads(text)
    assert fields["requests"] == truth(scene)["requests"]
    labels = labels_from(fields["labels"])
    assert [one.category for one in labels.objects] == [one.category for one in scene.labels.objects]
    assert labels.measures == scene.labels.measures
    assert len(text.splitlines()) == len(fields["requests"]) + len(fields) + 3
