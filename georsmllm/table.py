"""A user's own data: a folder of images and a CSV table of what is known about them.

The table has a header and the columns ``image`` (a path below the folder) and any of ``caption``, ``class``, and
``question`` with ``answer``; several rows about one image add up::

    image,caption,class,question,answer
    harbour.tif,a harbour with many boats,harbour,how many piers are there?,4
    harbour.tif,boats are moored along four piers,,,
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from gmrt.georsmllm.data import DatasetError, Question, class_words, question_kind
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers.files import image_size, read_text
from gmrt.georsmllm.readers.record import Record, UnusableError

COLUMNS = ("image", "caption", "class", "question", "answer")
"""The columns that a table may have; the first must be there."""


def read_table(file: Path, folder: Path) -> tuple[Record, ...]:
    """Read the table and find its images, in the order of their first rows.

    Raises `DatasetError` when the table has no usable header or no rows, and one that names every bad row: an image
    that is not there or cannot be opened, nothing said about it, a question without its answer, a second class.
    """
    rows = csv.reader(read_text(file).splitlines(keepends=True), skipinitialspace=True)
    header = [name.strip().lower() for name in next(rows, [])]
    if "image" not in header or len(set(header)) < len(header) or not set(header) <= set(COLUMNS) or len(header) < 2:
        raise DatasetError(
            f"{file} must open with a line of column names, such as 'image,caption' (of {', '.join(COLUMNS)}), "
            f"separated by commas: it has {','.join(header)!r}"
        )
    entries: dict[str, _Entry] = {}
    bad: list[str] = []
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            _add(dict(_filled(header, cells)), folder, entries)
        except UnusableError as error:
            bad.append(f"line {rows.line_num}: {error}")
    if bad:
        raise DatasetError(f"{file} has {len(bad)} rows that cannot be used: {'; '.join(bad)}")
    if not entries:
        raise DatasetError(f"{file} has no rows below its line of column names")
    return tuple(entry.record(name) for name, entry in entries.items())


class _Entry:
    """What the rows read so far say about one image."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scene_class = ""
        self.captions: list[str] = []
        self.questions: list[Question] = []

    def record(self, name: str) -> Record:
        labels = SceneLabels(scene_class=self.scene_class, captions=tuple(dict.fromkeys(self.captions)))
        return Record(name, (self.path,), labels, tuple(self.questions))


def _filled(header: list[str], cells: list[str]) -> Iterable[tuple[str, str]]:
    if len(cells) > len(header):
        raise UnusableError(
            f"has {len(cells)} values for {len(header)} columns; a text with a comma stands in double quotes"
        )
    return ((name, " ".join(cell.split())) for name, cell in zip(header, cells, strict=False) if cell.strip())


def _add(row: dict[str, str], folder: Path, entries: dict[str, _Entry]) -> None:
    name = row.pop("image", "")
    if not name:
        raise UnusableError("names no image")
    if not row:
        raise UnusableError(f"says nothing about {name}")
    if ("question" in row) != ("answer" in row):
        raise UnusableError(f"has a question without its answer, or the reverse ({name})")
    scene_class = class_words(row.get("class", ""))
    known = entries.get(name) or _Entry(_find(folder, name))
    if scene_class and known.scene_class not in ("", scene_class):
        raise UnusableError(f"says that {name} is {scene_class!r}, and an earlier line {known.scene_class!r}")
    entries[name] = known
    known.scene_class = known.scene_class or scene_class
    if "caption" in row:
        known.captions.append(row["caption"])
    if "question" in row:
        known.questions.append(Question(row["question"], row["answer"], "qa", question_kind(row["question"])))


def _find(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UnusableError(f"there is no image {name} in {folder}")
    image_size(path)  # raises UnusableError for what is no image
    return path
