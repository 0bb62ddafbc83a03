"""Readers for the field's public datasets, each in the layout in which it is published.

`read` takes a reader's name and the place of the data and gives records of one form (`gmrt.georsmllm.readers.record`).
Images are found while listing, not decoded. What cannot be used is named and counted, and skipped only up to a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.readers.captions import read_captions
from gmrt.georsmllm.readers.dior import read_dior, read_dior_rsvg
from gmrt.georsmllm.readers.dota import read_dota
from gmrt.georsmllm.readers.folders import read_folders
from gmrt.georsmllm.readers.geochat import read_geochat
from gmrt.georsmllm.readers.levircc import read_levir_cc
from gmrt.georsmllm.readers.parquet import read_hf_parquet
from gmrt.georsmllm.readers.record import BadRecord, ImageSource, Outcome, ReadResult, Record, load, to_example
from gmrt.georsmllm.readers.rrsisd import read_rrsis_d
from gmrt.georsmllm.readers.rsivqa import read_rsivqa
from gmrt.georsmllm.readers.rsvqa import read_rsvqa
from gmrt.georsmllm.readers.vrsbench import read_vrsbench
from gmrt.georsmllm.readers.yolo import read_yolo

__all__ = ["READERS", "BadRecord", "ImageSource", "ReadResult", "Reader", "Record", "load", "read", "to_example"]

_SHOWN = 5  # bad records in an error's text


@dataclass(frozen=True)
class Reader:
    """A reader: what goes through a dataset, what its path must be, and whether the layout names splits."""

    outcomes: Callable[[Path, str | None], Iterator[Outcome]]
    path: str
    has_splits: bool = True


READERS: dict[str, Reader] = {
    "ucm-captions": Reader(read_captions, "dataset.json or the folder of it and the images"),
    "rsicd": Reader(read_captions, "dataset_rsicd.json or the folder of it and the images"),
    "rsvqa": Reader(read_rsvqa, "the folder of *images.json, *questions.json, *answers.json and the images"),
    "rsivqa": Reader(read_rsivqa, "the text file, or the folder of text files, beside or above the images", False),
    "eurosat": Reader(read_folders, "the folder of class folders", False),
    "aid": Reader(read_folders, "the folder of class folders", False),
    "resisc45": Reader(read_folders, "the folder of class folders", False),
    "dior": Reader(read_dior, "the folder of Annotations, JPEGImages-… and ImageSets"),
    "dior-rsvg": Reader(read_dior_rsvg, "the folder of Annotations, JPEGImages and train.txt"),
    "dota": Reader(read_dota, "the folder of images and labelTxt, or of train and val"),
    "yolo": Reader(read_yolo, "data.yaml or its folder"),
    "rrsis-d": Reader(read_rrsis_d, "the folder of rrsisd and images"),
    "vrsbench": Reader(read_vrsbench, "the folder of Annotations_… and Images_…"),
    "geochat": Reader(read_geochat, "GeoChat_Instruct.json or the folder of it and the images", False),
    "levir-cc": Reader(read_levir_cc, "LevirCCcaptions.json or the folder of it and images"),
    "parquet": Reader(read_hf_parquet, "a parquet file or a folder of them"),
}


def read(name: str, path: Path | str, *, split: str | None = None, limit_bad: int | None = None) -> ReadResult:
    """Read the dataset at ``path`` with the reader ``name``, one of `READERS`; ``split`` as the dataset calls it.

    Up to ``limit_bad`` unusable entries are skipped, and listed in the result; by default 10, or 1 % of all labels
    (objects, captions, questions; an image without any counts as one) where that is more. Raises `DatasetError` beyond
    the limit, naming the first few, and when a file that the layout needs is missing or nothing usable is found.
    """
    reader = READERS.get(name)
    if reader is None:
        raise DatasetError(f"there is no reader {name!r}: choose one of {', '.join(READERS)}")
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"there is nothing at {path}: {name} wants {reader.path} (see docs/datasets.md)")
    if split is not None and not reader.has_splits:
        raise DatasetError(f"{name} names no splits, so {split!r} cannot be chosen: leave it out and split the records")
    records: list[Record] = []
    bad: list[BadRecord] = []
    try:
        for outcome in reader.outcomes(path, split):
            if isinstance(outcome, BadRecord):
                bad.append(outcome)
            else:
                records.append(outcome)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read with {name} ({error.strerror}: {error.filename})") from None
    allowed = max(10, (sum(record.items for record in records) + len(bad)) // 100) if limit_bad is None else limit_bad
    first = "; ".join(str(entry) for entry in bad[:_SHOWN])
    if len(bad) > allowed:
        raise DatasetError(
            f"{len(bad)} entries of {path} cannot be used, and at most {allowed} may be skipped: {first}"
            f"{'; …' if len(bad) > _SHOWN else ''}. Mend the data, or raise limit_bad"
        )
    if not records:
        raise DatasetError(f"{path} holds nothing that {name} can use{': ' if first else ''}{first}")
    return ReadResult(tuple(records), tuple(bad))
