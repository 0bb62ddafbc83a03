"""Sources of data: what a recipe or a command line names, read into examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.scenes.dataset import write_examples
from gmrt.georsmllm.sources import Mixture, Source, Tiles, check_source, read_source, read_sources
from gmrt.runtime.points import has_regions
from gmrt.runtime.raster import encode_png

PICTURE = encode_png(np.zeros((30, 40, 3), np.uint8))
CARS: list[dict[str, Any]] = [
    {
        "objects": [
            {"label": "car", "bbox": [2.0, 2.0, 8.0, 6.0]},
            {"label": "car", "bbox": [20.0, 20.0, 28.0, 26.0]},
            {"label": "othervehicle", "bbox": [30.0, 5.0, 36.0, 12.0]},
        ]
    },
    {"objects": [{"label": "person", "bbox": [10.0, 10.0, 14.0, 16.0]}]},
    {"objects": []},
]


def test_a_path_is_a_source(parquet: Callable[..., Path]) -> None:
    """Guards against classes, captions or questions lost on the way from the file."""
    row = {"class": "storagetanks", "captions": ["a tank"], "qa": [{"question": "How many?", "answer": "two"}]}
    path = parquet("ucm", [row])
    for spec in (path, str(path), {"path": str(path)}):
        (example,) = read_source(spec)
        assert (example.scene_class, example.captions, len(example.questions)) == ("storage tanks", ("a tank",), 1)
        assert (example.requests, example.labels) == ((), None)


def test_requests_are_made_of_objects(parquet: Callable[..., Path]) -> None:
    """Guards against objects that are read and never asked for, in words, and with "none" in answerable forms only."""
    path = parquet("uav", CARS)
    first, second, third = read_source(path)
    every = [request for example in (first, second, third) for request in example.requests]
    assert {request.task for request in every} >= {"detect", "qa", "refer"}
    assert "locate the other vehicles" in {request.wordings[0] for request in every}
    assert {request.kind for request in every if request.task == "detect"} <= {"box", "point"}
    located = next(request for request in first.requests if request.wordings[0] == "locate the cars")
    assert located.answer == "<box> 50 66 200 200 <box> 500 666 700 866"
    assert all(not has_regions(request.answer) for request in third.requests)
    assert {"none", "no", "0"} >= {request.answer for request in third.requests} != set()
    assert read_source(path)[0].requests == first.requests
    assert len(set(first.requests)) == len(first.requests)


def test_images_are_cut_into_held_out_parts(parquet: Callable[..., Path]) -> None:
    """Guards against held-out images that are trained on: the two parts share nothing and miss nothing."""
    path = parquet("uav", CARS)
    names = [[e.name for e in read_source({"path": path, "images": images})] for images in ("0:2", "2:", ":")]
    assert names[0] + names[1] == names[2]
    assert len(names[0]) == 2
    with pytest.raises(DatasetError, match=r"has 3 images, and none of them is in '7:9'"):
        read_source({"path": path, "images": "7:9"})


def test_only_some_kinds_of_question_are_kept(parquet: Callable[..., Path]) -> None:
    """Guards against areas in square metres, which no model can know without a scale, asked in training."""
    asked = [("Is there a road?", "yes", "presence"), ("What is the area?", "13127m2", "area")]
    path = parquet("hr", [{"qa": [dict(zip(("question", "answer", "type"), one, strict=True)) for one in asked]}])
    (example,) = read_source({"path": path, "kinds": ["presence"]})
    assert [question.answer for question in example.questions] == ["yes"]
    with pytest.raises(DatasetError, match=r"no questions of kind 'comp'; it has area, presence"):
        read_source({"path": path, "kinds": ["presence", "comp"]})


def test_tiles_are_cut_and_asked_about(parquet: Callable[..., Path]) -> None:
    """Guards against tiles that ask about the whole image, and against other tiles in the next run."""
    spec = {"path": parquet("uav", CARS), "images": "0:2", "tiles": {"size": 24, "per_image": 5, "seed": 3}}
    found = read_source(spec)
    assert len(found) == 10
    assert found == read_source(spec)
    assert found != read_source({**spec, "tiles": {"size": 24, "per_image": 5}})
    for tile in found:
        cars = sum(thing.category == "car" for thing in tile.labels.objects) if tile.labels else 0
        located = [r for r in tile.requests if r.wordings[0] == "locate the cars" and r.kind == "box"]
        assert all(request.answer.count("<box>") == cars for request in located)


def test_a_reader_and_a_folder_are_sources(tmp_path: Path) -> None:
    """Guards against public layouts and a user's own images that only the library can read."""
    for name in ("Forest/1.png", "River/2.png"):
        (tmp_path / "eurosat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "eurosat" / name).write_bytes(PICTURE)
    found = read_source({"reader": "eurosat", "path": str(tmp_path / "eurosat")})
    assert [example.scene_class for example in found] == ["forest", "river"]
    table = "image,caption\nForest/1.png,many trees\nRiver/2.png,a river\n"
    (tmp_path / "eurosat" / "captions.csv").write_text(table)
    own = {"folder": str(tmp_path / "eurosat"), "captions": "captions.csv"}
    assert [example.captions for example in read_source(own)] == [("many trees",), ("a river",)]


def test_a_path_to_a_table_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a table of the same name in the current directory that is read instead."""
    for folder, caption in (("mine", "many trees"), ("elsewhere", "a river")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(PICTURE)
        (tmp_path / folder / "captions.csv").write_text(f"image,caption\n1.png,{caption}\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [example.captions for example in read_source(tmp_path / "mine" / "captions.csv")] == [("many trees",)]


def test_what_a_reader_skips_is_said(parquet: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a training set that shrinks in silence."""
    path = parquet("bad", [{"class": "Forest", "captions": ["trees"]}, {"class": "River", "captions": [""]}])
    assert len(read_source(path)) == 1
    assert "skipped entries: 1, the first is bad.parquet, row 1: a caption is empty" in capsys.readouterr().err


def test_generated_scenes_are_known_by_their_labels(tmp_path: Path, parquet: Callable[..., Path]) -> None:
    """Guards against a set of scenes read as a plain parquet file, without its requests."""
    (example, *_) = read_source(parquet("uav", CARS))
    (again,) = read_source(write_examples(tmp_path / "scenes.parquet", [example]))
    assert again.requests == example.requests
    assert again.labels is not None
    assert len(again.labels.objects) == 3


def test_a_mixture_keeps_sources_apart(parquet: Callable[..., Path]) -> None:
    """Guards against wrong classes from another source, and against weights that are not kept."""
    aerial = parquet("ucm", [{"class": name} for name in ("harbor", "beach", "forest", "river")])
    coarse = parquet("eurosat", [{"class": "SeaLake"}] * 10)
    mixture = read_sources([{"path": aerial, "weight": 2}, {"path": coarse, "weight": 0.3}])
    assert mixture.classes_of(1) == ("beach", "forest", "harbor", "river")
    assert mixture.classes_of(13) == ("sea lake",)
    passes = [mixture.order(np.random.default_rng(seed)) for seed in range(30)]
    assert {len(order) for order in passes} == {4 * 2 + 3}
    assert Counter(passes[0].tolist()).most_common(4)[-1][1] == 2
    assert {int(i) for order in passes for i in order} == set(range(14))
    assert not np.array_equal(passes[0], passes[1])


def test_a_pass_over_weights_is_always_as_long() -> None:
    """Guards against an item past the end of a pass when a share is rounded."""
    examples = tuple(Example(str(i), b"") for i in range(7))
    mixture = Mixture(examples, np.array([0] * 3 + [1] * 4), (0.5, 1.25))
    assert {len(mixture.order(np.random.default_rng(seed))) for seed in range(20)} == {round(1.5) + 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pth": "x"}, r"unknown field 'pth'; known are path, reader, split, folder"),
        ({"path": "nowhere.parquet"}, r"nothing at nowhere.parquet, looked for from the current directory"),
        ({"path": ""}, r"give either a path, or a folder"),
        ({"folder": "images"}, r"give either a path, or a folder"),
        ({"path": "", "folder": "nowhere"}, r"as in 'captions: captions.csv'"),
        ({"path": "", "folder": "nowhere", "captions": "a.csv"}, r"no folder at nowhere"),
        ({"reader": "dotta"}, r"no reader 'dotta': choose one of ucm-captions"),
        ({"images": "160"}, r"images are given as '0:160' \(or '160:'\), got '160'"),
        ({"weight": 0}, r"weight must be a number above 0, got 0"),
        ({"weight": "2"}, r"weight must be a number above 0, got '2'"),
        ({"tiles": {"size": 256}}, r"tiles are given as"),
        ({"tiles": {"size": 256, "per_image": 0}}, r"whole numbers above 0"),
    ],
)
def test_a_bad_source_is_refused_before_anything_is_read(
    parquet: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    """Guards against a typing error found out after an hour, or passed over in silence."""
    spec = {"path": str(parquet("uav", CARS)), **change}
    with pytest.raises(DatasetError, match=message):
        check_source(spec)
    with pytest.raises(DatasetError, match=message):
        read_sources([spec])


def test_a_good_source_is_understood(parquet: Callable[..., Path]) -> None:
    """Guards against a field that is accepted and then forgotten."""
    path = str(parquet("uav", CARS))
    spec = {"path": path, "reader": None, "images": "0:2", "kinds": "count", "tiles": {"size": 8, "per_image": 1}}
    assert check_source(spec) == Source(path, images="0:2", kinds=("count",), tiles=Tiles(8, 1))
    with pytest.raises(DatasetError, match=r"a source is a path, or named fields"):
        check_source(3)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"no sources are given"):
        read_sources([])
    Path(path).write_text("not parquet")
    with pytest.raises(DatasetError, match=r"not a readable parquet file"):
        read_source(path)
