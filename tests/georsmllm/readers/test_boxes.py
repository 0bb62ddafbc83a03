"""Detection and referring sets: DIOR, DIOR-RSVG, DOTA, YOLO, RRSIS-D, VRSBench."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.readers import read

Write = Callable[..., Path]
Pictures = Callable[..., None]

QUARTER = ((0.1, 0.2), (0.6, 0.2), (0.6, 0.7), (0.1, 0.7))
"""The box 20, 20, 120, 70 in an image of 200 × 100."""
BNDBOX = "<bndbox><xmin>20</xmin><ymin>20</ymin><xmax>120</xmax><ymax>70</ymax></bndbox>"


def voc(name: str, *objects: str) -> str:
    """A Pascal VOC file of an image of 200 × 100."""
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    inside = "".join(f"<object>{each}</object>" for each in objects)
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return f"{head}<annotation><filename>{name}</filename>{size}{inside}</annotation>"


def test_dior(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against pixels that are not shares of the image, names that are not words, and splits that leak."""
    folder = "Annotations/Horizontal Bounding Boxes"
    write(f"{folder}/00001.xml", voc("00001.jpg", f"<name>groundtrackfield</name>{BNDBOX}"))
    write(f"{folder}/00002.xml", voc("00002.jpg", f"<name>Expressway-Service-area</name>{BNDBOX}"))
    pictures("JPEGImages-trainval/00001.jpg", "JPEGImages-test/00002.jpg")
    write("ImageSets/Main/train.txt", "00001\n00007\n")
    both, train = read("dior", tmp_path).records, read("dior", tmp_path, split="train")
    assert [record.labels.objects[0].category for record in both] == ["ground track field", "expressway service area"]
    np.testing.assert_allclose(both[0].labels.objects[0].outline, QUARTER)
    assert both[0].labels.objects[0].exact == "box"
    assert both[0].labels.exhaustive == {"ground track field", "expressway service area"}
    assert [record.name for record in train.records] == ["00001.jpg"]
    assert [str(bad) for bad in train.bad] == ["train.txt, 00007: there is no annotation file of this name"]


def test_dior_oriented_and_difficult(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against corners out of order, and against counting on a category of which objects were left out."""
    names = [f"{axis}_{c}" for c in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"]
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, (100, 10, 140, 50, 100, 90, 60, 50), strict=True))
    ship = f"<name>ship</name><robndbox>{corners}</robndbox>"
    hard = f"<name>ship</name><difficult>1</difficult>{BNDBOX}"
    write("Annotations/Oriented Bounding Boxes/1.xml", voc("1.jpg", ship))
    write("Annotations/Oriented Bounding Boxes/2.xml", voc("2.jpg", f"<name>dam</name>{BNDBOX}", hard))
    pictures("JPEGImages-trainval/1.jpg", "JPEGImages-trainval/2.jpg")
    first, second = read("dior", tmp_path).records
    assert first.labels.objects[0].exact == "obb"
    np.testing.assert_allclose(first.labels.objects[0].outline, ((0.5, 0.1), (0.7, 0.5), (0.5, 0.9), (0.3, 0.5)))
    assert first.labels.exhaustive == {"ship", "dam"}
    assert [o.category for o in second.labels.objects] == ["dam"]
    assert second.labels.exhaustive == {"dam"}


def test_malformed_dior(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against one bad object that spoils a count: its image keeps the others, and is counted on for nothing."""
    flat = BNDBOX.replace("120", "20")
    write("Annotations/1.xml", voc("1.jpg", f"<name>dam</name>{BNDBOX}", f"<name>dam</name>{flat}", BNDBOX))
    write("Annotations/2.xml", "<annotation><filename>2.jpg")
    write("Annotations/3.xml", voc("3.jpg"))
    pictures("JPEGImages-trainval/1.jpg")
    result = read("dior", tmp_path)
    assert len(result.records[0].labels.objects) == 1
    assert result.records[0].labels.exhaustive == frozenset()
    assert [(bad.file, bad.record) for bad in result.bad] == [
        ("1.xml", "object 1"), ("1.xml", "object 2"), ("2.xml", "image"), ("3.xml", "image"),
    ]  # fmt: skip
    assert [
        word in bad.reason for word, bad in zip(("no area", "<name>", "valid XML", "3.jpg"), result.bad, strict=True)
    ]


def test_dior_rsvg(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against object numbers that are counted per file, and against phrases that lose their boxes."""
    golf = f"<name>golffield</name><pose>Unspecified</pose>{BNDBOX}<description>A green golf field</description>"
    left = f"<name>vehicle</name>{BNDBOX}<description>the vehicle on the left.</description>"
    mute = f"<name>vehicle</name>{BNDBOX}"
    write("Annotations/00001.xml", voc("00001.jpg", golf))
    write("Annotations/00002.xml", voc("00002.jpg", golf, left, mute))
    pictures("JPEGImages/00001.jpg", "JPEGImages/00002.jpg")
    write("train.txt", "0\n2\n")
    write("test.txt", "1\n3\n4\n")
    train, test = read("dior-rsvg", tmp_path, split="train"), read("dior-rsvg", tmp_path, split="test")
    assert train.records[0].questions == (
        Question("locate a green golf field", "<box> 100 200 600 700", "refer", "box"),
    )
    assert train.records[1].questions[0].text == "locate the vehicle on the left"
    assert [record.name for record in train.records] == ["00001.jpg", "00002.jpg"]
    assert [o.category for o in train.records[0].labels.objects] == ["golf field"]
    assert train.records[0].labels.exhaustive == frozenset()
    assert [record.name for record in test.records] == ["00002.jpg"]
    assert [bad.reason for bad in test.bad] == ["has no <description>", "there are 4 objects, counted from 0"]
    assert train.bad == ()


HEADER = "imagesource:GoogleEarth\ngsd:0.146343590398\n"


def test_dota(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against header lines taken for objects, and against difficult objects that are asked for."""
    write(
        "train/labelTxt/P0003.txt",
        HEADER + "20 20 120 20 120 70 20 70 storage-tank 0\n100 10 140 50 100 90 60 50 ship 0\n",
    )
    write(
        "train/labelTxt/P0004.txt",
        "20 20 120 20 120 70 20 70 ship 1\n20.0 20.0 120.0 20.0 120.0 70.0 20.0 70.0 plane\n",
    )
    write("val/labelTxt/P0009.txt", HEADER)
    pictures("train/images/P0003.png", "train/images/P0004.png", "val/images/P0009.png")
    tank, plane = read("dota", tmp_path, split="train").records
    assert [(o.category, o.exact) for o in tank.labels.objects] == [("storage tank", "box"), ("ship", "obb")]
    np.testing.assert_allclose(tank.labels.objects[0].outline, QUARTER)
    np.testing.assert_allclose(tank.labels.objects[1].outline, ((0.5, 0.1), (0.7, 0.5), (0.5, 0.9), (0.3, 0.5)))
    assert tank.labels.exhaustive == {"storage tank", "ship", "plane"}
    assert [o.category for o in plane.labels.objects] == ["plane"]
    assert plane.labels.exhaustive == {"storage tank", "plane"}
    every = read("dota", tmp_path).records
    assert [(record.name, record.split) for record in every][2] == ("P0009", "val")
    assert every[2].labels.exhaustive == {"storage tank", "ship", "plane"}
    assert len(read("dota", tmp_path / "train").records) == 2


def test_malformed_dota(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against coordinates that belong to another image, and lines that lost a field."""
    good = "20 20 120 20 120 70 20 70 ship 0\n"
    bad = (
        "20 20 120 20 120 70 ship 0\n",
        "a 20 120 20 120 70 20 70 ship 0\n",
        "2000 20 2100 20 2100 70 2000 70 ship 0\n",
    )
    write("labelTxt/P1.txt", HEADER + good + "".join(bad) + "20 20 nan 20 120 70 20 70 ship 0\n")
    write("labelTxt/P2.txt", good)
    write("labelTxt/P3.txt", good)
    pictures("images/P1.png")
    write("images/P3.png", b"not a picture")
    result = read("dota", tmp_path)
    assert [len(record.labels.objects) for record in result.records] == [1]
    assert [(entry.file, entry.record) for entry in result.bad] == [
        ("P1.txt", "line 4"), ("P1.txt", "line 5"), ("P1.txt", "line 6"), ("P1.txt", "line 7"), ("P2.txt", "image"),
        ("P3.txt", "image"),
    ]  # fmt: skip
    assert "8 fields" in result.bad[0].reason
    assert "outside the image of 200 × 100" in result.bad[2].reason
    assert "no image P2" in result.bad[4].reason


DATA = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: small-vehicle\n  1: plane\n"


def test_yolo(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against centres read as corners, and against unlabelled images that are lost as negatives."""
    file = write("data.yaml", DATA)
    pictures("images/train/a.jpg", "images/train/b.jpg", "images/train/c.jpg", "images/val/a.jpg")
    write("labels/train/a.txt", "0 0.35 0.45 0.5 0.5\n")
    write("labels/train/b.txt", "1 0.5 0.1 0.7 0.5 0.5 0.9 0.3 0.5\n")
    a, b, c = read("yolo", file, split="train").records
    assert [(o.category, o.exact) for o in (*a.labels.objects, *b.labels.objects)] == [
        ("small vehicle", "box"), ("plane", "obb"),
    ]  # fmt: skip
    np.testing.assert_allclose(a.labels.objects[0].outline, QUARTER)
    np.testing.assert_allclose(b.labels.objects[0].outline, ((0.5, 0.1), (0.7, 0.5), (0.5, 0.9), (0.3, 0.5)))
    assert c.labels.objects == ()
    assert c.labels.exhaustive == {"small vehicle", "plane"}
    assert len(read("yolo", tmp_path).records) == 4


def test_malformed_yolo(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against a class that data.yaml does not name, pixels instead of shares, and a box of no area."""
    file = write("data.yaml", "train: images/train\nnames: [ship, plane]\n")
    pictures("images/train/a.jpg")
    write("labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n0 100 50 20 20\n0 0.5 0.5 0 0.2\n0 0.5 0.5\n")
    result = read("yolo", file)
    assert len(result.records[0].labels.objects) == 1
    assert [bad.record for bad in result.bad] == ["line 2", "line 3", "line 4", "line 5"]
    assert "class 7" in result.bad[0].reason
    with pytest.raises(DatasetError, match="has no 'names'"):
        read("yolo", write("data.yaml", "train: images/train\n"))
    with pytest.raises(DatasetError, match="is no folder of images"):
        read("yolo", write("data.yaml", "train: images/absent\nnames: [ship]\n"))
    with pytest.raises(DatasetError, match="cannot be read with yolo"):
        read("yolo", write("data.yaml", f"train: {'x' * 400}\nnames: [ship]\n"))
    with pytest.raises(DatasetError, match="not valid YAML"):
        read("yolo", write("data.yaml", "train: [images\n"))


def rrsis_d(write: Write, refs: bytes | list[dict[str, Any]], segmentations: list[Any]) -> None:
    """RRSIS-D with one image and one annotation a segmentation."""
    write("rrsisd/refs(unc).p", refs if isinstance(refs, bytes) else pickle.dumps(refs))
    annotations = [
        {"id": i, "image_id": 5, "category_id": 2, "bbox": [20, 20, 100, 50], "segmentation": value}
        for i, value in enumerate(segmentations)
    ]
    images = [{"id": 5, "file_name": "00005.jpg", "width": 200, "height": 100}]
    categories = [{"id": 2, "name": "storagetank"}]
    write("rrsisd/instances.json", {"images": images, "annotations": annotations, "categories": categories})


def ref(number: int, annotation: int, *sentences: str, split: str = "train") -> dict[str, Any]:
    """A reference as RefCOCO holds it."""
    said = [{"sent_id": i, "sent": text, "raw": text, "tokens": text.split()} for i, text in enumerate(sentences)]
    given = {"ref_id": number, "ann_id": annotation, "image_id": 5, "category_id": 2, "split": split}
    return given | {"sentences": said}


def test_rrsis_d(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against masks read across instead of down, and polygons that lose their phrase."""
    square = [[20, 20, 120, 20, 120, 70, 20, 70]]
    down = {"size": [100, 200], "counts": [2020, *[50, 50] * 99, 50, 20000 - 2020 - 99 * 100 - 50]}
    refs = [
        ref(0, 0, "The grey tank", "a tank in the middle"),
        ref(1, 1, "the tank"),
        ref(2, 0, "a tank", split="test"),
    ]
    rrsis_d(write, refs, [square, down])
    pictures("images/rrsisd/JPEGImages/00005.jpg")
    record = read("rrsis-d", tmp_path, split="train").records[0]
    assert [(q.text, q.task, q.kind) for q in record.questions[:2]] == [
        ("outline the grey tank", "refer", "poly"), ("outline a tank in the middle", "refer", "poly"),
    ]  # fmt: skip
    assert record.questions[0].answer == "<poly> 100 200 600 200 600 700 100 700"
    assert [o.category for o in record.labels.objects] == ["storage tank", "storage tank"]
    assert {tuple(round(v, 6) for v in point) for point in record.labels.objects[1].outline} == set(QUARTER)
    assert len(read("rrsis-d", tmp_path).records[0].questions) == 4


def test_malformed_rrsis_d(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against a mask of another size, a reference to nothing, and a reference without words."""
    refs = [ref(0, 0, "a tank"), ref(1, 9, "a tank"), ref(2, 1, "a tank"), ref(3, 0), ref(4, 2, "a tank")]
    rrsis_d(write, refs, [[[20, 20, 120, 20, 120, 70]], {"size": [100, 200], "counts": [5, 5]}, [[1, 2, 3]]])
    pictures("images/rrsisd/JPEGImages/00005.jpg")
    result = read("rrsis-d", tmp_path)
    assert len(result.records[0].questions) == 1
    assert [bad.record for bad in result.bad] == ["ref 1", "ref 2", "ref 3", "ref 4"]
    assert "no annotations entry 9" in result.bad[0].reason
    assert "do not add up" in result.bad[1].reason


class Sly:
    """What a hostile pickle holds: a call."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Ask for a call while unpickling."""
        return (Path, ("called",))


@pytest.mark.parametrize("content", [pickle.dumps([Sly()]), b"not a pickle", b""])
def test_a_pickle_may_not_call_anything(content: bytes, write: Write, tmp_path: Path) -> None:
    """Guards against code that runs because somebody read a dataset."""
    rrsis_d(write, content, [])
    with pytest.raises(DatasetError, match="plain lists and dicts"):
        read("rrsis-d", tmp_path)


def vrs(**changes: Any) -> dict[str, Any]:
    """A VRSBench annotation."""
    corner = [0.5, 0.1, 0.7, 0.5, 0.5, 0.9, 0.3, 0.5]
    found = {"obj_id": 0, "obj_cls": "small-vehicle", "obj_corner": corner, "obj_coord": [0.3, 0.1, 0.7, 0.9],
             "is_unique": True, "obj_size": "", "referring_sentence": "The small vehicle in the middle."}  # fmt: skip
    qa = [{"ques_id": 0, "question": "How many vehicles are there?", "type": "Object quantity", "answer": "1"}]
    return {"image": "P0003_0002.png", "caption": "A road.", "objects": [found], "qa_pairs": qa} | changes


def test_vrsbench(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against referring answers in another form than the published score, and against mixed splits."""
    write("Annotations_train/P0003_0002.json", vrs())
    write("Annotations_val/P0003_0003.json", vrs(image="P0003_0003.png"))
    pictures("Images_train/P0003_0002.png", "Images_val/P0003_0003.png")
    record = read("vrsbench", tmp_path, split="train").records[0]
    assert record.labels.captions == ("A road.",)
    assert (record.labels.objects[0].category, record.labels.objects[0].exact) == ("small vehicle", "obb")
    assert record.labels.exhaustive == frozenset()
    assert record.questions == (
        Question("locate the small vehicle in the middle", "<box> 300 100 700 900", "refer", "box"),
        Question("How many vehicles are there?", "1", "qa", "object quantity"),
    )
    assert [r.split for r in read("vrsbench", tmp_path).records] == ["train", "val"]


def test_malformed_vrsbench(write: Write, pictures: Pictures, tmp_path: Path) -> None:
    """Guards against a bad object or question that costs the image's caption."""
    objects = [{"obj_cls": "ship", "obj_corner": [1, 2], "referring_sentence": "a"}, {"obj_cls": "ship"}]
    write("Annotations_train/a.json", vrs(objects=objects, qa_pairs=[{"question": "?", "type": "x"}]))
    write("Annotations_train/b.json", "{")
    write("Annotations_train/c.json", json.dumps(vrs(image="absent.png")))
    pictures("Images_train/P0003_0002.png")
    result = read("vrsbench", tmp_path)
    assert [(r.labels.captions, r.questions) for r in result.records] == [(("A road.",), ())]
    assert [(bad.file, bad.record) for bad in result.bad] == [
        ("a.json", "object 0"), ("a.json", "object 1"), ("a.json", "question 0"), ("b.json", "file"),
        ("c.json", "image"),
    ]  # fmt: skip
