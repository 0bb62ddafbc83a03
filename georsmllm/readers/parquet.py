"""Hugging Face parquet files: an ``image`` column of encoded files, and columns of labels.

Layout: ``image`` = struct {``bytes``, ``path``}, and any of ``class`` (text), ``label`` (a ClassLabel, its names in
the file's metadata), ``captions`` (texts), ``qa`` (``question``, ``answer``, ``type``), ``objects``: either structs
of ``label`` and ``bbox`` x0, y0, x1, y1 in pixels, or the Hugging Face form, a struct of lists ``bbox`` x, y, width,
height (COCO) and ``category``. The first is this project's own convention; the second is documented at
https://huggingface.co/docs/datasets/object_detection, the image column at
https://huggingface.co/docs/datasets/image_dataset. The files ``<split>-00000-of-….parquet`` of a folder are read
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import DatasetError, Question, class_words, question_kind
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers.files import check_split, image_size
from gmrt.georsmllm.readers.hf_labels import Names, build_object, class_names, given_objects, label_text
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt, words
from gmrt.georsmllm.readers.sheets import Entry, Sheet, occurring, read_sheet


def read_hf_parquet(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of a file, or of the files below a folder, row by row; the images stay encoded."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise DatasetError(f"{path} holds no *.parquet: give a parquet file or a folder of them")
    check_split(split, (_split(file) for file in files), path)
    for file in files:
        if split in (None, _split(file)):
            yield from _read_file(file)


def _split(file: Path) -> str:
    """``train-00000-of-00002.parquet`` → "train", ``ucm-train.parquet`` → "ucm-train"."""
    name, _, rest = file.stem.partition("-")
    return name if rest[:1].isdigit() else file.stem


def _read_file(file: Path) -> Iterator[Outcome]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if "image" not in columns:
                raise DatasetError(f"{file} has no 'image' column; its columns are {', '.join(columns)}")
            names = class_names(table.schema_arrow.metadata or {})
            rows = table.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{file} is not a readable parquet file ({error})") from None
    sheets = [
        attempt(file.name, f"row {i}", partial(_sheet, file, f"row {i}", row, names)) for i, row in enumerate(rows)
    ]
    known = occurring(sheets)
    for i, (row, sheet) in enumerate(zip(rows, sheets, strict=True)):
        if isinstance(sheet, BadRecord):
            yield sheet
            continue
        yield from sheet.bad
        exhaustive = frozenset() if row.get("objects") is None else sheet.countable(known)
        yield attempt(file.name, f"row {i}", partial(_record, row, sheet, names, exhaustive))


def _sheet(file: Path, where: str, entry: dict[str, Any], names: Names) -> Sheet:
    image = entry["image"]["bytes"] if isinstance(entry["image"], dict) else None
    if not image:
        raise UnusableError("'image' holds no bytes: store the encoded file, as Hugging Face does")
    given = given_objects(entry.get("objects"))
    size = image_size(image) if given else (1.0, 1.0)
    entries: list[Entry] = [
        (f"{where}, object {i}", partial(build_object, found, names, size)) for i, found in enumerate(given)
    ]
    return read_sheet(
        file.name, str(entry["image"].get("path") or f"{file.name}#{where}"), image, entries, _split(file)
    )


def _record(entry: dict[str, Any], sheet: Sheet, names: Names, exhaustive: frozenset[str]) -> Record:
    label = entry["class"] if entry.get("class") is not None else entry.get("label")
    key = "class" if entry.get("class") is not None else "label"
    labels = SceneLabels(
        scene_class="" if label is None else class_words(label_text(label, key, names)),
        captions=tuple(words(caption, "a caption") for caption in entry.get("captions") or ()),
        objects=sheet.objects,
        exhaustive=exhaustive,
    )
    questions = tuple(_question(qa) for qa in entry.get("qa") or ())
    return Record(sheet.name, (sheet.image,), labels, questions, sheet.split)


def _question(qa: dict[str, Any]) -> Question:
    text = words(qa["question"], "the question")
    return Question(text, words(qa["answer"], "the answer"), "qa", qa.get("type") or question_kind(text))
