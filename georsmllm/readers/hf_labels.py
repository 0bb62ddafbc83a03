"""How Hugging Face datasets write class labels and objects inside a parquet file."""

from __future__ import annotations

import json
from typing import Any

from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.readers.files import category_words
from gmrt.georsmllm.readers.record import UnusableError
from gmrt.georsmllm.readers.shapes import Size, box, numbers

Names = dict[str, list[str]]
"""Class names by the column, or field of ``objects``, whose numbers stand for them."""

Given = tuple[str, Any, Any, bool]
"""An object of a row: the field of its category, its category, its box, whether the box is x, y, width, height."""


def class_names(metadata: dict[bytes, bytes]) -> Names:
    """Names of the ClassLabel features in a parquet schema's metadata. Raises `DatasetError`."""
    names: Names = {}

    def walk(key: str, feature: Any) -> None:
        for value in feature if isinstance(feature, list) else ():
            walk(key, value)
        if isinstance(feature, dict):
            if feature.get("_type") == "ClassLabel":
                names[key] = [str(name) for name in feature.get("names") or ()]
            for inner, value in feature.items():
                walk(key if inner == "feature" else inner, value)

    try:
        walk("", json.loads(metadata.get(b"huggingface", b"{}")))
    except ValueError as error:
        raise DatasetError(f"the Hugging Face metadata of the file are not valid JSON ({error})") from None
    return names


def label_text(value: Any, key: str, names: Names) -> str:
    """The name of a label that is text, or a number of the ClassLabel ``key``."""
    if isinstance(value, int):
        table = names.get(key, [])
        if not 0 <= value < len(table):
            raise UnusableError(f"{key} {value} has no name in the file's metadata")
        return table[value]
    if not isinstance(value, str):
        raise UnusableError(f"{key} is neither text nor a number with a name: {value!r}")
    return value


def given_objects(objects: Any) -> list[Given]:
    """The objects of a row, in this project's form (a list of structs) or in Hugging Face's (a struct of lists)."""
    if not isinstance(objects, dict):
        return [("label", entry["label"], entry["bbox"], False) for entry in objects or ()]
    key = next((key for key in ("category", "categories", "label") if key in objects), "category")
    return [(key, *pair, True) for pair in zip(objects[key] or (), objects["bbox"] or (), strict=True)]


def build_object(given: Given, names: Names, size: Size) -> tuple[SceneObject, bool]:
    """The object in 0…1 of an image of ``size`` pixels; none is marked difficult."""
    key, label, sides, is_coco = given
    a, b, c, d = numbers(sides, 4)
    if is_coco and min(c, d) <= 0:
        raise UnusableError(f"a box of {c:g} × {d:g} has no area")
    corners = (a, b, a + c, b + d) if is_coco else (a, b, c, d)
    return box(category_words(label_text(label, key, names)), corners, size), False
