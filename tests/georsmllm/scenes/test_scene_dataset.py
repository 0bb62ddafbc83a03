"""Sets of generated scenes on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.scenes import STYLES_TEST, dataset
from gmrt.georsmllm.scenes.dataset import SceneSet, read_set, write_examples, write_set
from gmrt.georsmllm.tasks import Measure, Request
from gmrt.runtime.points import NONE, parse_regions
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import decode_image


@pytest.fixture
def backgrounds(tmp_path: Path) -> Path:
    """Two plain pictures: one of a class that can carry objects, one of a class that cannot."""
    green = np.full((96, 96, 3), (90, 120, 80), np.uint8)
    rows = [{"image": {"bytes": encode_png(green), "path": None}, "class": name} for name in ("forest", "harbor")]
    path = tmp_path / "backgrounds.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["scenes", "pairs", "composed"])
def test_a_set_holds_what_was_generated(tmp_path: Path, backgrounds: Path, kind: Any) -> None:
    """Guards against labels that lose something on disk, lost second images, and sets that differ between two runs."""
    chosen = SceneSet(kind=kind, count=4, size=96, backgrounds=str(backgrounds))
    path = write_set(tmp_path / "set.parquet", chosen, processes=1)
    examples = read_set(path)
    assert len(examples) == 4
    assert all((example.after is not None) == (kind == "pairs") for example in examples)
    assert all(decode_image(example.image).rgb.shape == (96, 96, 3) for example in examples)
    assert any(example.requests for example in examples)
    for example in examples:
        for request in example.requests:
            assert request.task in ("caption", "class", "qa") or parse_regions(request.answer) or request.answer == NONE
    assert write_set(tmp_path / "again.parquet", chosen, processes=1).read_bytes() == path.read_bytes()


def test_the_splits_share_no_style(tmp_path: Path) -> None:
    """Guards against a test set in the styles of training, which would flatter every score."""
    path = write_set(tmp_path / "set.parquet", SceneSet(split="test", count=3, size=64), processes=1)
    styles = set(pq.read_table(path).column("style").to_pylist())
    assert styles <= {style.name for style in STYLES_TEST}


def test_examples_come_back_as_they_were(tmp_path: Path) -> None:
    """Guards against a field of the labels that JSON turns into something else."""
    thing = SceneObject("car", ((0.1, 0.2), (0.3, 0.2), (0.3, 0.4)), "poly", {"colour": "red"})
    labels = SceneLabels(
        "harbor", ("a car",), (thing,), frozenset({"car", "ship"}), {"water": 0.5}, {"mean height": 2.0}
    )
    example = Example(
        "one",
        encode_png(np.zeros((8, 8, 3), np.uint8)),
        "harbor",
        ("a car",),
        requests=(Request("qa", "count", ("how many cars?", "count the cars"), "1"),),
        measures=(Measure("what is the mean height?", "mean height", 2.0),),
        labels=labels,
    )
    pair = replace(example, name="two", after=example.image)
    assert read_set(write_examples(tmp_path / "set.parquet", [example, pair])) == [example, pair]


def test_a_set_that_cannot_be_made_is_refused_before_it_is_begun(tmp_path: Path, backgrounds: Path) -> None:
    """Guards against an unknown kind, missing backgrounds, and backgrounds that can carry nothing."""
    for chosen, message in (
        (SceneSet(kind="films"), "scenes, pairs, composed"),  # type: ignore[arg-type]
        (SceneSet(kind="composed", backgrounds="nowhere.parquet"), "nowhere"),
        (SceneSet(count=0), "count=0"),
    ):
        with pytest.raises(DatasetError, match=message):
            write_set(tmp_path / "set.parquet", chosen, processes=1)
    harbours = pq.read_table(backgrounds).slice(1)
    pq.write_table(harbours, tmp_path / "harbours.parquet")
    with pytest.raises(DatasetError, match="no image of the classes"):
        dataset._rows(SceneSet(kind="composed", backgrounds=str(tmp_path / "harbours.parquet")), 0)
    assert not (tmp_path / "set.parquet").exists()
