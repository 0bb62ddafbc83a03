"""Finding and opening the files of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import DatasetError, class_words
from gmrt.georsmllm.readers.record import ImageSource, UnusableError
from gmrt.runtime.errors import GmrtError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_JOINED = {
    "baseballfield": "baseball field",
    "basketballcourt": "basketball court",
    "golffield": "golf field",
    "groundtrackfield": "ground track field",
    "othervehicle": "other vehicle",
    "storagetank": "storage tank",
    "tenniscourt": "tennis court",
    "trainstation": "train station",
}
"""Categories that DIOR and HIT-UAV write without a space."""


class Images:
    """The image files below a folder, found by path, by file name, or by name without ending."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _SUFFIXES and path.is_file():
                for key in {path.name, path.stem}:
                    self._found.setdefault(key, []).append(path)

    def find(self, name: str) -> Path:
        """The one image whose path below the folder is or ends with ``name``.

        Raises `UnusableError` when there is none, or more than one.
        """
        ending = "/" + name.strip("/")
        candidates = self._found.get(ending.rsplit("/", 1)[-1], [])
        places = {f"/{path.relative_to(self._folder).as_posix()}": path for path in candidates}
        if ending in places:
            return places[ending]
        fitting = [
            path
            for place, path in places.items()
            if place.endswith(ending) or place.rpartition(".")[0].endswith(ending)
        ]
        if not fitting:
            raise UnusableError(f"there is no image {name} in {self._folder}")
        if len(fitting) > 1:
            raise UnusableError(f"{len(fitting)} images in {self._folder} are called {name}")
        return fitting[0]


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return path.suffix.lower() in _SUFFIXES


def image_size(source: ImageSource) -> tuple[float, float]:
    """Width and height in pixels, from the file's header. Raises `UnusableError` when it is no image."""
    from gmrt.runtime.raster import open_image, open_source

    try:
        with open_image(source) if isinstance(source, bytes) else open_source(source) as opened:
            return float(opened.dataset.width), float(opened.dataset.height)
    except GmrtError as error:
        raise UnusableError(str(error)) from None


def read_text(path: Path) -> str:
    """A text file's content, with or without a byte order mark. Raises `DatasetError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"no file {path}: docs/datasets.md shows where the dataset keeps it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error})") from None


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises `DatasetError`."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not valid JSON ({error}): download it again") from None


def listed(data: Any, key: str | None, path: Path) -> list[Any]:
    """The list under ``key`` of a JSON file's content, or the content itself. Raises `DatasetError`."""
    value = data.get(key) if isinstance(data, dict) and key else data
    if not isinstance(value, list):
        raise DatasetError(
            f"{path} holds no list{f' {key!r}' if key else ''}: it is not the file that docs/datasets.md shows"
        )
    return value


def only(folder: Path, *patterns: str) -> Path:
    """The one file or folder in ``folder`` that fits the first pattern with any. Raises `DatasetError`."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found[:5])
            raise DatasetError(f"{folder} holds {len(found)} of {pattern} ({names}): give the path of one of them")
    raise DatasetError(f"{folder} holds no {' or '.join(patterns)}: docs/datasets.md shows the layout")


def check_split(split: str | None, available: Iterable[str], where: Path) -> None:
    """Raise `DatasetError` when a split is asked for that is not there."""
    names = sorted(set(available))
    if split is not None and split not in names:
        raise DatasetError(f"{where} has no split {split!r}: it has {', '.join(names) or 'none'}")


def category_words(name: object) -> str:
    """An object category as published, in words: ``small-vehicle`` → "small vehicle"."""
    if not isinstance(name, str) or not name.strip():
        raise UnusableError("the category is empty or not text")
    text = " ".join(class_words(name.strip()).replace("-", " ").split())
    return _JOINED.get(text, text)
