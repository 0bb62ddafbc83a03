"""What a reader gives: labelled images of one form, and the entries that it could not use, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from gmrt.georsmllm.data import DatasetError, Example, Question
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.runtime.points import Kind, Region, format_regions, region
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import Scene, decode_image, read_scene

ImageSource: TypeAlias = Path | bytes
"""An image file, or the bytes of a JPEG or PNG file."""

T = TypeVar("T")

_REQUESTS: dict[Kind, str] = {
    "point": "point at {}",
    "box": "locate {}",
    "obb": "locate {} with rotated boxes",
    "poly": "outline {}",
}
_ENCODED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class UnusableError(ValueError):
    """An entry that cannot be used; its text is the reason. It never leaves the readers."""


@dataclass(frozen=True)
class Record:
    """One image, or a pair (before, after), and what its dataset says about it.

    ``images`` holds one source or two; nothing of them is decoded yet. ``labels.captions`` describe the image; of a
    pair, the change. ``questions`` are requests with their answers as published; a question of task "refer" asks for
    what a phrase names, and its ``kind`` is the form of the answer: "box", "obb" or "poly". ``split`` is empty where
    the dataset names none.
    """

    name: str
    images: tuple[ImageSource, ...]
    labels: SceneLabels = field(default_factory=SceneLabels)
    questions: tuple[Question, ...] = ()
    split: str = ""

    @property
    def items(self) -> int:
        """How many labels it carries (objects, captions, questions), at least 1."""
        return max(1, len(self.labels.objects) + len(self.labels.captions) + len(self.questions))


@dataclass(frozen=True)
class BadRecord:
    """An entry that was skipped: the file, the record in it, and the reason."""

    file: str
    record: str
    reason: str

    def __str__(self) -> str:
        """The three in one line."""
        return f"{self.file}, {self.record}: {self.reason}"


@dataclass(frozen=True)
class ReadResult:
    """Everything usable in a dataset, and everything that was skipped."""

    records: tuple[Record, ...]
    bad: tuple[BadRecord, ...]


Outcome: TypeAlias = Record | BadRecord


def attempt(file: str, record: str, build: Callable[[], T]) -> T | BadRecord:
    """Build something from an entry of a file; what other people's data can get wrong becomes a `BadRecord`."""
    try:
        return build()
    except KeyError as error:
        return BadRecord(file, record, f"has no {error}")
    except (UnusableError, DatasetError) as error:
        return BadRecord(file, record, str(error))
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        return BadRecord(file, record, f"is not laid out as expected ({error})")


def words(text: object, what: str) -> str:
    """``text`` with single spaces, when it is a string with something in it."""
    if not isinstance(text, str) or not text.strip():
        raise UnusableError(f"{what} is empty or not text")
    return " ".join(text.split())


def refer(phrase: str, objects: tuple[SceneObject, ...], kind: Kind) -> Question:
    """A question for the objects that ``phrase`` names, answered in the set-of-points codec as regions of ``kind``."""
    phrase = words(phrase, "the phrase").rstrip(" .?")
    request = _REQUESTS[kind].format(phrase[:1].lower() + phrase[1:])
    return Question(request, format_regions(as_region(o, kind) for o in objects), "refer", kind)


def as_region(scene_object: SceneObject, kind: Kind) -> Region:
    """The object as a region of ``kind`` on the codec's grid; an upright box has four corners as an ``obb`` too."""
    if kind == "obb":
        return region("obb", scene_object.outline)
    return scene_object.as_region(kind)


def load(source: ImageSource) -> Scene:
    """Read an image of a record, with the errors of `gmrt.runtime.scene` for a file that is none or is broken."""
    return decode_image(source) if isinstance(source, bytes) else read_scene(source)


def to_example(record: Record) -> Example:
    """The record with its images encoded: JPEG and PNG files as they are, any other raster as PNG.

    Of a pair the first image is the one before. The objects stay with it, so that requests can be made of them; no
    requests are drawn here. Raises `DatasetError` for more than two images, and the errors of `load`.
    """
    if len(record.images) not in (1, 2):
        raise DatasetError(f"{record.name} has {len(record.images)} images: an example is one image or a pair")
    before, *after = map(_encoded, record.images)
    return Example(
        name=record.name,
        image=before,
        scene_class=record.labels.scene_class,
        captions=record.labels.captions,
        questions=record.questions,
        after=after[0] if after else None,
        labels=record.labels if record.labels.objects or record.labels.exhaustive else None,
    )


def _encoded(source: ImageSource) -> bytes:
    data = source if isinstance(source, bytes) else source.read_bytes()
    return data if data.startswith(_ENCODED) else encode_png(load(source).rgb)
