"""EuroSAT, AID and NWPU-RESISC45: a folder of images for each scene class.

Layout: ``<root>/<Class>/<image>``: ``2750/AnnualCrop/AnnualCrop_1.jpg`` (EuroSAT, RGB;
https://github.com/phelber/EuroSAT, Helber et al. 2019), ``AID/Airport/airport_1.jpg``
(https://captain-whu.github.io/AID/, Xia et al. 2017) and ``NWPU-RESISC45/airplane/airplane_001.jpg`` (Cheng et al.
2017, doi 10.1109/JPROC.2017.2675998). Class names as listed by https://github.com/microsoft/torchgeo
(``torchgeo/datasets/eurosat.py``, ``resisc45.py``); AID's as in https://huggingface.co/datasets/blanchon/AID. A root
that holds nothing but one folder of class folders is stepped into.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gmrt.georsmllm.data import DatasetError, class_words
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers.files import is_image
from gmrt.georsmllm.readers.record import Outcome, Record, UnusableError, attempt


def read_folders(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of images with their class in words; these sets name no splits of their own."""
    del split
    classes = _folders(path)
    while len(classes) == 1 and _folders(classes[0]):
        classes = _folders(classes[0])
    if len(classes) < 2:
        raise DatasetError(
            f"{path} holds no class folders: give the folder that has one folder of images for each class"
        )
    for folder in classes:
        for image in sorted(folder.iterdir()):
            name = f"{folder.name}/{image.name}"
            yield attempt(folder.name, image.name, partial(_record, name, image, class_words(folder.name)))


def _folders(path: Path) -> list[Path]:
    inside = path.iterdir() if path.is_dir() else ()
    return sorted(folder for folder in inside if folder.is_dir() and not folder.name.startswith("."))


def _record(name: str, image: Path, scene_class: str) -> Record:
    if not is_image(image) or not image.is_file():
        raise UnusableError("is not an image file")
    if image.stat().st_size == 0:
        raise UnusableError("is an empty file")
    return Record(name, (image,), SceneLabels(scene_class=scene_class))
