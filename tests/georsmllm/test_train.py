"""Stages on fabricated pictures and a tiny preset: what learns, what stays, what is kept, what is done once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from training import pair, scene, stage, write_recipe

from gmrt.georsmllm import language, train, trainer
from gmrt.georsmllm.data import Example
from gmrt.georsmllm.features import Features
from gmrt.georsmllm.language import PackedQuestions, collator, grouped
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import build
from gmrt.georsmllm.recipe import RecipeError, Stage
from gmrt.georsmllm.sources import Mixture

LAND = {"land": 1.0}
ADAPTERS = {"sources": LAND, "train": ["connector"], "lora": {"rank": 2, "dropout": 0.1}}
MEASURES = [{"name": "built-up fraction", "unit": "", "mean": 0.4, "std": 0.25}]


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """What a checkpoint or a stage's result holds."""
    return load_file(checkpoint / "model.safetensors")


def mixture(*parts: list[Example]) -> Mixture:
    """Sources of weight 1."""
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Mixture(tuple(one for part in parts for one in part), numbers, (1.0,) * len(parts))


def questions(mixed: Mixture, views: list[int] | None = None, **changes: Any) -> PackedQuestions:
    """The rows of a stage that takes in pixels."""
    model, processor = build("tiny-llama", measures=MEASURES)
    given = Stage("a", {}, **{"images": 64, "batch": 4, "train": ("tower", "decoder"), **changes})
    return PackedQuestions(mixed, views or [1] * len(mixed.examples), processor, given, [], model.config, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=200), st.integers(1, 9), st.integers(0, 99))
def test_grouping_loses_nothing(kinds: list[int], batch: int, seed: int) -> None:
    """Guards against images that are seen twice or never, because rows are put next to others of their kind."""
    order = np.random.default_rng(seed).permutation(len(kinds))
    result = grouped(order, np.array(kinds, np.int64), batch, np.random.default_rng(seed)) if kinds else order
    assert sorted(result.tolist()) == sorted(order.tolist())


def test_batches_are_mostly_of_one_kind() -> None:
    """Guards against grouping that shuffles its batches apart again."""
    kinds = np.random.default_rng(0).integers(0, 2, 128)
    order = grouped(np.arange(128), kinds, 8, np.random.default_rng(0))
    mixed = [len(set(kinds[batch].tolist())) > 1 for batch in order.reshape(-1, 8)]
    assert sum(mixed) <= 2


def test_a_row_depends_on_its_place_only() -> None:
    """Guards against a resumed run that sees other rows: items come in any order here, and once from a second set."""
    mixed = mixture([scene(i) for i in range(4)], [pair(9)])
    first, second = questions(mixed, [2] * 5), questions(mixed, [2] * 5)
    for item in (12, 3, 40, 7):
        a, b = first[item], second[item]
        assert a.row.ids.tolist() == b.row.ids.tolist()
        np.testing.assert_array_equal(a.images, b.images)
    assert len({first[item].row.ids.tobytes() for item in range(10)}) > 5


def test_an_image_without_an_answer_gives_its_place_away() -> None:
    """Guards against empty rows: of images about which a stage asks nothing, or what a turned view makes false."""
    silent = replace(scene(0), captions=(), scene_class="", requests=(), measures=())
    placed = replace(silent, captions=("a tank on the left",), name="placed")
    rows = questions(mixture([silent, placed], [silent, scene(1)]), [1, 2, 1, 1])
    for item in range(16):
        given_row = rows[item].row
        assert (given_row.labels >= 0).any()
    words = [rows.processor.backend.decode(rows[item].row.ids.tolist()) for item in range(16)]
    assert sum("left" in text for text in words) == 8


def test_pairs_and_single_images_share_a_batch() -> None:
    """Guards against images that end up behind the wrong prompt when rows take in one or two."""
    model, _ = build("tiny-llama", measures=MEASURES)
    mixed = mixture([scene(1)], [pair(2)])
    rows = questions(mixed)
    batch = collator(rows.processor, pixels=True)
    items = sorted((rows[0], rows[1]), key=lambda item: len(item.images))
    assert [len(item.images) for item in items] == [1, 2]
    together = model(**batch(items))
    apart = [model(**batch([item])) for item in items]
    torch.testing.assert_close(together.logits, torch.cat([out.logits for out in apart]), atol=2e-4, rtol=1e-3)
    swapped = replace(items[1], images=items[1].images[::-1].copy())
    assert not torch.allclose(model(**batch([swapped])).logits, apart[1].logits, atol=1e-3)


def test_features_and_pixels_are_the_same_batch() -> None:
    """Guards against cached features that belong to another image or view than the row's questions."""
    model, processor = build("tiny-llama", measures=MEASURES)
    mixed = mixture([scene(i) for i in range(2)], [pair(5), pair(6)])
    rows = questions(mixed)
    with torch.inference_mode():
        made = [model.tower(torch.from_numpy(rows[item].images)).numpy() for item in range(4)]
    # Of every source in the order of its examples, pairs with two rows.
    order = [int(rows.order(0)[item]) for item in range(4)]
    by_index = dict(zip(order, made, strict=True))
    parts = [
        Features(np.concatenate([by_index[0], by_index[1]]).astype(np.float16), ((0,), (1,)), (1, 1)),
        Features(np.concatenate([by_index[2], by_index[3]]).astype(np.float16), ((0,), (2,)), (2, 2)),
    ]
    cached = PackedQuestions(mixed, [1] * 4, processor, rows.stage, parts, model.config, 0)
    for item in range(4):
        a = model(**collator(processor, pixels=True)([rows[item]])).loss
        b = model(**collator(processor, pixels=False)([cached[item]])).loss
        torch.testing.assert_close(a, b, atol=5e-3, rtol=1e-3)


def test_numbers_come_with_batches_that_hold_coordinates() -> None:
    """Guards against spread targets without the tokens that they are spread over: the loss would be the plain one."""
    rows = questions(mixture([scene(1)]))
    batch = collator(rows.processor, pixels=True)([rows[0]])
    assert batch["spread"].any()
    assert batch["numbers"].shape == (1000,)
    captions = questions(mixture([scene(1)]), branches={"caption": 2})
    assert not {"spread", "numbers"} & set(collator(captions.processor, pixels=True)([captions[0]]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe of three stages that has been run, and its checkpoint: connector alone, adapters, tower and all."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_recipe(
        folder,
        "run",
        stage("align", train=["connector"], sources=LAND, learning_rate=0.01),
        stage("adapt", **ADAPTERS),
        stage("all", train=["tower", "connector", "decoder"], images=8),
        provenance={"data": "noise"},
    )
    return path, train.main(path)


def test_a_training_leaves_a_checkpoint_and_its_curves(finished: tuple[Path, Path]) -> None:
    """Guards against a run that ends without what export, evaluation and its reader need."""
    _, checkpoint = finished
    model = GeoRSMLLMForConditionalGeneration.from_pretrained(checkpoint)
    assert model.config.measures[0]["name"] == "built-up fraction"
    assert json.loads((checkpoint / "provenance.json").read_text()) == {"data": "noise"}
    for name, steps in (("align", 4), ("adapt", 4), ("all", 2)):
        points = json.loads((checkpoint.parent / name / "curves.json").read_text())
        assert [point["step"] for point in points] == list(range(1, steps + 1))
        assert all(np.isfinite(point["loss"]) for point in points)
        assert (checkpoint.parent / name / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(checkpoint.parent.rglob("*.partial"))


def test_a_stage_trains_what_it_names_and_nothing_else(finished: tuple[Path, Path]) -> None:
    """Guards against a frozen part that drifts, and against adapters that are lost or change what they should not."""
    run = finished[1].parent
    align, adapt, last = (weights(run / name) for name in ("align", "adapt", "all"))

    def changed(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> set[str]:
        return {name for name in before if name.startswith(part) and not torch.equal(before[name], after[name])}

    assert align.keys() == adapt.keys() == last.keys()
    assert not changed(align, adapt, "tower")
    moved = changed(align, adapt, "decoder")
    assert moved == {name for name in align if name.startswith("decoder") and "_proj" in name}
    assert changed(align, adapt, "connector")
    assert changed(align, adapt, "regression")
    assert changed(adapt, last, "tower")


def test_adapters_leave_the_names_of_an_unadapted_checkpoint(finished: tuple[Path, Path]) -> None:
    """Guards against a checkpoint with adapters in it, which the exporter would not know."""
    model, _ = build("tiny-llama", measures=MEASURES)
    names = {name for name in weights(finished[1]) if name != "decoder.lm_head.weight"}
    assert names == {name for name in model.state_dict() if name != "decoder.lm_head.weight"}


def test_what_is_done_is_not_done_again(finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against hours of training that a second call of the command begins anew."""
    path, checkpoint = finished
    before = weights(checkpoint)

    def begun(*given: Any) -> None:
        raise AssertionError("a stage is run again")

    monkeypatch.setattr(train, "run", begun)
    monkeypatch.setattr(language, "cache_features", begun)
    after = weights(train.main(path))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_result_of_another_model_is_refused(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against a traceback when the preset of a recipe is changed and its folder stays."""
    _, checkpoint = finished
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "align").symlink_to(checkpoint.parent / "align")
    other = write_recipe(tmp_path, "run", stage("align", sources=LAND), preset="tiny-qwen2")
    with pytest.raises(RecipeError, match="is of another model: remove the folder"):
        train.main(other)


def test_a_training_goes_on_from_a_checkpoint(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against a start that is read and then built anew."""
    path = write_recipe(
        tmp_path, "more", stage(images=4, learning_rate=1e-9, sources=LAND), start=str(finished[1]), preset="nano"
    )
    before, after = weights(finished[1]), weights(train.main(path))
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)


def test_the_regression_head_learns(tmp_path: Path) -> None:
    """Guards against a loss that never reaches the head: from the recipe to its weights."""
    only = {"sources": LAND, "branches": {"measure": 1}, "images": 8}  # the first step of a warm-up stands still
    path = write_recipe(tmp_path, "run", stage("measure", **only, learning_rate=1e-2))
    moved = weights(train.main(path).parent / "measure")["regression.weight"]
    recipe = train.read_recipe(path)
    start = train.build(recipe, [one for name in recipe.sources for one in train.read_named(recipe, name)])[0]
    assert start.regression is not None
    assert not torch.allclose(moved, start.regression.weight)


def stopped(recipe: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run a recipe until a power cut after some rows."""

    class Cut(Exception):  # noqa: N818
        """Stands for a power cut."""

    original, calls = PackedQuestions.__getitem__, []

    def until(self: PackedQuestions, item: int) -> Any:
        calls.append(item)
        if len(calls) > after:
            raise Cut
        return original(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(PackedQuestions, "__getitem__", until)
        with pytest.raises(Cut):
            train.main(recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"train": ["tower", "connector", "decoder"]}, ADAPTERS],
    ids=["features", "pixels", "adapters"],
)
def test_a_cut_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Guards against a resumed run that draws other rows, loses the optimiser, or forgets what it had learnt."""
    monkeypatch.setattr(trainer, "SAVE_STEPS", 2)
    whole = train.main(write_recipe(tmp_path, "whole", stage(**changes)))
    path = write_recipe(tmp_path, "stopped", stage(**changes))
    stopped(path, monkeypatch, after=12)
    assert (tmp_path / "stopped" / "instruct" / "steps" / "checkpoint-2").is_dir()
    a, b = weights(whole), weights(train.main(path))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_command_prints_where_the_checkpoint_is(
    finished: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a result that has to be looked for, and against logs on stdout."""
    from gmrt.cli import main

    assert main(["train", str(finished[0])]) == 0
    assert capfd.readouterr().out.strip() == str(finished[1])
    assert main(["train", "nowhere.yaml"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no recipe at nowhere.yaml" in err


# TensorBoard is the user's to install: where it is, events are written (docs/training.md).
def test_events_are_written_for_tensorboard(finished: tuple[Path, Path]) -> None:
    """Guards against curves that TensorBoard does not find."""
    assert list((finished[1].parent / "align").rglob("events.out.tfevents.*"))


def test_one_process_goes_first_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against processes that wait for ever when the one that makes the features fails."""
    said: list[str] = []

    class State:
        """One process of two."""

        def __init__(self, main: bool) -> None:
            self.is_main_process = main

        def wait_for_everyone(self) -> None:
            """Note it."""
            said.append("wait")

    def of(main: bool) -> Callable[[], State]:
        return lambda: State(main)

    monkeypatch.setattr(trainer, "processes", of(True))

    def fail() -> None:
        with trainer.one_first():
            said.append("work")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    monkeypatch.setattr(trainer, "processes", of(False))
    with trainer.one_first():
        said.append("work")
    assert said == ["work", "wait", "wait", "work"]
