"""GeoChat-Instruct, and Hugging Face parquet files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmrt.georsmllm.data import DatasetError, Question, read_parquet
from gmrt.georsmllm.readers import read, to_example

Write = Callable[..., Path]
Pictures = Callable[..., None]
DATA = Path(os.environ.get("GMRT_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def talk(image: str, *turns: str) -> dict[str, Any]:
    """A conversation of requests and answers in turn."""
    said = [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(turns)]
    return {"id": image, "image": image, "conversations": said}


def test_geochat(write: Write, pictures: Pictures) -> None:
    """Guards against boxes left in GeoChat's own notation, and against turns that lose their answers."""
    file = write(
        "GeoChat_Instruct.json",
        [
            talk("a.png", "<image>\n[refer] where is <p>the silver airplane</p> ?", "{<10><20><60><70>}",
                 "\n[refer] give me the location of <p>2 ships</p>", "{<10><20><60><70>|<0>}{<1><2><6><7>|<0>}"),
            talk("b.png", "<image>\n[identify] the object in {<10><20><60><70>} is", "<p>1 dump-truck</p>"),
            talk("NWPU/c.png", "<image>\nClassify the given image. Classes: lake, forest.", "lake",
                 "How many boats are there?", "two"),
            talk("d.png", "[grounding] describe this", "There is <p>a ship</p> {<10><20><60><70>} here."),
        ],
    )  # fmt: skip
    pictures("images/a.png", "images/b.png", "images/NWPU/c.png", "images/UCM/c.png", "images/d.png")
    a, b, c, d = read("geochat", file).records
    assert a.questions == (
        Question("locate the silver airplane", "<box> 100 200 600 700", "refer", "box"),
        Question(
            "locate 2 ships with rotated boxes",
            "<obb> 100 200 600 200 600 700 100 700 <obb> 10 20 60 20 60 70 10 70",
            "refer",
            "obb",
        ),
    )
    assert b.questions[0].text == "the object in <box> 100 200 600 700 is"
    assert b.questions[0].answer == "1 dump-truck"
    assert [(q.answer, q.task, q.kind) for q in c.questions] == [("lake", "class", ""), ("two", "qa", "count")]
    assert d.questions[0].answer == "There is a ship <box> 100 200 600 700 here."
    assert d.questions[0].task == "grounding"


def test_geochat_angles_turn_counter_clockwise_in_pixels(write: Write, pictures: Pictures) -> None:
    """Guards against boxes turned the wrong way, or turned in shares, which shears them when the image is no square."""
    # In 200 × 100 pixels: 100 × 20 round (100, 50), turned by 90 degrees, is 20 × 100; by 45, its right end goes up.
    file = write("GeoChat_Instruct.json", [talk("a.png", "[refer] <p>it</p>", "{<25><40><75><60>|<90>}"),
                                           talk("a.png", "[refer] <p>it</p>", "{<25><40><75><60>|<45>}")])  # fmt: skip
    pictures("a.png", width=200, height=100)
    upright, tilted = (record.questions[0].answer.split() for record in read("geochat", file).records)
    corners = [tuple(map(int, upright[i : i + 2])) for i in range(1, 9, 2)]
    assert {x for x, _ in corners} <= {449, 450, 550}
    assert {y for _, y in corners} <= {0, 999}
    points = [tuple(map(int, tilted[i : i + 2])) for i in range(1, 9, 2)]
    right, left = max(points), min(points)
    assert right[1] < 500 < left[1]


def test_malformed_geochat(write: Write, pictures: Pictures) -> None:
    """Guards against coordinates beyond 100, boxes that lost a number, and turns out of order."""
    file = write(
        "GeoChat_Instruct.json",
        [
            talk("a.png", "[refer] <p>x</p>", "{<77><981><83><100>|<29>}", "How many?", "2"),
            talk("a.png", "[refer] <p>x</p>", "{<35><32><35><36>}"),
            talk("a.png", "[identify] what is {<1><2><3>|<4>}?", "nothing"),
            {"id": "x", "image": "a.png", "conversations": "none"},
            {
                "id": "x",
                "image": "a.png",
                "conversations": [{"from": "gpt", "value": "hi"}, {"from": "human", "value": "?"}],
            },
            {"id": "x", "conversations": []},
            talk("absent.png", "hello", "hi"),
            talk("a.png", "left alone"),
        ],
    )
    pictures("a.png")
    result = read("geochat", file)
    assert [(q.text, q.answer) for r in result.records for q in r.questions] == [("How many?", "2")]
    assert [bad.record for bad in result.bad] == [
        "entry 0, turn 0", "entry 1, turn 0", "entry 2, turn 0", "entry 3", "entry 4, turn 0", "entry 5", "entry 6",
        "entry 7, turn 0",
    ]  # fmt: skip
    assert "not in 0…100" in result.bad[0].reason


def image_column(images: list[bytes | None]) -> pa.Array:
    """A column in the Hugging Face image convention."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)], kind)


def test_parquet(tmp_path: Path, pictures: Pictures) -> None:
    """Guards against pixel boxes that are not shares of their image, and against lost labels."""
    pictures("x.png")
    data = (tmp_path / "x.png").read_bytes()
    table = pa.table({
        "image": image_column([data, data]),
        "class": ["SeaLake", None],
        "captions": [["a lake", "water"], None],
        "qa": [[{"question": "How many boats?", "answer": "2", "type": None}], []],
        "objects": [[{"label": "othervehicle", "bbox": [20.0, 20.0, 120.0, 70.0]}], []],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "set-train.parquet")
    first, second = read("parquet", tmp_path / "set-train.parquet").records
    assert (first.name, first.labels.scene_class, first.labels.captions) == ("0.png", "sea lake", ("a lake", "water"))
    assert first.questions == (Question("How many boats?", "2", "qa", "count"),)
    assert first.labels.objects[0].box == pytest.approx((0.1, 0.2, 0.6, 0.7))
    assert first.labels.objects[0].category == "other vehicle"
    assert second.labels.exhaustive == {"other vehicle"}
    assert to_example(first).image == data


def test_parquet_of_the_hub(tmp_path: Path, pictures: Pictures) -> None:
    """Guards against class numbers without their names, COCO boxes read as corners, and shards of other splits."""
    pictures("x.png")
    data = (tmp_path / "x.png").read_bytes()
    names = {"_type": "ClassLabel", "names": ["ship", "storage_tank"]}
    features = {"label": names, "objects": {"feature": {"bbox": {"_type": "Sequence"}, "category": names}}}
    objects = [{"bbox": [[20.0, 20.0, 100.0, 50.0]], "category": [1]}]
    table = pa.table({"image": image_column([data]), "label": [0], "objects": objects})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "data").mkdir()
    for shard in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pq.write_table(table, tmp_path / "data" / f"{shard}.parquet")
    records = read("parquet", tmp_path, split="train").records
    assert [record.split for record in records] == ["train", "train"]
    assert records[0].labels.scene_class == "ship"
    assert records[0].labels.objects[0].category == "storage tank"
    assert records[0].labels.objects[0].box == pytest.approx((0.1, 0.2, 0.6, 0.7))


def test_malformed_parquet(tmp_path: Path, pictures: Pictures) -> None:
    """Guards against a row without an image, a box outside it, and a file that is no parquet."""
    pictures("x.png")
    data = (tmp_path / "x.png").read_bytes()
    boxes = [
        [{"label": "car", "bbox": [20.0, 20.0, 120.0, 70.0]}, {"label": "car", "bbox": [900.0, 0.0, 990.0, 9.0]}],
        [],
    ]
    file = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"image": image_column([data, None]), "objects": boxes}), file)
    result = read("parquet", file)
    assert [len(record.labels.objects) for record in result.records] == [1]
    assert result.records[0].labels.exhaustive == frozenset()
    assert [bad.record for bad in result.bad] == ["row 0, object 1", "row 1"]
    pq.write_table(pa.table({"label": [1]}), file)
    with pytest.raises(DatasetError, match="no 'image' column"):
        read("parquet", file)
    file.write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match="not a readable parquet file"):
        read("parquet", file)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real imagery at {DATA} (set GMRT_DATA)")
def test_real_parquet_agrees_with_the_trainer_s_reader() -> None:
    """Guards against two readers of one file that give the model different labels."""
    file = DATA / "ucm-validation.parquet"
    assert tuple(map(to_example, read("parquet", file).records)) == tuple(read_parquet(file))
    cars = read("parquet", DATA / "hituav-train.parquet").records
    assert {o.category for record in cars for o in record.labels.objects} <= set(cars[0].labels.exhaustive)
