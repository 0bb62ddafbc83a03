"""LEVIR-CC: pairs of images with five sentences on what changed.

Layout: ``LevirCCcaptions.json`` in the form of `gmrt.georsmllm.readers.captions`, and ``images/<split>/A`` (before)
and ``images/<split>/B`` (after) with files of the same name; documented at
https://github.com/Chen-Yang-Liu/LEVIR-CC-Dataset and read by
https://github.com/Chen-Yang-Liu/RSICC/blob/main/utils.py (Liu et al. 2022, doi 10.1109/TGRS.2022.3218921). An image may
have a ``changeflag``, for which no description was found: 1 is read as "something changed", 0 as "nothing did".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gmrt.georsmllm.data import Question
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers.captions import caption_items, sentences
from gmrt.georsmllm.readers.files import Images
from gmrt.georsmllm.readers.record import Outcome, Record, attempt


def read_levir_cc(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of pairs: images (before, after), captions of the change, and whether there was one."""
    file, items = caption_items(path, "LevirCCcaptions.json", split)
    images = Images(file.parent / "images")
    for i, item in enumerate(items):
        yield attempt(file.name, f"image {i}", partial(_record, item, images))


def _record(item: dict[str, Any], images: Images) -> Record:
    split, name = item["split"], item["filename"]
    answer = {0: "no", 1: "yes"}.get(item.get("changeflag", -1))
    return Record(
        name,
        (images.find(f"{split}/A/{name}"), images.find(f"{split}/B/{name}")),
        SceneLabels(captions=sentences(item)),
        (Question("did anything change?", answer, "qa", "change"),) if answer else (),
        split,
    )
