"""Labelled images for training and evaluation: records of one form, whatever file they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmrt.georsmllm.objects import SceneLabels
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.points import has_regions

if TYPE_CHECKING:  # the tasks are made of questions, so they import this module
    from gmrt.georsmllm.tasks import Measure, Request

UCM_CLASSES = {
    "agricultural": "agricultural",
    "airplane": "airplane",
    "baseballdiamond": "baseball diamond",
    "beach": "beach",
    "buildings": "buildings",
    "chaparral": "chaparral",
    "denseresidential": "dense residential",
    "forest": "forest",
    "freeway": "freeway",
    "golfcourse": "golf course",
    "harbor": "harbor",
    "intersection": "intersection",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "overpass": "overpass",
    "parkinglot": "parking lot",
    "river": "river",
    "runway": "runway",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}
"""UC Merced's folder names (Yang and Newsam 2010) in words."""

_COLUMNS = ("image", "class", "captions", "qa")
_ROWS = 16  # read at once

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLACE = re.compile(
    r"\b((left|right|top|bottom)(most)?|(upper|lower)(most)?|(?<!made )(?<!built[ -])up|above|below|diagonal|corners?"
    r"|middle|cent(er|re)|horizontal(ly)?|vertical(ly)?|north(ern)?|south(ern)?|east(ern)?|west(ern)?)\b"
)


class DatasetError(GmrtError, ValueError):
    """A dataset that cannot be read, or holds nothing that can be used."""


@dataclass(frozen=True)
class Question:
    """One request and its answer; ``task`` is "caption", "class" or "qa"; ``kind`` a finer type for the scores."""

    text: str
    answer: str
    task: str
    kind: str = ""

    @property
    def directional(self) -> bool:
        """Whether turning the image would change the answer (or the question)."""
        return has_regions(self.answer) or names_place(f"{self.text} {self.answer}")


@dataclass(frozen=True)
class Example:
    """An encoded image (JPEG or PNG bytes) or a pair of them, its name, and what is known about it.

    Of a pair ``image`` is the one before and ``after`` the other; captions and questions are about what changed.
    ``questions`` are as published; ``requests`` follow from exact labels and can each be worded in many ways;
    ``measures`` are answered by the regression head. ``labels`` holds the objects where they are known.
    """

    name: str
    image: bytes
    scene_class: str = ""
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    requests: tuple[Request, ...] = ()
    measures: tuple[Measure, ...] = ()
    after: bytes | None = None
    labels: SceneLabels | None = None


def names_place(text: str) -> bool:
    """Whether the text names a direction or a part of the image, which is another one when the image is turned."""
    return bool(_PLACE.search(text.lower()))


def class_words(name: str) -> str:
    """A class's folder name as words: ``storagetanks`` → "storage tanks", ``SeaLake`` → "sea lake"."""
    return UCM_CLASSES.get(name) or _CAMEL.sub(" ", name).replace("_", " ").lower()


class ParquetRows(Sequence[Example]):
    """Rows of a parquet file in the Hugging Face image convention with any of the fields class, captions, qa.

    A few rows are in memory at a time, however large the file is. Rows are found by reading on: ask for them in rising
    order. Raises `DatasetError` when the file is missing, is not parquet, has no ``image`` column, or has no rows.
    """

    def __init__(self, path: Path | str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = Path(path)
        if not self.path.is_file():
            raise DatasetError(f"no dataset at {path}: give a parquet file")
        try:
            with pq.ParquetFile(self.path) as file:
                names, self._count = file.schema_arrow.names, file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(f"{path} is not a readable parquet file ({error})") from None
        if "image" not in names or not self._count:
            raise DatasetError(f"{path} has no 'image' column or no rows; its columns are {names}")
        self._columns = [name for name in _COLUMNS if name in names]
        self._batches: Iterator[list[dict[str, Any]]] = iter(())
        self._first, self._rows = 0, list[dict[str, Any]]()

    def __len__(self) -> int:
        """How many rows the file has."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Return a row as an `Example`; raises IndexError behind the last one."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index < self._first or not self._rows:
            self._batches, self._first, self._rows = self._read(), 0, []
        while index >= self._first + len(self._rows):
            self._first += len(self._rows)
            self._rows = next(self._batches)
        return _example(self._rows[index - self._first], f"{self.path.name}#{index}")

    def _read(self) -> Iterator[list[dict[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(_ROWS, columns=self._columns, use_threads=False):
                    yield batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{self.path} is not a readable parquet file ({error})") from None


def read_parquet(path: Path | str) -> list[Example]:
    """Read all of a parquet file; see `ParquetRows` for what it holds and what is raised."""
    rows = ParquetRows(path)
    return [rows[index] for index in range(len(rows))]


def _example(row: dict[str, Any], where: str) -> Example:
    image = row["image"]
    if not isinstance(image, dict) or not image.get("bytes"):
        raise DatasetError(f"{where}: 'image' holds no bytes; store the encoded file, as Hugging Face does")
    return Example(
        name=str(image.get("path") or where),
        image=image["bytes"],
        scene_class=class_words(row["class"]) if row.get("class") else "",
        captions=tuple(row.get("captions") or ()),
        questions=tuple(
            Question(qa["question"], qa["answer"], "qa", qa.get("type") or question_kind(qa["question"]))
            for qa in row.get("qa") or ()
        ),
    )


def question_kind(question: str) -> str:
    """Type of a question that has none given, from its words: count, location, theme, presence or other."""
    text = question.lower()
    starts = {
        "how many": "count",
        "what is the location": "location",
        "what is the theme": "theme",
        "does this": "presence",
    }
    return next((kind for start, kind in starts.items() if text.startswith(start)), "other")


def tokenizer_texts(examples: Sequence[Example]) -> Iterator[str]:
    """Everything that the tokenizer should know: what the examples say, and every word of requests and conditions."""
    from gmrt.georsmllm.lexicon import lexicon

    for example in examples:
        yield from example.captions
        yield example.scene_class
        for question in example.questions:
            yield question.text
            yield question.answer
        for request in example.requests:
            yield request.wordings[0]
            yield request.answer
        yield from (measure.name for measure in example.measures)
    for text in lexicon():
        for _ in range(20):  # words that the data hold rarely are whole words, too
            yield text
