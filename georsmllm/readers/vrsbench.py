"""VRSBench: a JSON file of a caption, referred objects and questions for each image.

Layout: ``Annotations_<split>/P0003_0002.json`` = ``{"image": "P0003_0002.png", "caption": "…", "objects": [{"obj_id",
"obj_cls", "obj_corner": [x1, y1, … x4, y4], "obj_coord": [x0, y0, x1, y1], "is_unique", "obj_size",
"referring_sentence"}], "qa_pairs": [{"ques_id", "question", "type", "answer"}]}`` with coordinates in 0…1, and
``Images_<split>``. Documented at https://github.com/lx709/VRSBench (``README.md``, ``rs_instruction.txt``,
``prepare_eval_all.ipynb``), files at https://huggingface.co/datasets/xiang709/VRSBench (Li et al. 2024, arXiv
2406.12384). The folder names are those of its archives. The published score asks for upright boxes, and so do the
questions here; the objects keep their corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.readers.files import Images, category_words, check_split, read_json
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt, refer, words
from gmrt.georsmllm.readers.shapes import box, corners_box


def read_vrsbench(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of ``Annotations_<split>`` for one split or for all."""
    folders = {folder.name.removeprefix("Annotations_"): folder for folder in sorted(path.glob("Annotations_*"))}
    if not folders:
        raise DatasetError(
            f"{path} holds no Annotations_train or Annotations_val: unpack the annotation archives there"
        )
    check_split(split, folders, path)
    for name, folder in folders.items():
        if split in (None, name):
            images = Images(path / f"Images_{name}")
            for file in sorted(folder.rglob("*.json")):
                yield from _read_image(file, images, name)


def _read_image(file: Path, images: Images, split: str) -> Iterator[Outcome]:
    entry = attempt(file.name, "file", partial(_content, file))
    if isinstance(entry, BadRecord):
        yield entry
        return
    objects: list[SceneObject] = []
    questions: list[Question] = []
    for i, given in enumerate(entry.get("objects", [])):
        found = attempt(file.name, f"object {i}", partial(_object, given))
        if isinstance(found, BadRecord):
            yield found
        else:
            objects.append(found[0])
            questions.append(found[1])
    for i, given in enumerate(entry.get("qa_pairs", [])):
        asked = attempt(file.name, f"question {i}", partial(_question, given))
        if isinstance(asked, BadRecord):
            yield asked
        else:
            questions.append(asked)
    yield attempt(file.name, "image", partial(_record, entry, tuple(objects), tuple(questions), images, split))


def _content(file: Path) -> dict[str, Any]:
    entry = read_json(file)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key, []), list) for key in ("objects", "qa_pairs")):
        raise UnusableError("is not a JSON object with lists of objects and qa_pairs")
    return entry


def _object(given: dict[str, Any]) -> tuple[SceneObject, Question]:
    category = category_words(given["obj_cls"])
    corners = given.get("obj_corner")
    found = corners_box(category, corners) if corners else box(category, given["obj_coord"])
    return found, refer(given["referring_sentence"], (found,), "box")


def _question(given: dict[str, Any]) -> Question:
    answer = words(str(given["answer"]), "the answer")
    return Question(words(given["question"], "the question"), answer, "qa", str(given["type"]).strip().lower())


def _record(
    entry: dict[str, Any], objects: tuple[SceneObject, ...], questions: tuple[Question, ...], images: Images, split: str
) -> Record:
    captions = (words(entry["caption"], "the caption"),) if entry.get("caption") else ()
    image = images.find(entry["image"])
    return Record(entry["image"], (image,), SceneLabels(captions=captions, objects=objects), questions, split)
