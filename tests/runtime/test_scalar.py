"""Scalar answers in the field: how they are told from words, where their number comes from, how it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricate import Fabricated, Shape, heads_weight, make_bundle, reference_logits, reseal

from gmrt.runtime import request
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import prepare
from gmrt.runtime.model import Finished, Model, TextEvent, load
from gmrt.runtime.prompt import encode_prompt
from gmrt.runtime.scalar import VALUE, Measure, ScalarGuard, Scalars, format_value
from gmrt.runtime.scene import Scene

MEASURES = (Measure("forest", ""), Measure("forest edge", "m"), Measure("boats", "1/km2"))
QUESTION = "how many boats?"
EOS, OPEN = 0, 1


def guard(*spellings: tuple[int, ...], otherwise: Any = None) -> ScalarGuard:
    """A guard over measures that are spelled so; 0 is the end, 1 opens a scalar."""
    measures = tuple(Measure(str(i), "") for i in range(len(spellings)))
    return ScalarGuard(Scalars(OPEN, measures, spellings), (EOS,), otherwise)


def allowed(held: ScalarGuard) -> list[int]:
    """The tokens of a vocabulary of ten that may come next."""
    row = np.arange(1, 11, dtype=np.float32)
    held(row)
    kept = np.flatnonzero(np.isfinite(row))
    assert (row[kept] == kept + 1).all()
    return [int(token) for token in kept]


def test_words_are_left_alone_but_for_the_opening_token() -> None:
    """Guards against a caption bent by the guard, and against "<value>" in the middle of one."""
    held = guard((5,), (6,))
    assert allowed(held) == list(range(10))
    held.accept(7)
    assert allowed(held) == [0, *range(2, 10)]
    assert (held.opened, held.finished, held.index, held.forced) == (False, False, None, None)


@pytest.mark.parametrize(("path", "index"), [((5, 6), 1), ((5, EOS), 0), ((5, 7, 8), 2), ((5, 7, EOS), 3), ((9,), 4)])
def test_a_name_is_followed_until_it_is_the_only_one(path: tuple[int, ...], index: int) -> None:
    """Guards against a name that is the beginning of another, and against steps behind the decision."""
    held = guard((5,), (5, 6, 7), (5, 7, 8), (5, 7), (9, 9, 9))
    held.accept(OPEN)
    assert allowed(held) == [5, 9]
    for token in path:
        assert not held.finished
        assert token in allowed(held)
        held.accept(token)
    assert (held.finished, held.index) == (True, index)


def test_a_single_measure_needs_no_name() -> None:
    """Guards against decoding words whose outcome is certain."""
    held = guard((5, 6, 7))
    held.accept(OPEN)
    assert (held.finished, held.index) == (True, 0)


def test_a_forced_token_is_told() -> None:
    """Guards against a decoder that computes logits where there is no choice."""
    held = guard((5, 6, 7), (5, 6, 8))
    held.accept(OPEN)
    assert held.forced == 5
    held.accept(5)
    held.accept(6)
    assert held.forced is None


class Other:
    """Another constraint: allows 3 alone, and is finished and cut by it."""

    forced = 3
    finished = cut = False

    def __call__(self, row: np.ndarray) -> None:
        """Allow 3 alone."""
        row[[i for i in range(len(row)) if i != 3]] = -np.inf

    def accept(self, token: int) -> None:
        """Be finished."""
        self.finished = self.cut = token == 3


def test_every_other_answer_is_left_to_the_other_guard() -> None:
    """Guards against locations that are no longer held to their grammar where a bundle can measure.

    And against another guard that leaves no way to open a scalar.
    """
    held = guard((5,), (6,), otherwise=Other())
    assert (allowed(held), held.forced, held.finished) == ([OPEN, 3], None, False)
    held.accept(3)
    assert (held.finished, held.cut) == (True, True)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.3149, "", "0.315"),
        (3.4, "m", "3.4 m"),
        (12.0, "m", "12 m"),
        (1234.5, "m", "1230 m"),
        (2.34e-5, "", "0.0000234"),
        (-0.0, "", "0"),
        (-0.25, "%", "-0.25 %"),
    ],
)
def test_numbers_are_plain(value: float, unit: str, text: str) -> None:
    """Guards against exponents, endless digits and a minus before nothing."""
    assert format_value(value, unit) == text


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Fabricated:
    """A bundle with a regression head of three measures."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "measuring", Shape(measures=MEASURES))


@pytest.fixture
def opening(measuring: Fabricated, monkeypatch: pytest.MonkeyPatch) -> Model:
    """The bundle, made to open every answer with "<value>": a random model never would."""
    model = load(measuring.path)
    token = model.bundle.tokenizer.token_to_id(VALUE)

    def make(**_: object) -> Callable[[np.ndarray], int]:
        first = iter([token])
        return lambda row: next(first, int(row.argmax()))

    monkeypatch.setattr(request, "make_sampler", make)
    return model


def expected(made: Fabricated, model: Model, scene: Scene) -> np.ndarray:
    """The head's numbers at the end of the prompt, by the decoder in numpy."""
    bundle = model.bundle
    prompt = encode_prompt(
        QUESTION,
        images=1,
        tokens_per_image=made.shape.image_tokens,
        tokenizer=bundle.tokenizer,
        template=bundle.template,
        layout=bundle.manifest.prompt,
    )
    embeds = made.table[prompt.ids]
    pixels = prepare(scene.rgb, bundle.manifest.image, scene.valid)
    embeds[prompt.ids == bundle.manifest.prompt.image_token_id] = model._backend.encode(pixels[None]).embeds[0]
    identity = np.eye(made.shape.hidden, dtype=np.float32)
    hidden = reference_logits(made.shape, made.weights | {"head": identity}, embeds)[0][-1]
    return np.asarray(hidden @ heads_weight(made.shape))


def test_the_number_is_the_heads(measuring: Fabricated, opening: Model, scenes: list[Scene]) -> None:
    """Guards against the hidden state of another position, another output, or a number that is the image's before."""
    for scene in scenes:
        *pieces, last = opening.look(scene).stream(QUESTION)
        assert isinstance(last, Finished)
        answer = last.answer
        assert answer.value is not None
        numbers = expected(measuring, opening, scene)
        index = int(np.abs(numbers - answer.value).argmin())
        assert answer.value == pytest.approx(numbers[index], rel=1e-4)
        assert answer.unit == MEASURES[index].unit
        assert answer.text == format_value(answer.value, answer.unit)
        assert [piece.text for piece in pieces if isinstance(piece, TextEvent)] == [answer.text]
        assert answer.finish_reason == "stop"
        assert answer.tokens["generated"] <= 1 + max(len(s) for s in opening.bundle.scalars.spellings)  # type: ignore[union-attr]
        record = answer.to_dict()
        assert (record["value"], record["unit"]) == (answer.value, answer.unit)
        assert record["points"] == []


def test_a_scalar_that_is_cut_off_says_so(opening: Model, scenes: list[Scene]) -> None:
    """Guards against a number of an unknown measure, or "<value>" shown raw, when the budget ends inside the name."""
    answer = opening.look(scenes[0]).ask(QUESTION, max_tokens=1)
    assert (answer.text, answer.value, answer.finish_reason) == ("", None, "length")


def test_an_answer_in_words_has_no_number(measuring: Fabricated, scenes: list[Scene]) -> None:
    """Guards against a value in every answer of a bundle with a head, and against "<value>" on the way."""
    model = load(measuring.path)
    answer = model.look(scenes[0]).ask(QUESTION, max_tokens=20)
    assert (answer.value, answer.unit) == (None, "")
    assert (answer.to_dict()["value"], answer.to_dict()["unit"]) == (None, None)
    assert VALUE not in answer.text
    assert model._backend._heads is None  # type: ignore[attr-defined]
    assert model.look(scenes[0]).ask(QUESTION, choices=["forest", "boats"]).value is None


def test_a_head_that_is_not_finite_is_refused(opening: Model, scenes: list[Scene], monkeypatch: Any) -> None:
    """Guards against "nan m" given as an answer."""
    monkeypatch.setattr(opening._backend, "measure", lambda hidden: np.full((len(hidden), 3), np.nan, np.float32))
    with pytest.raises(BundleError, match=r"heads\.onnx"):
        opening.look(scenes[0]).ask(QUESTION)


def test_without_a_head_nothing_changes(model: Model) -> None:
    """Guards against a bundle of before that no longer opens, or is slowed down by what it has not."""
    assert model.bundle.scalars is None
    decoder = model._backend.bind(model._backend.new_cache(32))
    decoder.prefill(np.zeros((1, 2, 64), np.float32), np.array([[1]]))
    assert decoder.last_hidden is None


def spoil(measuring: Fabricated, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy the bundle with its manifest changed and sealed again."""
    path = make_bundle(folder / "spoilt", measuring.shape).path
    data = json.loads((path / "bundle.json").read_text())
    change(data)
    (path / "bundle.json").write_text(json.dumps(data))
    reseal(path)
    return path


def _measures(data: dict[str, Any], measures: Any) -> None:
    data["components"]["heads"]["measures"] = measures


ONE = {"name": "forest", "unit": ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["components"]["heads"].pop("measures"), "measures is missing"),
        (lambda data: _measures(data, []), "needs measures of different names"),
        (lambda data: _measures(data, [ONE, ONE, ONE]), "needs measures of different names"),
        (lambda data: _measures(data, [ONE]), "float32 and 1 wide"),
        (lambda data: _measures(data, ["forest"]), "a list of objects"),
        (lambda data: _measures(data, [{"name": "forest"}]), "unit is missing"),
        (lambda data: data["components"]["decoder"]["outputs"].pop("last_hidden"), "decoder.outputs needs last_hidden"),
        (lambda data: data["components"]["heads"]["inputs"].pop("last_hidden"), "heads.inputs needs last_hidden"),
        (lambda data: data["components"]["heads"].update(file="other.onnx"), "has no entry"),
    ],
)
def test_inconsistent_heads_are_refused(
    measuring: Fabricated, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Guards against a wrong number, or a traceback, from a manifest that does not fit its head."""
    with pytest.raises(BundleError, match=message):
        open_bundle(spoil(measuring, tmp_path, change))


def test_a_tokenizer_that_cannot_say_it_is_refused(
    measuring: Fabricated, fabricated: Fabricated, tmp_path: Path
) -> None:
    """Guards against a head that nothing can ever reach."""
    path = spoil(measuring, tmp_path, lambda _data: None)
    (path / "tokenizer.json").write_bytes((fabricated.path / "tokenizer.json").read_bytes())
    reseal(path)
    with pytest.raises(BundleError, match="no token <value>"):
        open_bundle(path)
