"""What is true of a generated scene, as JSON: to read beside the picture, and to compare answers with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from gmrt.georsmllm.conditions import Category
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.scenes.dataset import labels_dict
from gmrt.georsmllm.scenes.scene import GeneratedScene
from gmrt.georsmllm.tasks import Request, requests
from gmrt.georsmllm.tasks.phrases import Phrases
from gmrt.georsmllm.tasks.request import counted, located, worded
from gmrt.georsmllm.tasks.wordings import COUNT, LOCATE, MEASURE

_ROUNDS = 4
"""Times that requests are drawn of a scene; with the plain ones that is sixty or seventy in all."""


def truth(scene: GeneratedScene) -> dict[str, Any]:
    """How a scene was made, requests that can be made of it with their answers, and its labels.

    A request holds ``task``, ``kind``, ``prompt`` (in its canonical wording) and ``answer``, a number where the task is
    "measure" and text otherwise. The ``labels`` are those of `dataset.labels_from`.
    """
    rng = np.random.default_rng((10, scene.seed))
    drawn = (request for _ in range(_ROUNDS) for request in requests(scene.labels, rng))
    questions = (request.canonical() for request in (*_plain(scene.labels), *drawn))
    asked = {one.text: _request(one.task, one.kind, one.text, one.answer) for one in questions}
    scalars = [
        _request("measure", name, MEASURE[0].format(measure=name), round(value, 4))
        for name, value in sorted(scene.labels.measures.items())
    ]
    made = {name: getattr(scene, name) for name in ("kind", "style", "sensor", "seed", "gsd", "crs")}
    by_task = sorted(asked.values(), key=lambda one: (one["task"], one["kind"], one["prompt"]))
    return made | {"requests": [*by_task, *scalars], "labels": labels_dict(scene.labels)}


def _plain(labels: SceneLabels) -> Iterator[Request]:
    """Of every category in the scene, what one asks first: how many, where, and their outlines."""
    phrases = Phrases(labels)
    for condition in map(Category, phrases.present):
        things = [phrases.measured.objects[index] for index in phrases.holding(condition)]
        yield counted(worded(COUNT, condition), things)
        for form in ("box", "poly"):
            if answer := located(things, form):
                yield Request("detect", form, worded(LOCATE[form], condition), answer)


def _request(task: str, kind: str, prompt: str, answer: str | float) -> dict[str, Any]:
    return {"task": task, "kind": kind, "prompt": prompt, "answer": answer}


def truth_json(scene: GeneratedScene) -> str:
    """`truth` as text to read: one field or one request a line."""
    known = truth(scene)
    fields = {name: json.dumps(value) for name, value in known.items()}
    fields["requests"] = "[\n  " + ",\n  ".join(map(json.dumps, known["requests"])) + "\n ]"
    return "{\n" + ",\n".join(f' "{name}": {value}' for name, value in fields.items()) + "\n}\n"
