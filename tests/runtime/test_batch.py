"""Many answers at a time are the answers that each question gets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fabricate import Fabricated, Shape

from gmrt.runtime import batch as batch_module
from gmrt.runtime.backends import create_backend
from gmrt.runtime.batch import EPSILON
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BusyError, CacheFullError, ConstraintError, PromptError
from gmrt.runtime.model import SHIPPED, Answer, Model, load
from gmrt.runtime.scalar import Measure
from gmrt.runtime.scene import Scene, scene_from_array

QUESTIONS = ("describe the scene", "forest?", "is there a harbour beside the river", "how many boats", "describe")


def same(batched: Answer, alone: Answer) -> None:
    """Equal in everything but time, what was reused, and the rounding of a sum in another order."""
    assert batched.confidence == pytest.approx(alone.confidence, rel=1e-3)
    blank: dict[str, Any] = {"confidence": 0, "timings": {}, "tokens": {}}
    assert replace(batched, **blank) == replace(alone, **blank)
    assert {**batched.tokens, "reused": 0} == {**alone.tokens, "reused": 0}


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_many_questions_about_one_image(
    model: Model, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Guards against rows that hear each other, an order that is lost, and more questions than rows."""
    view = model.look(scenes[0])
    alone = [view.ask(question, max_tokens=12) for question in QUESTIONS]
    monkeypatch.setattr(model._backend, "max_batch", rows)
    for batched, expected in zip(view.ask_many(QUESTIONS, max_tokens=12), alone, strict=True):
        same(batched, expected)
        assert batched.tokens["reused"] > 0
    same(view.ask(QUESTIONS[0], max_tokens=12), alone[0])


def test_answers_of_different_lengths(
    fabricate: Callable[..., Fabricated], model: Model, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a row that takes over the tokens, or the length, of the one whose place it moved into."""
    first = model.look(scenes[0]).ask(QUESTIONS[0], max_tokens=1)
    tokens = {model.bundle.tokenizer.encode(first.text).ids[0], 30, 60, 90, 120, 150, 180, 210, 240, 270}
    ending = load(fabricate(Shape(), eos=tuple(sorted(tokens | {1}))).path)
    monkeypatch.setattr(ending._backend, "max_batch", 3)
    view = ending.look(scenes[1])
    questions = [f"{question} {word}" for question in QUESTIONS for word in ("trees", "ships", "soil", "river")]
    alone = [view.ask(question, max_tokens=30) for question in questions]
    assert len({answer.tokens["generated"] for answer in alone}) > 4
    for batched, expected in zip(view.ask_many(questions, max_tokens=30), alone, strict=True):
        same(batched, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"choices": ["forest", "forest edge", "Harbour", "船舶"]},
        {"yes_no": True},
        {"number": True},
        {"points": "box", "max_tokens": 40, "max_regions": 2},
        {"max_tokens": 12, "temperature": 2, "seed": 3},
        {"max_tokens": 20, "stop": ["e", "a"]},
    ],
)
def test_what_holds_an_answer_holds_it_in_a_batch(model: Model, scenes: list[Scene], options: dict[str, Any]) -> None:
    """Guards against a constraint, a sampler or a stop string that is shared between rows, or left out."""
    view = model.look(scenes[0])
    alone = [view.ask(question, **options) for question in QUESTIONS]
    for batched, expected in zip(view.ask_many(QUESTIONS, **options), alone, strict=True):
        same(batched, expected)


def test_places_and_measures_in_a_batch(fabricate: Callable[..., Fabricated], scenes: list[Scene]) -> None:
    """Guards against a place or a scalar that is read from the hidden state of another row's question."""
    model = load(fabricate(Shape(locator=True, measures=(Measure("mean height", "m"),))).path)
    view = model.look(scenes[0])
    for options in ({"points": "point"}, {"points": True}, {"number": True}, {"max_tokens": 10, "temperature": 20}):
        alone = [view.ask(question, **options) for question in QUESTIONS]
        assert len({answer.text for answer in alone}) > 1
        for batched, expected in zip(view.ask_many(QUESTIONS, **options), alone, strict=True):
            same(batched, expected)


def test_pair_in_a_batch(model: Model, scenes: list[Scene]) -> None:
    """Guards against a batch that sees one image of two."""
    view = model.compare(scenes[0], scenes[1])
    for batched, question in zip(view.ask_many(QUESTIONS, max_tokens=8), QUESTIONS, strict=True):
        same(batched, view.ask(question, max_tokens=8))


def test_bad_batches_are_refused_at_once(model: Model, scenes: list[Scene]) -> None:
    """Guards against a batch that fails at its last question, after the others were answered."""
    view = model.look(scenes[0])
    with pytest.raises(PromptError):
        view.ask_many(["forest?", " "])
    with pytest.raises(ConstraintError):
        view.ask_many(["forest?"], choices=[])
    with pytest.raises(CacheFullError):
        view.ask_many(["forest?"], max_tokens=10_000)
    assert view.ask_many([]) == []
    running = view.stream("forest?")
    next(running)
    with pytest.raises(BusyError):
        view.ask_many(["forest?"])


def test_rows_stay_within_the_bound_of_one_answer(
    model: Model, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a batch that takes many times the memory that was allowed for a cache."""
    made: list[int] = []
    real = model._backend.new_cache

    def counted(capacity: int, batch: int = 1) -> Any:
        made.append(capacity * batch)
        return real(capacity, batch)

    monkeypatch.setattr(model._backend, "new_cache", counted)
    model.max_capacity = 140
    assert len(model.look(scenes[0]).ask_many(QUESTIONS, max_tokens=12)) == len(QUESTIONS)
    assert made == [128]


def test_words_before_every_image_are_run_once(model: Model, scenes: list[Scene]) -> None:
    """Guards against a system prompt that is prefilled for each image, or reused where it differs."""
    source = "a residential area beside the river with many boats and trees: " * 2
    bundle = replace(model.bundle, template=model.bundle.template.environment.from_string(  # type: ignore[attr-defined]
        source + "<user>{%- for part in messages[0].content -%}{%- if part.type == 'image' -%}<image>{%- else -%}"
        "{{ part.text }}{%- endif -%}{%- endfor -%}<assistant>"
    ))  # fmt: skip
    told = Model(bundle, model._backend, max_capacity=model.max_capacity, load_ms=0)
    opening = len(bundle.tokenizer.encode(source + "<user>").ids)
    answers = [told.look(scene).ask("forest?", max_tokens=8) for scene in (*scenes, scenes[0])]
    assert [answer.tokens["reused"] for answer in answers[:2]] == [0, opening]
    assert answers[3].tokens["reused"] > opening
    fresh = Model(bundle, model._backend, max_capacity=model.max_capacity, load_ms=0)
    cold = fresh.look(scenes[1]).ask("forest?", max_tokens=8)
    assert (cold.text, cold.confidence) == (answers[1].text, answers[1].confidence)


def test_epsilon_is_wide_enough_for_the_shipped_bundle() -> None:
    """Guards against an ε that 8-bit blocks exceed: the logits of a batched step against those of a single one."""
    bundle = open_bundle(SHIPPED)
    backend = create_backend(bundle, "cpu")
    random = np.random.default_rng(0)
    ids = random.integers(10, bundle.manifest.vocab_size, (4, 40))
    wide = backend.bind(backend.new_cache(64, 4))
    worst = 0.0
    singles = []
    for at, row in enumerate(ids):
        backend.bind(wide.cache.rows(at, at + 1)).prefill(bundle.table.lookup(row[:30])[None], np.zeros((1, 0), int))
        single = backend.bind(backend.new_cache(64))
        single.prefill(bundle.table.lookup(row[:30])[None], np.zeros((1, 0), int))
        singles.append(single)
    for step in range(30, 40):
        for at, row in enumerate(ids):
            wide.embeds[at, 0] = singles[at].embeds[0, 0] = bundle.table.lookup(row[step : step + 1])[0]
            singles[at].step()
        wide.step()
        worst = max(worst, *(float(np.abs(wide.logits[at] - singles[at].logits[0]).max()) for at in range(4)))
    assert 2 * worst < EPSILON


def test_batched_answers_of_the_shipped_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against batched answers that differ where the model was sure; where it was not, they may."""
    model = load()
    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    view = model.look(scene_from_array(np.repeat(np.repeat(blocks, 64, axis=0), 64, axis=1)))
    questions = ["describe", "is there a river?", "how many storage tanks are there?", "what is at the top left?"]
    alone = [view.ask(question, max_tokens=24) for question in questions]
    margins: list[float] = []
    real = batch_module.Walk.choose

    def watched(self: Any, row: Any) -> Any:
        best = np.partition(row, -2)[-2:]
        margins.append(float(best[1] - best[0]))
        return real(self, row)

    monkeypatch.setattr(batch_module.Walk, "choose", watched)
    batched = view.ask_many(questions, max_tokens=24)
    if min(margins) > EPSILON:
        assert [answer.text for answer in batched] == [answer.text for answer in alone]
