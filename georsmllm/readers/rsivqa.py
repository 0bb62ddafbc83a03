"""RSIVQA: text files of one question a line, over the images of UCM, Sydney, AID, DOTA and HRRSD.

Layout: ``<image>:<question>?<answer>``, for example ``1.tif:How many trees in the picture?one`` or ``P0003: does this
picture contain ship?no``: with or without the image's ending. The text files are at
https://github.com/spectralpublic/RSIVQA (Zheng et al. 2021), in a folder for each source; the images are not, and are
expected in or below the folder of the text.

The published lines hold questions from which the object is missing ("How many  in the picture?") and answers that are
none ("i cannot see it", "i don't know"); these are left out, and so is a question that repeats another of its image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gmrt.georsmllm.data import DatasetError, Question, question_kind
from gmrt.georsmllm.readers.files import Images, read_text
from gmrt.georsmllm.readers.record import BadRecord, Outcome, Record, UnusableError, attempt

_LINE = re.compile(r"(?P<image>[^:]+):\s*(?P<question>[^?]+\?)\s*(?P<answer>.+)")
_NO_ANSWER = frozenset({"i cannot see it", "i don't know"})


def read_rsivqa(path: Path, split: str | None) -> Iterator[Outcome]:
    """Records of one text file, or of all in a folder together; the set has no splits."""
    del split
    folder = path.parent if path.is_file() else path
    files = [path] if path.is_file() else sorted(folder.glob("*.txt"))
    if not files:
        raise DatasetError(f"{path} holds no *.txt of lines 'image:question?answer'")
    asked: dict[str, dict[str, Question]] = {}
    places: dict[str, tuple[str, str]] = {}
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if not line.strip():
                continue
            found = attempt(file.name, f"line {number}", partial(_parse, line))
            if isinstance(found, BadRecord):
                yield found
                continue
            image, question = found
            places.setdefault(image, (file.name, f"line {number}"))
            questions = asked.setdefault(image, {})
            if "  " not in question.text and question.answer.lower() not in _NO_ANSWER:
                questions.setdefault(question.text.lower(), question)
    images = Images(folder)
    for image, questions in asked.items():
        yield attempt(*places[image], partial(_record, image, tuple(questions.values()), images))


def _parse(line: str) -> tuple[str, Question]:
    match = _LINE.fullmatch(line.strip())
    if not match:
        raise UnusableError(f"is not 'image:question?answer': {line.strip()[:80]!r}")
    text = match["question"].strip()
    return match["image"].strip(), Question(text, match["answer"].strip(), "qa", question_kind(text))


def _record(image: str, questions: tuple[Question, ...], images: Images) -> Record:
    return Record(image, (images.find(image),), questions=questions)
