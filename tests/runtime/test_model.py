"""Load, look, ask: the whole runtime over a real bundle."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricate import Fabricated, Shape, reference_logits, reseal, small

import gmrt
from gmrt.runtime import model as model_module
from gmrt.runtime import request as request_module
from gmrt.runtime.errors import (
    BundleNotFoundError,
    BusyError,
    CacheFullError,
    ConstraintError,
    MemoryLimitError,
    PointsError,
    PromptError,
    SceneError,
)
from gmrt.runtime.image import prepare
from gmrt.runtime.model import Finished, Model, TextEvent, View, load
from gmrt.runtime.points import KINDS, format_regions
from gmrt.runtime.prompt import encode_prompt
from gmrt.runtime.scene import Scene, scene_from_array, scene_hash

QUESTION = "describe the scene"


def cold(bundle: Path, scene: Scene, question: str = QUESTION, **options: Any) -> str:
    """The answer of a model that has seen nothing else."""
    return load(bundle).look(scene).ask(question, **options).text


def test_answer_is_the_reference_decoders(fabricated: Fabricated, model: Model, scenes: list[Scene]) -> None:
    """Guards against any slip on the way from pixels and words to tokens: compared with numpy, token by token."""
    bundle = model.bundle
    view = model.look(scenes[0])
    layout = bundle.manifest.prompt
    prompt = encode_prompt(
        QUESTION,
        images=1,
        tokens_per_image=fabricated.shape.image_tokens,
        tokenizer=bundle.tokenizer,
        template=bundle.template,
        layout=layout,
    )
    embeds = fabricated.table[prompt.ids]
    pixels = prepare(scenes[0].rgb, bundle.manifest.image, scenes[0].valid)
    embeds[prompt.ids == layout.image_token_id] = model._backend.encode(pixels[None]).embeds[0]
    logits, past = reference_logits(fabricated.shape, fabricated.weights, embeds)
    expected, logprobs = [], []
    for _ in range(12):
        row = logits[-1].astype(np.float64)
        token = int(row.argmax())
        expected.append(token)
        logprobs.append(row[token] - np.log(np.exp(row - row.max()).sum()) - row.max())
        if token in layout.eos_token_ids:
            break
        logits, past = reference_logits(fabricated.shape, fabricated.weights, fabricated.table[[token]], past)
    answer = view.ask(QUESTION, max_tokens=12)
    assert answer.text == bundle.tokenizer.decode(expected).strip()
    assert answer.confidence == pytest.approx(np.exp(np.mean(logprobs)), rel=1e-3)
    assert answer.tokens == {"prompt": len(prompt.ids), "reused": 0, "generated": len(expected)}


def test_second_question_reuses_the_image(fabricated: Fabricated, model: Model, scenes: list[Scene]) -> None:
    """Guards against prefilling the image again, and against a warm answer that differs from a cold one."""
    view = model.look(scenes[0])
    for at, question in enumerate((QUESTION, "is there a forest?", QUESTION)):
        answer = view.ask(question, max_tokens=16)
        assert answer.text == cold(fabricated.path, scenes[0], question, max_tokens=16)
        assert answer.tokens["reused"] == (fabricated.shape.image_tokens + 1 if at else 0)


def test_views_take_turns(fabricated: Fabricated, model: Model, scenes: list[Scene]) -> None:
    """Guards against answering about the image that was asked about last."""
    views = [model.look(scene) for scene in scenes]
    expected = [cold(fabricated.path, scene, max_tokens=10) for scene in scenes]
    assert len(set(expected)) == 3
    for turn in range(3):
        for view, text in zip(views, expected, strict=True):
            answer = view.ask(QUESTION, max_tokens=10)
            assert answer.text == text
            assert bool(answer.tokens["reused"]) == bool(turn)


def test_reuse_goes_by_pixels(model: Model, scenes: list[Scene], tmp_path: Path) -> None:
    """Guards against a cache keyed by path, which answers about the old content of a file."""
    first = model.look(scenes[0]).ask(QUESTION, max_tokens=8)
    same = model.look(replace(scenes[0], path="/elsewhere.tif")).ask(QUESTION, max_tokens=8)
    assert same.tokens["reused"] > 0
    assert same.text == first.text
    assert same.image == "/elsewhere.tif"
    other = scenes[0].rgb.copy()
    other[0, 0, 0] ^= 255
    assert model.look(scene_from_array(other)).ask(QUESTION, max_tokens=8).tokens["reused"] == 0


def test_prefix_survives_a_larger_cache(fabricated: Fabricated, model: Model, scenes: list[Scene]) -> None:
    """Guards against losing, or corrupting, the image prefix when a longer answer needs a new buffer."""
    view = model.look(scenes[0])
    view.ask(QUESTION, max_tokens=4)
    assert model._decoder is not None
    small_capacity = model._decoder.cache.capacity
    answer = view.ask(QUESTION, max_tokens=90)
    assert model._decoder.cache.capacity > small_capacity
    assert answer.tokens["reused"] > 0
    assert answer.text == cold(fabricated.path, scenes[0], max_tokens=90)


def test_pair_is_one_prompt_in_order(model: Model, scenes: list[Scene]) -> None:
    """Guards against a pair of which one image is left out, or both are the same, or the order does not matter."""
    before, after = model.compare(scenes[0], scenes[1]), model.compare(scenes[1], scenes[0])
    texts = {view.ask("what changed?", max_tokens=16).text for view in (before, after, model.look(scenes[0]))}
    assert len(texts) == 3
    assert before.ask("what changed?", max_tokens=2).tokens["prompt"] > 2 * before.scenes[0].rgb.shape[0] // 4


def test_pair_is_prefilled_once(fabricated: Fabricated, model: Model, scenes: list[Scene]) -> None:
    """Guards against a pair that is prefilled again for each question, or taken for its images or for its mirror."""
    pair, mirror, single = (
        model.compare(scenes[0], scenes[1]),
        model.compare(scenes[1], scenes[0]),
        model.look(scenes[0]),
    )
    cold = load(fabricated.path).compare(scenes[0], scenes[1]).ask("what changed?", max_tokens=16)
    for turn in range(2):
        for view, images in ((pair, 2), (mirror, 2), (single, 1)):
            answer = view.ask("what changed?", max_tokens=16)
            prefix = images * fabricated.shape.image_tokens + 1  # the template's opening
            assert answer.tokens["reused"] == (prefix if turn else 0)
            if view is pair:
                assert (answer.text, answer.confidence) == (cold.text, cold.confidence)


def test_pair_in_json(model: Model, scenes: list[Scene]) -> None:
    """Guards against a record that names one image of two, or names them in another order."""
    before, after = (replace(scene, path=f"/{name}.tif") for scene, name in zip(scenes, "ba", strict=False))
    record = json.loads(json.dumps(model.compare(before, after).ask("what changed?", max_tokens=2).to_dict()))
    assert record["image"] == ["/b.tif", "/a.tif"]
    nameless = model.compare(before, scenes[1]).ask("what changed?", max_tokens=2)
    assert nameless.image is None


def test_pair_for_a_model_of_single_images(fabricate: Callable[..., Fabricated], scenes: list[Scene]) -> None:
    """Guards against asking a model what it was never trained on."""
    single = load(fabricate(small(max_images=1)).path)
    with pytest.raises(PromptError, match="one image at a time"):
        single.compare(scenes[0], scenes[1])


def test_stream_adds_up_to_the_answer(model: Model, scenes: list[Scene]) -> None:
    """Guards against pieces that differ from the text, or a stream without its end."""
    view = model.look(scenes[0])
    *pieces, last = view.stream(QUESTION, max_tokens=20)
    assert isinstance(last, Finished)
    assert all(isinstance(piece, TextEvent) and piece.text for piece in pieces)
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextEvent)) == last.answer.text
    assert last.answer.text == view.ask(QUESTION, max_tokens=20).text == str(last.answer)


def test_abandoned_stream_leaves_no_trace(model: Model, scenes: list[Scene]) -> None:
    """Guards against a lock or half an answer left behind by a caller who stops listening."""
    view = model.look(scenes[0])
    expected = view.ask(QUESTION, max_tokens=20).text
    events = view.stream(QUESTION, max_tokens=20)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert view.ask(QUESTION, max_tokens=20).text == expected
    next(iter(view.stream(QUESTION, max_tokens=20)))  # garbage-collected at once
    assert view.ask(QUESTION, max_tokens=20).text == expected
    view.stream(QUESTION)  # never begun
    assert view.ask(QUESTION, max_tokens=20).text == expected


def test_failure_between_prompt_and_answer_leaves_no_trace(
    model: Model, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against an interrupt just behind the prefill, after which the next answer would hear two questions."""
    view = model.look(scenes[0])
    expected = view.ask(QUESTION, max_tokens=10).text

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_module, "decode_tokens", interrupted)
        with pytest.raises(KeyboardInterrupt):
            view.ask("is there a forest?", max_tokens=10)
    assert view.ask(QUESTION, max_tokens=10).text == expected


def test_finish_reasons(fabricate: Callable[..., Fabricated], model: Model, scenes: list[Scene]) -> None:
    """Guards against calling a cut answer complete, or the other way round."""
    view = model.look(scenes[0])
    cut = view.ask(QUESTION, max_tokens=6)
    assert (cut.finish_reason, cut.tokens["generated"]) == ("length", 6)
    word = next(piece for piece in cut.text.split() if piece.isascii())
    stopped = view.ask(QUESTION, max_tokens=20, stop=word)
    assert stopped.finish_reason == "stop"
    assert word not in stopped.text
    # Make the third token of this answer an end token, and it ends there.
    third = [e.token for e in view.stream(QUESTION, max_tokens=12) if isinstance(e, TextEvent)][2]
    ending = load(fabricate(Shape(), eos=(1, third)).path).look(scenes[0])
    ended = ending.ask(QUESTION, max_tokens=20)
    assert ended.finish_reason == "stop"
    assert ended.tokens["generated"] < 12
    assert cut.text.startswith(ended.text)


def test_choices(model: Model, scenes: list[Scene]) -> None:
    """Guards against an answer outside the closed set, or in other words than it was given in."""
    view = model.look(scenes[0])
    for choices in (["forest", "forest edge", "Harbour"], ["船舶"], ["forest"]):
        *pieces, last = view.stream(QUESTION, choices=choices)
        assert isinstance(last, Finished)
        assert last.answer.text in choices
        assert [piece.text for piece in pieces if isinstance(piece, TextEvent)] == [last.answer.text]
        assert last.answer.finish_reason == "stop"
        assert 0 < last.answer.confidence < 1
    assert view.ask("is there a forest?", yes_no=True).text in ("yes", "no")
    texts = {view.ask("which?", choices=["yes", "no"], temperature=50, seed=seed).text for seed in range(12)}
    assert texts == {"yes", "no"}


def test_number(model: Model, scenes: list[Scene]) -> None:
    """Guards against a count in words, or of more than three digits."""
    view = model.look(scenes[0])
    texts = {view.ask("how many?", number=True, temperature=50, seed=seed).text for seed in range(8)}
    assert len(texts) > 1
    assert all(str(int(text)) == text and 0 <= int(text) < 1000 for text in texts)


@pytest.mark.parametrize("points", [True, *KINDS])
def test_points(model: Model, scenes: list[Scene], points: Any) -> None:
    """Guards against a location answer that is none, of another kind, or of too many regions, over a real decoder."""
    view = model.look(scenes[0])
    for seed, most in enumerate((None, 1, 2)):
        options = {"points": points, "max_regions": most, "temperature": 20, "seed": seed}
        *pieces, last = view.stream("where?", max_tokens=60, **options)
        assert isinstance(last, Finished)
        answer = last.answer
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextEvent)) == answer.text
        assert answer.points or answer.text == "none"
        assert {region.kind for region in answer.points} <= set(KINDS if points is True else [points])
        assert len(answer.points) <= (most or 60)
        assert json.loads(json.dumps(answer.to_dict()))["text"] == format_regions(answer.points)


def test_location_that_nobody_asked_for_is_whole(
    model: Model, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against half a place, where the model opens with a tag by itself and the budget ends too early."""
    view = model.look(scenes[0])
    free = view.ask(QUESTION, max_tokens=40)

    def opening_with_a_box(row: np.ndarray) -> int:
        box = model.bundle.lexicon.tags[KINDS.index("box")]
        return box if next(turns) == 0 else int(row.argmax())

    monkeypatch.setattr(request_module, "make_sampler", lambda **_: opening_with_a_box)
    for max_tokens in (18, 25, 40):
        turns = itertools.count()
        answer = view.ask(QUESTION, max_tokens=max_tokens)
        assert answer.points[0].kind == "box"
        assert answer.text == format_regions(answer.points)
        assert answer.tokens["generated"] <= max_tokens
    turns = itertools.count()
    with pytest.raises(PointsError, match="raise max_tokens"):
        _ = view.ask(QUESTION, max_tokens=5).points
    monkeypatch.undo()
    assert view.ask(QUESTION, max_tokens=40).text == free.text


def test_budget_follows_the_room(model: Model, scenes: list[Scene]) -> None:
    """Guards against a default that does not fit a small model, and against a cache planned for more than can come."""
    view = model.look(scenes[0])
    view.ask("where?", points="point", max_regions=1)
    assert model._decoder is not None
    assert model._decoder.cache.capacity == 64
    answer = view.ask(QUESTION)
    assert answer.tokens["prompt"] + answer.tokens["generated"] <= model.max_capacity
    assert model._decoder.cache.capacity == model.max_capacity


def test_sampling_is_repeatable(model: Model, scenes: list[Scene]) -> None:
    """Guards against a seed that is ignored."""
    view = model.look(scenes[0])
    texts = [view.ask(QUESTION, max_tokens=12, temperature=2, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("prompt", "options", "kind"),
    [
        ("", {}, PromptError),
        ("  \n", {}, PromptError),
        ("what is <image> here", {}, PromptError),
        ("forest " * 200, {}, PromptError),
        (QUESTION, {"max_tokens": 0}, ConstraintError),
        (QUESTION, {"max_tokens": 1000}, CacheFullError),
        (QUESTION, {"choices": []}, ConstraintError),
        (QUESTION, {"choices": ["a"], "yes_no": True}, ConstraintError),
        (QUESTION, {"choices": ["a"], "stop": "b"}, ConstraintError),
        (QUESTION, {"number": True, "yes_no": True}, ConstraintError),
        (QUESTION, {"points": True, "choices": ["a"]}, ConstraintError),
        (QUESTION, {"points": "box", "stop": "b"}, ConstraintError),
        (QUESTION, {"points": "circle"}, ConstraintError),
        (QUESTION, {"points": "box", "max_tokens": 5}, ConstraintError),
        (QUESTION, {"points": "box", "max_regions": 0}, ConstraintError),
        (QUESTION, {"max_regions": 2}, ConstraintError),
        (QUESTION, {"temperature": -1}, ConstraintError),
        (QUESTION, {"stop": [""]}, ConstraintError),
    ],
)
def test_bad_requests_are_refused_at_once(
    model: Model, scenes: list[Scene], prompt: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    """Guards against an error that comes only when the stream is read, and against options that are ignored."""
    view = model.look(scenes[0])
    with pytest.raises(kind):
        view.stream(prompt, **options)
    assert view.ask(QUESTION, max_tokens=2)


def test_a_model_does_one_thing_at_a_time(model: Model, scenes: list[Scene]) -> None:
    """Guards against two threads writing into one cache: the second call is told so, and the first is unharmed."""
    view = model.look(scenes[0])
    expected = view.ask(QUESTION, max_tokens=20).text
    events = view.stream(QUESTION, max_tokens=20)
    pieces = [next(events)]
    caught: list[Exception] = []

    def intrude() -> None:
        for call in (lambda: view.ask(QUESTION), lambda: model.look(scenes[1])):
            try:
                call()
            except BusyError as error:
                caught.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(caught) == 2
    pieces += list(events)
    last = pieces[-1]
    assert isinstance(last, Finished)
    assert last.answer.text == expected
    assert view.ask(QUESTION, max_tokens=20).text == expected


def test_json_record(model: Model, scenes: list[Scene]) -> None:
    """Guards against a record that JSON cannot hold, or whose keys drift from the documented ones."""
    answer = model.look(scenes[0]).ask(QUESTION, max_tokens=4)
    record = json.loads(json.dumps(answer.to_dict()))
    assert list(record) == [
        *("image", "prompt", "text", "points", "places", "value", "unit", "confidence", "finish_reason"),
        *("tokens", "timings_ms", "model", "unfamiliar", "strangeness", "scene"),
    ]
    assert list(record["timings_ms"]) == ["load", "read", "vision", "prefill", "decode"]
    assert all(value > 0 for value in record["timings_ms"].values())
    assert record["model"] == {"id": model.id, "precision": "fp32", "provider": "cpu"}
    assert record["image"] is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_file_is_read(model: Model, tmp_path: Path) -> None:
    """Guards against a path that is not passed on, to the reader or to the answer."""
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "scene.png"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 24), dtype=np.uint8)
    with rasterio.open(path, "w", driver="PNG", width=24, height=20, count=3, dtype="uint8") as file:
        file.write(pixels)
    view = model.look(path)
    np.testing.assert_array_equal(view.scenes[0].rgb, pixels.transpose(1, 2, 0))
    assert view.hashes == (scene_hash(view.scenes[0]),)
    assert view.ask(QUESTION, max_tokens=2).image == str(path)
    assert model.compare(path, path).ask(QUESTION, max_tokens=2).image == (str(path), str(path))
    assert view.notes == view.scenes[0].notes
    with pytest.raises(SceneError, match="bands are chosen when a file is read"):
        model.look(view.scenes[0], bands=["red"])


def test_memory_limit_is_refused_early_and_bounds_the_cache(
    fabricated: Fabricated, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a limit that is hit late, or that the cache outgrows."""
    sessions: list[object] = []
    monkeypatch.setattr(model_module, "create_backend", lambda *a: sessions.append(a))
    with pytest.raises(MemoryLimitError, match="are allowed"):
        load(fabricated.path, max_memory="1MB")
    assert not sessions
    monkeypatch.undo()
    plan = model_module.plan_memory(load(fabricated.path).bundle.manifest, prefixes=model_module._PREFIX_BYTES)
    limit = plan.weights + plan.workspace + plan.images + plan.prefixes + plan.cache(100)
    limited = load(fabricated.path, max_memory=limit)
    assert limited.max_capacity == 100
    view = limited.look(scenes[0])
    assert view.ask(QUESTION, max_tokens=60).tokens["generated"] == 60
    with pytest.raises(CacheFullError):
        view.ask(QUESTION, max_tokens=90)


def test_bundle_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards against a traceback when the shipped bundle was not installed."""
    monkeypatch.setattr(model_module, "SHIPPED", tmp_path / "none")
    with pytest.raises(BundleNotFoundError, match="none"):
        gmrt.load()


def test_template_that_fails(altered: Path, scenes: list[Scene]) -> None:
    """Guards against a foreign template's own exceptions, and a template that loses the image or the answer."""
    for source, words in (
        ("{{ 1 / 0 }}", "rendering failed"),
        ("{{ ''.__class__.__mro__ }}<image>x", "rendering failed"),
        ("<user>", "placed 0 images"),
        ("<image><image>x", "placed 2 images"),
        ("x<image>", "nothing behind the image"),
    ):
        (altered / "chat_template.jinja").write_text(source)
        reseal(altered)
        view = load(altered).look(scenes[0])
        with pytest.raises(ValueError, match=words):
            view.ask(QUESTION)


def test_words_before_the_image_are_part_of_the_prefix(altered: Path, scenes: list[Scene]) -> None:
    """Guards against reusing a prefix that holds another question, where a template puts the question first."""
    source = "<user>{{ messages[0].content[-1].text }}<image><assistant>"
    (altered / "chat_template.jinja").write_text(source)
    reseal(altered)
    view = load(altered).look(scenes[0])
    first, second, again = (view.ask(q, max_tokens=8) for q in ("forest?", "harbour?", "forest?"))
    assert first.text == again.text
    assert (first.tokens["reused"], second.tokens["reused"]) == (0, 0)
    assert again.tokens["reused"] > 0


def test_view_is_what_look_returns(model: Model, scenes: list[Scene]) -> None:
    """Guards against embeddings of another size than the prompt has places for."""
    view = model.look(scenes[0])
    assert isinstance(view, View)
    assert view.encoded.embeds.shape == (1, model.bundle.manifest.image.tokens, model.bundle.manifest.hidden_size)
    assert model.notes == ()
    assert (model.name, model.precision, model.provider) == ("fabricated", "fp32", "cpu")
