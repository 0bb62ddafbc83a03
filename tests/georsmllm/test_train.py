"""Recipes, data and the training loop, on a fabricated set and an untrained tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
import yaml
from rasterio.io import MemoryFile
from safetensors.torch import load_file

from gmrt.georsmllm import train
from gmrt.georsmllm.data import DatasetError, Example, Question, class_words, read_parquet
from gmrt.georsmllm.features import augment, cache_features, turned
from gmrt.georsmllm.lite import EfficientNetLite
from gmrt.runtime.errors import GmrtError


def png(seed: int) -> bytes:
    """A small noisy picture of one of two colours."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 80, (3, 48, 48), dtype=np.uint8)
    rgb[seed % 2] += 150
    with MemoryFile() as memory:
        with rasterio.Env(), memory.open(driver="PNG", width=48, height=48, count=3, dtype="uint8") as out:
            out.write(rgb)
        return bytes(memory.read())


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Six labelled pictures in the Hugging Face image convention."""
    rows: list[dict[str, Any]] = [
        {
            "image": {"bytes": png(i), "path": f"{i}.png"},
            "class": ["forest", "storagetanks"][i % 2],
            "captions": [f"a {word} scene with number {i}" for word in ("red", "plain", "small")],
            "qa": [{"question": "How many cars in the picture?", "answer": "two"}],
        }
        for i in range(6)
    ]
    path = tmp_path / "set.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def lite_weights(path: Path) -> Path:
    """Random tower weights in the published layout."""
    torch.manual_seed(0)
    tower = EfficientNetLite()
    back = {"expand.conv": "_expand_conv", "depthwise.conv": "_depthwise_conv", "project.conv": "_project_conv"}
    back |= {"expand.norm": "_bn0", "depthwise.norm": "_bn1", "project.norm": "_bn2"}
    top = {"stem.conv": "_conv_stem", "stem.norm": "_bn0", "head.conv": "_conv_head", "head.norm": "_bn1"}
    state = {}
    for name, value in tower.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            state[f"_blocks.{parts[1]}.{back['.'.join(parts[2:4])]}.{parts[4]}"] = value
        else:
            state[f"{top['.'.join(parts[:2])]}.{parts[2]}"] = value
    torch.save(state, path)
    return path


def recipe(tmp_path: Path, parquet: Path, output: str, **changes: Any) -> Path:
    """A recipe small enough for a test."""
    fields = {
        "output": str(tmp_path / output),
        "train": [str(parquet)],
        "tower_weights": str(lite_weights(tmp_path / "lite.pth")),
        "views": 2,
        "passes": 2,
        "batch": 3,
        **changes,
    }
    path = tmp_path / f"{output}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.mark.slow
def test_an_interrupted_training_resumes_to_the_same_weights(
    tmp_path: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a resumed run that draws other questions or another order than the uninterrupted one."""
    monkeypatch.setattr(train, "SAVE_STEPS", 2)
    whole = train.main(recipe(tmp_path, parquet, "whole"))

    class Stopped(Exception):  # noqa: N818
        """Stands for a power cut."""

    original, calls = train.PackedQuestions.__getitem__, []

    def stop_half_way(self: train.PackedQuestions, item: int) -> Any:
        calls.append(item)
        if len(calls) > 9:
            raise Stopped
        return original(self, item)

    path = recipe(tmp_path, parquet, "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(train.PackedQuestions, "__getitem__", stop_half_way)
        with pytest.raises(Stopped):
            train.main(path)
    resumed = train.main(path)
    a, b = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 0}, "passes must be a whole number"),
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"tower_weights": "nowhere.pth"}, "no file at nowhere.pth"),
        ({"train": ["nowhere.parquet"]}, "no file at nowhere.parquet"),
        ({"learningrate": 1}, "unknown field 'learningrate'"),
    ],
)
def test_an_impossible_recipe_is_refused_before_the_first_step(
    tmp_path: Path, parquet: Path, changes: dict[str, Any], message: str
) -> None:
    """Guards against a typing error found out after the features have been computed."""
    with pytest.raises(GmrtError, match=message):
        train.read_recipe(recipe(tmp_path, parquet, "bad", **changes))
    assert not (tmp_path / "bad").exists()


def test_directional_answers_are_asked_of_upright_views_only() -> None:
    """Guards against teaching that a mirrored image's car is still on the left."""
    placed = [("Where is it?", "upper left"), ("locate the cars", "<box> 1 2 3 4"), ("is it the topmost?", "yes")]
    questions = tuple(Question(text, answer, "qa") for text, answer in [*placed, ("How many?", "two")])
    example = Example("a", b"", questions=questions)
    rng = np.random.default_rng(0)
    turned_turns = train.draw_turns(example, [], {"qa": 9}, rng, upright=False)
    assert turned_turns == [("How many?", "two")]
    assert len(train.draw_turns(example, [], {"qa": 9}, rng, upright=True)) == 4


def test_views_are_the_eight_symmetries_and_the_first_is_the_image() -> None:
    """Guards against an augmentation that changes the canonical view, or two views that are the same turn."""
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(augment(rgb, 0, np.random.default_rng(0)), rgb)
    assert len({turned(rgb, turn).tobytes() for turn in range(8)}) == 8


def test_cached_features_are_reused_only_for_the_same_inputs(parquet: Path, tmp_path: Path) -> None:
    """Guards against features of an older tower or set taken for the new one's."""
    examples = read_parquet(parquet)
    torch.manual_seed(0)
    tower = EfficientNetLite().eval()
    from gmrt.georsmllm.config import EfficientNetLiteConfig, GeoRSMLLMConfig

    text = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    spec = GeoRSMLLMConfig(vision_config=EfficientNetLiteConfig(image_size=64), text_config=text).image_spec
    first = cache_features(tmp_path / "f.npy", tower, examples, spec, views=2, seed=0)
    assert first.shape == (6, 2, 4, 1280)
    stamp = (tmp_path / "f.npy").stat().st_mtime_ns
    cache_features(tmp_path / "f.npy", tower, examples, spec, views=2, seed=0)
    assert (tmp_path / "f.npy").stat().st_mtime_ns == stamp
    cache_features(tmp_path / "f.npy", tower, examples[:5], spec, views=2, seed=0)
    assert (tmp_path / "f.npy").stat().st_mtime_ns != stamp


def test_unusable_datasets_are_refused_in_one_sentence(tmp_path: Path) -> None:
    """Guards against pyarrow's traceback reaching a user."""
    text = tmp_path / "text.parquet"
    text.write_text("not parquet")
    columns = tmp_path / "columns.parquet"
    pq.write_table(pa.table({"a": [1]}), columns)
    for path, message in (
        (text, "not a readable parquet"),
        (columns, "no 'image' column"),
        (tmp_path / "no", "no dataset"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_parquet(path)


def test_class_names_become_words() -> None:
    """Guards against a model that is taught folder names."""
    assert [class_words(n) for n in ("storagetanks", "SeaLake", "dense_residential")] == [
        "storage tanks",
        "sea lake",
        "dense residential",
    ]
