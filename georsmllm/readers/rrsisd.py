"""RRSIS-D: phrases that refer to masks, in the form of RefCOCO.

Layout: ``rrsisd/refs(unc).p`` (a pickled list of ``{"ref_id", "ann_id", "image_id", "category_id", "split",
"sentences": [{"sent": "…"}]}``), ``rrsisd/instances.json`` (COCO: ``images``, ``annotations`` with ``segmentation``,
``categories``) and ``images/rrsisd/JPEGImages/*.jpg``. Documented at https://github.com/Lsan2401/RMSIN
(``README.md``, ``refer/refer.py``; Liu et al. 2024, arXiv 2312.12470). The pickle is read with nothing but plain
lists, dicts, numbers and text allowed in it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.readers.files import Images, category_words, check_split, listed, only, read_json
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt, refer
from gmrt.georsmllm.readers.shapes import segmentation


def read_rrsis_d(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records with the referred objects as polygons, one question a sentence."""
    folder = path / "rrsisd" if (path / "rrsisd").is_dir() else path
    refs_file, file = only(folder, "refs(*).p", "refs*.p"), folder / "instances.json"
    refs = _load_refs(refs_file)
    check_split(split, (str(ref.get("split", "")) for ref in refs if isinstance(ref, dict)), refs_file)
    instances = read_json(file)
    tables = {kind: _by_id(listed(instances, kind, file)) for kind in ("images", "annotations", "categories")}
    images = Images(path)
    asked: dict[Any, list[tuple[SceneObject, tuple[Question, ...]]]] = {}
    splits: dict[Any, str] = {}
    for i, ref in enumerate(refs):
        if split is not None and isinstance(ref, dict) and ref.get("split") != split:
            continue
        found = attempt(refs_file.name, f"ref {i}", partial(_referred, ref, tables))
        if isinstance(found, BadRecord):
            yield found
            continue
        asked.setdefault(ref["image_id"], []).append(found)
        splits[ref["image_id"]] = str(ref.get("split", ""))
    for number, found_here in asked.items():
        build = partial(_record, tables["images"][number], found_here, images, splits[number])
        yield attempt(file.name, f"image {number}", build)


def _by_id(entries: list[Any]) -> dict[Any, dict[str, Any]]:
    return {
        entry["id"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), (int, str))
    }


class _PlainUnpickler(pickle.Unpickler):
    """A pickle may run code when it names anything to import: refuse every name."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _load_refs(file: Path) -> list[Any]:
    try:
        refs = _PlainUnpickler(io.BytesIO(file.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{file} is not a pickle of plain lists and dicts ({error}), and no other is read") from None
    return listed(refs, None, file)


def _referred(ref: dict[str, Any], tables: dict[str, dict[Any, Any]]) -> tuple[SceneObject, tuple[Question, ...]]:
    annotation = _entry(tables, "annotations", ref["ann_id"])
    image = _entry(tables, "images", ref["image_id"])
    category = category_words(_entry(tables, "categories", annotation["category_id"])["name"])
    found = segmentation(category, annotation["segmentation"], (float(image["width"]), float(image["height"])))
    questions = tuple(refer(sentence["sent"], (found,), "poly") for sentence in ref["sentences"])
    if not questions:
        raise UnusableError("has no sentence")
    return found, questions


def _entry(tables: dict[str, dict[Any, Any]], kind: str, number: Any) -> Any:
    if number not in tables[kind]:
        raise UnusableError(f"instances.json has no {kind} entry {number!r}")
    return tables[kind][number]


def _record(
    image: dict[str, Any], found: list[tuple[SceneObject, tuple[Question, ...]]], images: Images, split: str
) -> Record:
    labels = SceneLabels(objects=tuple(scene_object for scene_object, _ in found))
    questions = tuple(question for _, questions in found for question in questions)
    return Record(image["file_name"], (images.find(image["file_name"]),), labels, questions, split)
