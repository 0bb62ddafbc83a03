"""UCM-Captions and RSICD: one JSON file of images with five sentences each.

Layout (the Karpathy form of image captioning): ``{"images": [{"filename": "1.tif", "split": "train", "sentences":
[{"raw": "…", "tokens": […]}, …]}, …]}``, named ``dataset.json`` for UCM-Captions and ``dataset_rsicd.json`` for
RSICD, with the images in a folder beside it. As read by
https://github.com/isaaccorley/torchrs/blob/main/torchrs/datasets/rsicd.py and ``ucm_captions.py`` there; the data:
https://github.com/201528014227051/RSICD_optimal (Lu et al. 2017, arXiv 1712.07835; Qu et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers.files import Images, check_split, listed, only, read_json
from gmrt.georsmllm.readers.record import Outcome, Record, UnusableError, attempt, words


def read_captions(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of a captions file, given itself or by its folder."""
    file, items = caption_items(path, "dataset*.json", split)
    images = Images(file.parent)
    for i, item in enumerate(items):
        yield attempt(file.name, f"image {i}", partial(_record, item, images))


def caption_items(path: Path, pattern: str, split: str | None) -> tuple[Path, list[Any]]:
    """The captions file at or in ``path``, and its images of ``split``. Raises `DatasetError`."""
    file = path if path.is_file() else only(path, pattern)
    items = listed(read_json(file), "images", file)
    check_split(split, (str(item.get("split", "")) for item in items if isinstance(item, dict)), file)
    return file, [item for item in items if split is None or not isinstance(item, dict) or item.get("split") == split]


def sentences(item: dict[str, Any]) -> tuple[str, ...]:
    """The sentences of an image as published. Raises `UnusableError` when there is none."""
    raw = tuple(words(sentence["raw"], "a sentence") for sentence in item["sentences"])
    if not raw:
        raise UnusableError(f"{item['filename']} has no sentence")
    return raw


def _record(item: dict[str, Any], images: Images) -> Record:
    labels = SceneLabels(captions=sentences(item))
    return Record(item["filename"], (images.find(item["filename"]),), labels, split=str(item.get("split", "")))
