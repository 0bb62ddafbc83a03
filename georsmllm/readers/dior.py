"""DIOR and DIOR-RSVG: a Pascal VOC XML file for each image.

Layout of DIOR: ``Annotations/Horizontal Bounding Boxes/00001.xml`` (or ``Annotations/Oriented Bounding Boxes``, or
``Annotations`` itself), images in ``JPEGImages-trainval`` and ``JPEGImages-test``, names of a split's images in
``ImageSets/Main/<split>.txt``. An object has a ``name`` and a ``bndbox`` (``xmin`` … ``ymax``), or a ``robndbox`` of
four corners (``x_left_top`` …). As read by https://github.com/open-mmlab/mmrotate/blob/main/mmrotate/datasets/dior.py
and https://github.com/microsoft/torchgeo/blob/main/torchgeo/datasets/dior.py (Li et al. 2020, arXiv 1909.00133).

Layout of DIOR-RSVG: ``Annotations/00001.xml`` with a ``description`` in each object, ``JPEGImages/00001.jpg``, and
``<split>.txt`` with the numbers of its objects, counted from 0 through all files. Documented at
https://github.com/ZhanYang-nwpu/RSVG-pytorch (Zhan et al. 2023, doi 10.1109/TGRS.2023.3250471). Its ``data_loader.py``
counts in the order in which the operating system lists the files; here, as on the authors' system, in order of name.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.readers.files import Images, category_words, check_split, read_text
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt, refer
from gmrt.georsmllm.readers.shapes import Size, box, corners_box, numbers
from gmrt.georsmllm.readers.sheets import Entry, Sheet, read_sheet, sheet_records

_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)


def read_dior(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records with boxes, or rotated boxes where the horizontal ones are not there."""
    splits = {file.stem: file for file in (path / "ImageSets" / "Main").glob("*.txt")}
    check_split(split, splits, path)
    wanted = None if split is None else read_text(splits[split]).split()
    annotations = path / "Annotations"
    folders = [annotations / "Horizontal Bounding Boxes", annotations / "Oriented Bounding Boxes", annotations]
    files = _xml_files(next((folder for folder in folders if folder.is_dir()), annotations))
    images = Images(path)
    found = {file.stem: file for file in files}
    sheets: list[Sheet | BadRecord] = []
    for stem in found if wanted is None else wanted:
        if stem in found:
            sheets.append(attempt(found[stem].name, "image", partial(_sheet, found[stem], images, split or "")))
        else:
            sheets.append(BadRecord(f"{split}.txt", stem, "there is no annotation file of this name"))
    return sheet_records(sheets)


def read_dior_rsvg(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records with boxes and the phrases that refer to them; objects without a phrase are in the images too."""
    splits = {file.stem: file for file in path.glob("*.txt") if file.stem in ("train", "val", "test")}
    check_split(split, splits, path)
    wanted = None if split is None else set(_numbers(splits[split]))
    images = Images(path / "JPEGImages")
    count = 0
    for file in _xml_files(path / "Annotations"):
        root = attempt(file.name, "file", partial(_root, file))
        if isinstance(root, BadRecord):
            yield root
            continue
        elements = list(enumerate(root.iter("object"), start=count))
        count += len(elements)
        chosen = [element for number, element in elements if wanted is None or number in wanted]
        if chosen:
            yield from _phrases(file, root, chosen, images, split or "")
    for number in sorted(wanted or ()):
        if not 0 <= number < count:
            yield BadRecord(f"{split}.txt", f"object {number}", f"there are {count} objects, counted from 0")


def _numbers(file: Path) -> list[int]:
    try:
        return [int(number) for number in read_text(file).split()]
    except ValueError as error:
        raise DatasetError(f"{file} does not hold one object's number a line ({error})") from None


def _xml_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DatasetError(f"{folder} holds no XML files: docs/datasets.md shows the layout")
    return files


def _root(file: Path) -> ET.Element:
    try:
        return ET.fromstring(read_text(file))
    except ET.ParseError as error:
        raise UnusableError(f"is not valid XML ({error})") from None


def _text(element: ET.Element, tag: str) -> str:
    found = element.findtext(tag)
    if found is None or not found.strip():
        raise UnusableError(f"has no <{tag}>")
    return found.strip()


def _size(root: ET.Element) -> Size:
    width, height = numbers([_text(root, "size/width"), _text(root, "size/height")], 2)
    if width < 1 or height < 1:
        raise UnusableError(f"an image of {width:g} × {height:g} is not possible")
    return width, height


def _object(element: ET.Element, size: Size) -> tuple[SceneObject, bool]:
    category = category_words(_text(element, "name"))
    difficult = (element.findtext("difficult") or "0").strip() != "0"
    corners = element.find("robndbox")
    if corners is not None:
        return corners_box(category, [_text(corners, tag) for tag in _CORNERS], size), difficult
    sides = [_text(element, f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
    return box(category, sides, size), difficult


def _sheet(file: Path, images: Images, split: str) -> Sheet:
    root = _root(file)
    size = _size(root)
    entries: list[Entry] = [
        (f"object {i}", partial(_object, element, size)) for i, element in enumerate(root.iter("object"))
    ]
    name = _text(root, "filename")
    return read_sheet(file.name, name, images.find(name), entries, split)


def _phrases(file: Path, root: ET.Element, chosen: list[ET.Element], images: Images, split: str) -> Iterator[Outcome]:
    image = attempt(file.name, "image", lambda: (_text(root, "filename"), images.find(_text(root, "filename"))))
    if isinstance(image, BadRecord):
        yield image
        return
    found: list[tuple[SceneObject, Question]] = []
    for element in chosen:
        made = attempt(file.name, f"object {element.findtext('description')!r}", partial(_phrase, element, root))
        if isinstance(made, BadRecord):
            yield made
        else:
            found.append(made)
    if found:
        labels = SceneLabels(objects=tuple(found_object for found_object, _ in found))
        yield Record(image[0], (image[1],), labels, tuple(question for _, question in found), split)


def _phrase(element: ET.Element, root: ET.Element) -> tuple[SceneObject, Question]:
    found, _ = _object(element, _size(root))
    return found, refer(_text(element, "description"), (found,), "box")
