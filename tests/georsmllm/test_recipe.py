"""Recipes: every mistake in one is found before anything is computed, and said in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training import stage, write_recipe

from gmrt.georsmllm import train
from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.recipe import Lora, RecipeError, read_recipe
from gmrt.georsmllm.turns import BRANCHES

RECIPES = Path(train.__file__).parent / "recipes"


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    """Guards against a field that is dropped, and a default that is shared by mistake."""
    adapters = stage("adapt", train=["connector"], lora={"rank": 4}, learning_rate=0.01)
    recipe = read_recipe(write_recipe(tmp_path, "run", stage(), adapters))
    first, second = recipe.stages
    assert (first.train, first.branches, first.lora) == (("connector", "decoder"), dict(BRANCHES), None)
    assert (second.train, second.lora, second.learning_rate) == (("connector",), Lora(rank=4), 0.01)
    assert (recipe.views("land"), recipe.views("pairs"), recipe.generated("land")) == (2, 1, None)


def test_the_shipped_checkpoint_is_known_by_a_word(tmp_path: Path) -> None:
    """Guards against users who must look for the package's files."""
    start = Path(read_recipe(write_recipe(tmp_path, start="shipped")).start)
    assert (start / "config.json").is_file()


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_have_no_mistake_but_missing_data(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Guards against an example that no longer fits the code."""
    monkeypatch.setattr("gmrt.georsmllm.recipe.check_source", lambda _: None)
    monkeypatch.setattr("gmrt.georsmllm.recipe._check_generated", lambda *_: None)
    monkeypatch.setattr("gmrt.georsmllm.recipe.imagenet_file", lambda: tmp_path)
    monkeypatch.chdir(RECIPES.parent.parent)
    assert read_recipe(file).stages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learningrate": 1}, "unknown field 'learningrate'"),
        ({"output": ""}, "field 'output' is missing"),
        ({"stages": None}, "field 'stages' is missing"),
        ({"stages": {"name": "a"}}, "stages must be a list"),
        ({"sources": ["land"]}, "sources must be named fields"),
        ({"provenance": "mine"}, "provenance must be named fields"),
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": "1e3"}, "seed must be a whole number.*1.0e-3"),
        ({"connector_dropout": 1}, "connector_dropout in 0…1"),
        ({"tower_weights": "nowhere.pth"}, "no file at nowhere.pth"),
        ({"start": "nowhere"}, "start names nowhere, which is no checkpoint"),
        ({"sources": {"../land": {"path": "a"}}}, "name of a source has letters"),
        ({"sources": {"land": "land.parquet"}}, "must hold named fields"),
        ({"sources": {"land": {"path": "nowhere.parquet"}}}, "nothing at nowhere.parquet"),
        ({"sources": {"land": {"path": ".", "views": 0}}}, "views of the source 'land'"),
        ({"sources": {"land": {"path": ".", "weight": 2}}}, "stands in the stages"),
        ({"sources": {"land": {"generate": {"kind": "scene"}}}}, "kind is one of scenes, pairs, composed"),
        ({"sources": {"land": {"generate": {"count": 0}}}}, "count, size and gsd must be above 0"),
        ({"sources": {"land": {"generate": {"kind": "composed"}}}}, "needs backgrounds"),
        ({"sources": {"land": {"generate": {"numbers": 5}}}}, "unknown field 'numbers'"),
        ({"sources": {"land": {"generate": {"count": 5}, "images": "0:3"}}}, "'images' has no meaning"),
    ],
)
def test_an_impossible_recipe_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Guards against a typing error that is found out after the features have been computed, or after hours."""
    path = write_recipe(tmp_path, "bad", **changes)
    with pytest.raises(RecipeError, match=message) as caught:
        train.main(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "images must be above 0"),
        ({"images": 3}, "3 images do not fill one batch of 4"),
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"warm_up": 1}, "warm_up must be true or false"),
        ({"learning_rate": "1e-3"}, "write 1.0e-3"),
        ({"learning_rate": float("nan")}, "must be a finite number"),
        ({"warmup": 1}, "warmup is a share"),
        ({"weight_decay": -0.1}, "weight_decay and frozen are not below 0"),
        ({"name": "features"}, "names of other folders"),
        ({"name": "a/b"}, "name of a stage has letters"),
        ({"sources": ["land"]}, "sources must be named fields"),
        ({"sources": {"sea": 1}}, "no source 'sea'; there are land, pairs"),
        ({"sources": {"land": 0}}, "land must be drawn a number of times above 0"),
        ({"train": "decoder"}, "train must be a list"),
        ({"train": ["head"]}, "no part 'head'"),
        ({"train": []}, "nothing is trained"),
        ({"branches": {"captions": 3}}, "no branch 'captions'"),
        ({"branches": {"caption": 1.5}}, "branches of caption must be a whole number"),
        ({"branches": {"caption": 0}}, "branches ask nothing"),
        ({"warm_up": True}, "this model has siglip_vision_model"),
        ({"lora": True}, "lora must hold named fields"),
        ({"lora": {"rank": 4}}, "leave decoder out of train"),
        ({"train": ["connector"], "lora": {"rank": 0}}, "a rank of at least 1"),
        ({"train": ["connector"], "lora": {"dropout": 1.0}}, "a dropout in 0…1"),
    ],
)
def test_an_impossible_stage_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Guards against a stage that fails when the ones before it have run for hours."""
    path = write_recipe(tmp_path, "bad", stage("good"), stage(**{"name": "other", **changes}))
    with pytest.raises(RecipeError, match=message):
        train.main(path)
    assert not (tmp_path / "bad").exists()


def test_two_stages_of_one_name_are_refused(tmp_path: Path) -> None:
    """Guards against a second stage that finds the first one's result and is never run."""
    with pytest.raises(RecipeError, match="two stages have the same name"):
        read_recipe(write_recipe(tmp_path, "bad", stage(), stage()))


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not valid YAML"), ("", "must hold named fields"), ("- a", "must hold named fields")]
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """Guards against the parser's own message, which goes over several lines."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="no recipe at"):
        read_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branches": {"qa": 3}}, "source 'land': none of its images has anything to learn of what branches ask: qa"),
        ({"sources": {"land": 0.01}}, "draws none of the images of land"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_the_first_step(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Guards against a stage that fails at its first empty row, when the ones before it have run."""
    path = write_recipe(tmp_path, "bad", stage("good"), stage("other", **changes))
    with pytest.raises(DatasetError, match=message):
        train.main(path)
    assert not (tmp_path / "bad").exists()


def test_what_the_checkpoint_cannot_answer_is_refused_before_the_first_step(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """Guards against a measure without a head, which would end the training in the middle of a pass."""
    path = write_recipe(tmp_path, "bad", start=str(tiny_checkpoint))
    with pytest.raises(DatasetError, match="asks for the built-up fraction, which the model to start from does not"):
        train.main(path)
    with pytest.raises(RecipeError, match="start brings a tower along"):
        train.main(write_recipe(tmp_path, "bad", start=str(tiny_checkpoint), tower_weights="imagenet"))
