"""DOTA: a text file of rotated boxes for each image.

Layout: ``images/P0003.png`` and ``labelTxt/P0003.txt``, in the given folder or in ``train`` and ``val`` below it. A
label file may open with ``imagesource:…`` and ``gsd:…``; each further line is ``x1 y1 x2 y2 x3 y3 x4 y4 category
difficulty`` in pixels, the corners in order round the object, the difficulty 0 or 1 and sometimes absent. As described
by https://github.com/microsoft/torchgeo/blob/main/torchgeo/datasets/dota.py and
https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/dota.html; checked against the label files
in https://github.com/CAPTAIN-WHU/DOTA_devkit/tree/master/example (Xia et al. 2018, arXiv 1711.10398).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.readers.files import Images, category_words, check_split, image_size, read_text
from gmrt.georsmllm.readers.record import Outcome, UnusableError, attempt
from gmrt.georsmllm.readers.shapes import Size, corners_box
from gmrt.georsmllm.readers.sheets import Entry, Sheet, read_sheet, sheet_records

_HEADER = ("imagesource:", "gsd:")


def read_dota(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records with rotated boxes; what is marked difficult is left out, and its category not counted on."""
    if (path / "labelTxt").is_dir():
        check_split(split, (), path)
        folders = {"": path}
    else:
        inside = path.iterdir() if path.is_dir() else ()
        folders = {folder.name: folder for folder in sorted(inside) if (folder / "labelTxt").is_dir()}
        check_split(split, folders, path)
    if not folders:
        raise DatasetError(
            f"{path} holds no labelTxt folder: give the folder of images/ and labelTxt/, or of train/ and val/"
        )
    sheets = []
    for name, folder in folders.items():
        if split in (None, name):
            images = Images(folder / "images")
            files = sorted((folder / "labelTxt").glob("*.txt"))
            sheets += [attempt(file.name, "image", partial(_sheet, file, images, name)) for file in files]
    return sheet_records(sheets)


def _sheet(file: Path, images: Images, split: str) -> Sheet:
    image = images.find(file.stem)
    size = image_size(image)
    return read_sheet(file.name, file.stem, image, _entries(file, size), split)


def _entries(file: Path, size: Size) -> Iterator[Entry]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip() and not line.startswith(_HEADER):
            yield f"line {number}", partial(_object, line.split(), size)


def _object(parts: list[str], size: Size) -> tuple[SceneObject, bool]:
    if len(parts) not in (9, 10):
        raise UnusableError(f"has {len(parts)} fields, not eight coordinates, a category and a difficulty")
    return corners_box(category_words(parts[8]), parts[:8], size), parts[9:] not in ([], ["0"])
