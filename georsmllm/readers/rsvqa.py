"""RSVQA, low and high resolution: questions, answers and images in three JSON files a split.

Layout: ``<set>_split_<split>_{images,questions,answers}.json`` (or without ``split`` in the name), each ``{"images":
[{"id", "active", "questions_ids", …}]}``, ``{"questions": [{"id", "img_id", "type", "question", "answers_ids",
"active"}]}`` and ``{"answers": [{"id", "answer", "active"}]}``; entries that are not active carry nothing else. An
image is ``<id>.tif`` in ``Images_LR`` (LR) or ``Data`` (HR). Documented at
https://github.com/syvlo/RSVQA/blob/master/AutomaticDB/DataSpecification.md and read by ``VQA_model/VQALoader.py``
there (Lobry et al. 2020, arXiv 2003.07333); the file names are those of
https://github.com/isaaccorley/torchrs/blob/main/torchrs/datasets/rsvqa.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.readers.files import Images, check_split, listed, read_json
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt, words


def read_rsvqa(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of a split, or of all of them; files of no split (``all_…``) count when there is no other."""
    if not path.is_dir():
        raise DatasetError(
            f"{path} is no folder: give the folder of RSVQA's *images.json, *questions.json, *answers.json"
        )
    prefixes = {_split(file): file.name.removesuffix("images.json") for file in sorted(path.glob("*images.json"))}
    if not prefixes:
        raise DatasetError(f"{path} holds no *images.json: give the folder of RSVQA's three files a split")
    named = {name: prefix for name, prefix in prefixes.items() if name} or prefixes
    check_split(split, named, path)
    images = Images(path)
    for name, prefix in named.items():
        if split in (None, name):
            yield from _read_split(path, prefix, name, images)


def _split(file: Path) -> str:
    """``LR_split_train_images.json`` → "train"; a name without ``split`` has none."""
    parts = file.stem.split("_")
    return "_".join(parts[parts.index("split") + 1 : -1]) if "split" in parts else ""


def _read_split(folder: Path, prefix: str, split: str, images: Images) -> Iterator[Outcome]:
    files = {kind: folder / f"{prefix}{kind}.json" for kind in ("images", "questions", "answers")}
    tables = {kind: listed(read_json(file), kind, file) for kind, file in files.items()}
    answers = {str(entry.get("id")): entry for entry in tables["answers"] if isinstance(entry, dict)}
    asked: dict[str, list[Question]] = {}
    for i, entry in enumerate(tables["questions"]):
        found = attempt(files["questions"].name, f"question {i}", partial(_question, entry, answers))
        if isinstance(found, BadRecord):
            yield found
        elif found:
            asked.setdefault(found[0], []).append(found[1])
    for i, entry in enumerate(tables["images"]):
        made = attempt(files["images"].name, f"image {i}", partial(_record, entry, asked, images, split))
        if made:
            yield made


def _question(entry: dict[str, Any], answers: dict[str, dict[str, Any]]) -> tuple[str, Question] | None:
    if not entry["active"]:
        return None
    number = str(entry["answers_ids"][0])
    if number not in answers:
        raise UnusableError(f"its answer {number} is not in the file of answers")
    answer = str(answers[number]["answer"])
    text = words(entry["question"], "the question")
    return str(entry["img_id"]), Question(text, words(answer, "the answer"), "qa", str(entry["type"]))


def _record(entry: dict[str, Any], asked: dict[str, list[Question]], images: Images, split: str) -> Record | None:
    name = str(entry["id"])
    if not entry["active"] or name not in asked:
        return None
    return Record(name, (images.find(name),), questions=tuple(asked[name]), split=split)
