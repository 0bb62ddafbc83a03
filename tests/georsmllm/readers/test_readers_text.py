"""Captions and questions: UCM-Captions, RSICD, LEVIR-CC, RSVQA, RSIVQA, and class folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.readers import read

Write = Callable[..., Path]
Pictures = Callable[..., None]


def sentence(text: str) -> dict[str, Any]:
    """A sentence as the caption files hold it."""
    return {"raw": text, "tokens": text.split(), "imgid": 0, "sentid": 0}


@pytest.mark.parametrize(("name", "file"), [("ucm-captions", "dataset.json"), ("rsicd", "dataset_rsicd.json")])
def test_captions(name: str, file: str, write: Write, pictures: Pictures) -> None:
    """Guards against lost or reordered sentences, and against a split that lets another's images in."""
    images = [
        {"filename": "1.tif", "imgid": 0, "split": "train", "sentences": [sentence("a  farm ."), sentence("fields .")]},
        {"filename": "2.tif", "imgid": 1, "split": "val", "sentences": [sentence("a pier .")]},
    ]
    path = write(file, {"images": images, "dataset": "ucm"})
    pictures("imgs/1.tif", "imgs/2.tif")
    both, train = read(name, path), read(name, path.parent, split="train")
    assert [record.labels.captions for record in both.records] == [("a farm .", "fields ."), ("a pier .",)]
    assert [(record.name, record.split) for record in train.records] == [("1.tif", "train")]
    assert train.records[0].images == (path.parent / "imgs" / "1.tif",)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"filename": "1.tif", "split": "train"}, "has no 'sentences'"),
        ({"filename": "1.tif", "sentences": []}, "has no sentence"),
        ({"filename": "1.tif", "sentences": [{"raw": "  "}]}, "a sentence is empty"),
        ({"filename": "../1.tif", "sentences": [{"raw": "a"}]}, "there is no image"),
        ("1.tif", "not laid out as expected"),
    ],
)
def test_malformed_caption_entries(entry: Any, reason: str, write: Write, pictures: Pictures) -> None:
    """Guards against one entry that stops the whole set, and against an image from outside the dataset."""
    good = {"filename": "1.tif", "sentences": [sentence("a farm")]}
    pictures("data/images/1.tif", "1.tif")
    result = read("rsicd", write("data/dataset_rsicd.json", {"images": [good, entry]}))
    assert len(result.records) == 1
    assert [(bad.file, bad.record) for bad in result.bad] == [("dataset_rsicd.json", "image 1")]
    assert reason in result.bad[0].reason


def test_a_captions_file_that_is_none(write: Write) -> None:
    """Guards against a decoder's stack trace for a broken download."""
    with pytest.raises(DatasetError, match=r"dataset.json is not valid JSON"):
        read("ucm-captions", write("dataset.json", '{"images": ['))
    with pytest.raises(DatasetError, match="holds no list 'images'"):
        read("ucm-captions", write("dataset.json", {"pictures": []}))


def test_levir_cc(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against before and after the wrong way round, or mixed between splits."""
    images = [
        {"filename": "train_000001.png", "filepath": "train", "split": "train", "changeflag": 1,
         "sentences": [sentence("a road is built .")]},
        {"filename": "val_000001.png", "filepath": "val", "split": "val", "changeflag": 0,
         "sentences": [sentence("nothing has changed .")]},
        {"filename": "train_000002.png", "split": "train", "sentences": [sentence("there is no pair .")]},
    ]  # fmt: skip
    write("LevirCCcaptions.json", {"images": images})
    pictures(*(f"images/{split}/{side}/{split}_000001.png" for split in ("train", "val") for side in "AB"))
    pictures("images/train/A/train_000002.png")
    result = read("levir-cc", tmp_path)
    first, second = result.records
    assert [path.relative_to(tmp_path).parts[2] for path in first.images if isinstance(path, Path)] == ["A", "B"]
    assert first.labels.captions == ("a road is built .",)
    assert [record.questions[0].answer for record in (first, second)] == ["yes", "no"]
    assert [bad.record for bad in result.bad] == ["image 2"]
    assert "train/B/train_000002.png" in result.bad[0].reason


def rsvqa(write: Write, prefix: str, questions: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
    """The three files of a split; image 1 is not active."""
    images = [{"id": 0, "active": True, "questions_ids": [0, 1]}, {"id": 1, "active": False}]
    write(f"{prefix}_images.json", {"images": images})
    write(f"{prefix}_questions.json", {"questions": questions})
    write(f"{prefix}_answers.json", {"answers": answers})


def question(number: int, text: Any, kind: str, image: int = 0) -> dict[str, Any]:
    """A question as RSVQA holds it, answered by the answer of the same number."""
    given = {"id": number, "img_id": image, "type": kind, "question": text, "answers_ids": [number + 100]}
    return given | {"active": True}


def test_rsvqa(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against answers joined by position instead of by number, and against inactive entries."""
    answers = [{"id": 101, "answer": "rural", "active": True}, {"id": 100, "answer": 12, "active": True}]
    asked = [question(0, "How many roads are there?", "count"), question(1, "Is it rural or urban?", "rural_urban")]
    rsvqa(write, "LR_split_train", [*asked, {"id": 2, "active": False}], answers)
    rsvqa(write, "LR_split_val", asked, answers)
    write("all_images.json", {"images": []})
    pictures("Images_LR/0.tif", "Images_LR/1.tif")
    records = read("rsvqa", tmp_path).records
    assert [(record.name, record.split) for record in records] == [("0", "train"), ("0", "val")]
    assert records[0].questions == (
        Question("How many roads are there?", "12", "qa", "count"),
        Question("Is it rural or urban?", "rural", "qa", "rural_urban"),
    )
    assert len(read("rsvqa", tmp_path, split="val").records) == 1


def test_malformed_rsvqa(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against a question without its answer that takes the others of its image with it."""
    asked = [
        question(0, "How many roads?", "count"),
        question(1, "Is it rural?", "presence"),
        question(0, None, "count"),
    ]
    rsvqa(write, "USGS_split_test_phili", asked, [{"id": 100, "answer": "3", "active": True}])
    pictures("Data/0.tif")
    result = read("rsvqa", tmp_path, split="test_phili")
    assert [q.answer for q in result.records[0].questions] == ["3"]
    assert [str(bad) for bad in result.bad] == [
        "USGS_split_test_phili_questions.json, question 1: its answer 101 is not in the file of answers",
        "USGS_split_test_phili_questions.json, question 2: the question is empty or not text",
    ]
    (tmp_path / "USGS_split_test_phili_answers.json").unlink()
    with pytest.raises(DatasetError, match=r"no file .*USGS_split_test_phili_answers.json"):
        read("rsvqa", tmp_path)


def test_rsivqa(write: Write, pictures: Pictures) -> None:
    """Guards against lost kinds, doubled questions, and the published lines that ask for nothing or answer nothing."""
    write("UCM/ucm_vqa.txt", "1.tif:what is the theme of this picture?farmland\n")
    path = write(
        "UCM/ucm_res.txt",
        "1.tif:What is the theme of this picture?farmland\n1.tif:How many trees in the picture?one\n"
        "1.tif:How many  in the picture?zero\n"
        "1.tif:What is the location of the trees in this picture?i cannot see it\n\n"
        "P0003: does this picture contain ship?no\n1.tif no question\n"
        "P0009: how many ships are there in this picture?4\n",
    )
    pictures("UCM/Images/1.tif", "UCM/Images/P0003.png")
    result = read("rsivqa", path.parent)
    assert [record.name for record in result.records] == ["1.tif", "P0003"]
    assert [(q.text, q.answer, q.kind) for q in result.records[0].questions] == [
        ("What is the theme of this picture?", "farmland", "theme"),
        ("How many trees in the picture?", "one", "count"),
    ]
    assert result.records[1].questions[0].kind == "presence"
    assert [(bad.file, bad.record) for bad in result.bad] == [("ucm_res.txt", "line 7"), ("ucm_res.txt", "line 8")]


@pytest.mark.parametrize(
    ("name", "files", "classes"),
    [
        ("eurosat", ["2750/SeaLake/SeaLake_1.jpg", "2750/AnnualCrop/AnnualCrop_1.jpg"], ["annual crop", "sea lake"]),
        ("aid", ["BareLand/bareland_1.jpg", "Port/port_1.jpg"], ["bare land", "port"]),
        ("resisc45", ["NWPU/sea_ice/sea_ice_001.jpg", "NWPU/lake/lake_001.jpg"], ["lake", "sea ice"]),
    ],
)
def test_class_folders(name: str, files: list[str], classes: list[str], pictures: Pictures, tmp_path: Path) -> None:
    """Guards against folder names that reach the model as they are, and against the extra folder of an archive."""
    pictures(*files)
    assert [record.labels.scene_class for record in read(name, tmp_path).records] == classes


def test_malformed_class_folders(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against a list of files that is taken for an image, and against an image of no bytes."""
    pictures("AID/Port/port_1.jpg", "AID/River/river_1.jpg")
    write("AID/Port/Thumbs.db", b"x")
    write("AID/River/river_2.jpg", b"")
    result = read("aid", tmp_path)
    assert len(result.records) == 2
    assert [str(bad) for bad in result.bad] == [
        "Port, Thumbs.db: is not an image file",
        "River, river_2.jpg: is an empty file",
    ]
    assert json.dumps([record.name for record in result.records]) == '["Port/port_1.jpg", "River/river_1.jpg"]'
