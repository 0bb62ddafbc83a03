"""YOLO text labels, upright (5 fields a line) and oriented (9 fields a line).

Layout: ``data.yaml`` with ``names`` (a list, or numbers to names), ``train``/``val``/``test`` (folders of images
below the optional ``path``), and for each ``images/…/x.jpg`` a ``labels/…/x.txt`` of lines ``class x_centre y_centre
width height`` or ``class x1 y1 x2 y2 x3 y3 x4 y4``, all in 0…1; no label file means that the image shows none.
Documented at https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/obb/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.readers.files import category_words, check_split, is_image, only, read_text
from gmrt.georsmllm.readers.record import Outcome, UnusableError, attempt
from gmrt.georsmllm.readers.shapes import box, corners_box, numbers
from gmrt.georsmllm.readers.sheets import Entry, Sheet, read_sheet, sheet_records

_SPLITS = ("train", "val", "test")


def read_yolo(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of a data.yaml, given itself or by its folder; every image of a split, labelled or not."""
    import yaml

    file = path if path.is_file() else only(path, "data.yaml", "*.yaml")
    try:
        config = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise DatasetError(f"{file} is not valid YAML ({' '.join(str(error).split())})") from None
    names = _names(config, file)
    folders = {name: config[name] for name in _SPLITS if config.get(name)}
    check_split(split, folders, file)
    sheets = []
    for name, given in folders.items():
        if split in (None, name):
            for folder in given if isinstance(given, list) else [given]:
                images = sorted(image for image in _folder(file, config, folder).rglob("*") if is_image(image))
                sheets += [attempt(image.name, "image", partial(_sheet, image, names, name)) for image in images]
    return sheet_records(sheets, names.values())


def _names(config: Any, file: Path) -> dict[int, str]:
    names = config.get("names") if isinstance(config, dict) else None
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        table = {int(number): category_words(str(name)) for number, name in pairs}
    except ValueError as error:
        raise DatasetError(f"{file}: 'names' is not numbers to class names ({error})") from None
    if not table:
        raise DatasetError(f"{file} has no 'names': it must list the classes that the label files number")
    return table


def _folder(file: Path, config: dict[str, Any], folder: Any) -> Path:
    tried = [file.parent / str(config.get("path") or "") / str(folder), file.parent / str(folder)]
    found = next((place for place in tried if place.is_dir()), None)
    if found is None:
        raise DatasetError(f"{file} names the images {str(folder)!r}, and {tried[0]} is no folder of images")
    return found


def _sheet(image: Path, names: dict[int, str], split: str) -> Sheet:
    parts = list(image.parts)
    if "images" not in parts[:-1]:
        raise UnusableError(f"{image} is not below a folder 'images', beside which 'labels' would be")
    place = len(parts) - 1 - parts[::-1].index("images", 1)
    file = Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
    return read_sheet(file.name, image.name, image, _entries(file, names), split)


def _entries(file: Path, names: dict[int, str]) -> Iterator[Entry]:
    lines = read_text(file).splitlines() if file.exists() else ()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"line {number}", partial(_object, line.split(), names)


def _object(parts: list[str], names: dict[int, str]) -> tuple[SceneObject, bool]:
    if len(parts) not in (5, 9):
        raise UnusableError(f"has {len(parts)} fields, not 5 (upright box) or 9 (oriented box)")
    category = names.get(int(parts[0]))
    if category is None:
        raise UnusableError(f"class {parts[0]} is not in the names of data.yaml")
    if len(parts) == 9:
        return corners_box(category, parts[1:]), False
    x, y, width, height = numbers(parts[1:], 4)
    if width <= 0 or height <= 0:
        raise UnusableError(f"a box of {width:g} × {height:g} has no area")
    return box(category, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)), False
