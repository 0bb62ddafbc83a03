"""A bundle whose places come from a locator: the guard, the weights as untrusted input, and whole answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricate import PLACES, Shape, make_bundle, make_locator, reseal

from gmrt.runtime import request
from gmrt.runtime.backends.ort import OrtDecoder
from gmrt.runtime.errors import BundleError
from gmrt.runtime.locator import LocatorGuard, open_locator
from gmrt.runtime.model import Model, load
from gmrt.runtime.points import KINDS, parse_regions
from gmrt.runtime.scalar import VALUE, Measure
from gmrt.runtime.scene import Scene

TAGS = (3, 4, 5, 6)
WIDTH = 64


def allowed(guard: LocatorGuard) -> list[int]:
    """The tokens of a vocabulary of eight that may come next."""
    row = np.zeros(8, np.float32)
    guard(row)
    return np.flatnonzero(np.isfinite(row)).tolist()


def test_a_tag_completes_an_answer_and_only_opens_it() -> None:
    """Guards against digits spelt behind a tag, and against tags in the middle of a caption."""
    guard = LocatorGuard(TAGS)
    assert allowed(guard) == list(range(8))
    guard.accept(5)
    assert (guard.kind, guard.finished, guard.hides(5), guard.hides(1)) == (KINDS[2], True, True, False)
    words = LocatorGuard(TAGS)
    words.accept(1)
    assert (words.kind, words.finished, words.forced) == (None, False, None)
    assert allowed(words) == [0, 1, 2, 7]


def test_a_form_that_was_asked_for_is_held_to() -> None:
    """Guards against boxes where points were asked for."""
    assert allowed(LocatorGuard(TAGS, KINDS)) == list(TAGS)
    guard = LocatorGuard(TAGS, ("obb",))
    assert allowed(guard) == [TAGS[KINDS.index("obb")]]
    assert guard.forced == TAGS[KINDS.index("obb")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fabricated bundle with a locator."""
    return make_bundle(tmp_path_factory.mktemp("locator") / "bundle", Shape(locator=True)).path


@pytest.fixture
def model(bundle: Path) -> Model:
    """The bundle, loaded."""
    return load(bundle)


def test_places_are_found_in_the_form_that_was_asked_for(model: Model, scenes: list[Scene]) -> None:
    """Guards against a locator that is there and not used: every form is a whole location, with a confidence."""
    view = model.look(scenes[0])
    for kind in KINDS:
        answer = view.ask("locate the ships", points=kind)
        assert {region.kind for region in parse_regions(answer.text)} <= {kind}
        assert answer.tokens["generated"] == 1
        assert answer.finish_reason == "stop"
        assert 0 <= answer.confidence <= 1
    assert len(view.ask("locate the ships", points="box", max_regions=1).points) <= 1


def test_a_pair_is_compared(model: Model, scenes: list[Scene]) -> None:
    """Guards against changes that are sought in one image alone."""
    same, other = model.compare(scenes[0], scenes[0]), model.compare(scenes[1], scenes[0])
    answers = [view.ask("locate what is new", points="box", max_regions=5).text for view in (same, other)]
    assert answers[0] != answers[1]


def test_an_answer_in_words_has_no_places(model: Model, scenes: list[Scene]) -> None:
    """Guards against a choice or a caption that a locator takes over."""
    view = model.look(scenes[0])
    assert view.ask("is there a ship?", yes_no=True).text in ("yes", "no")
    assert view.ask("how many?", number=True).text.isdigit()


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A bundle that locates and measures, made to open every answer with "<value> count": a random one never would."""
    shape = Shape(locator=True, measures=(Measure("height", "m"),))
    model = load(make_bundle(tmp_path / "counting", shape).path)
    scalars = model.bundle.scalars
    assert scalars is not None

    def make(**_: object) -> Callable[[np.ndarray], int]:
        path = (scalars.token, *scalars.spellings[-1])
        return lambda row: next(token for token in path if np.isfinite(row[token]))

    monkeypatch.setattr(request, "make_sampler", make)
    return model


@pytest.mark.parametrize("number", [False, True])
def test_what_is_counted_is_what_is_found(
    counting: Model, scenes: list[Scene], number: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a count and a location that disagree, and against an answer held to digits that cannot count."""
    hidden: list[np.ndarray] = []
    prefill = OrtDecoder.prefill

    def spied(decoder: OrtDecoder, embeds: np.ndarray, logits_at: np.ndarray) -> np.ndarray:
        logits = prefill(decoder, embeds, logits_at)
        if decoder.last_hidden is not None and decoder.last_hidden.shape[1] == 1:
            hidden.append(decoder.last_hidden[0, 0])
        return logits

    monkeypatch.setattr(OrtDecoder, "prefill", spied)
    view = counting.look(scenes[0])
    answer = view.ask("how many ships are there?", number=number)
    found = view.count(hidden[0])  # that of the prompt: forced tokens leave others behind it
    assert answer.text == str(len(found.regions))
    assert answer.value == len(found.regions)
    assert (answer.unit, answer.finish_reason) == ("", "stop")
    assert VALUE not in answer.text
    assert counting._backend._heads is None  # type: ignore[attr-defined]


def broken(change: str) -> dict[str, np.ndarray]:
    """Weights of a locator with something wrong."""
    weights: dict[str, np.ndarray] = dict(make_locator(WIDTH, PLACES))
    if change == "missing":
        del weights["query.bias"]
    elif change == "shape":
        weights["query.weight"] = weights["query.weight"][:, :-1]
    elif change == "nan":
        weights["changes.weight"] = np.full_like(weights["changes.weight"], np.nan)
    elif change == "words":
        weights["query.bias"] = np.array(["x"] * len(weights["query.bias"]))
    return weights


@pytest.mark.parametrize("change", ["missing", "shape", "nan", "words"])
def test_weights_that_are_none_are_refused(tmp_path: Path, change: str) -> None:
    """Guards against a traceback, or a place out of nowhere, from a damaged file."""
    np.savez(tmp_path / "locator.npz", **broken(change))
    with pytest.raises(BundleError, match=r"locator\.npz: not the weights of a locator"):
        open_locator(tmp_path / "locator.npz", WIDTH, PLACES)


def test_pickles_and_rubbish_are_refused(tmp_path: Path) -> None:
    """Guards against code that runs when a bundle is opened."""
    file = tmp_path / "locator.npz"
    np.savez(file, **{"query.bias": np.array([print], dtype=object)})
    with pytest.raises(BundleError, match="not the weights"):
        open_locator(file, WIDTH, PLACES)
    file.write_bytes(b"rubbish")
    with pytest.raises(BundleError, match="not the weights"):
        open_locator(file, WIDTH, PLACES)


def test_a_decoder_without_hidden_states_cannot_have_one(tmp_path: Path) -> None:
    """Guards against a bundle that opens and fails at its first question."""
    path = make_bundle(tmp_path / "bundle", Shape(locator=True)).path
    components = json.loads((path / "bundle.json").read_text(encoding="utf-8"))["components"]
    del components["decoder"]["outputs"]["last_hidden"]
    reseal(path, components=components)
    with pytest.raises(BundleError, match="needs last_hidden"):
        load(path)


@pytest.mark.parametrize("axes", [None, ["batch", 12, 16, 8], ["batch", 12, "rows", "rows"]])
def test_a_tower_without_places_cannot_have_one(tmp_path: Path, axes: list[int | str] | None) -> None:
    """Guards against a bundle that opens and fails at its first image."""
    path = make_bundle(tmp_path / "bundle", Shape(locator=True)).path
    components = json.loads((path / "bundle.json").read_text(encoding="utf-8"))["components"]
    outputs = components["vision"]["outputs"]
    if axes is None:
        del outputs["image_places"]
    else:
        outputs["image_places"]["axes"] = axes
    reseal(path, components=components)
    with pytest.raises(BundleError, match="needs image_places"):
        load(path)
