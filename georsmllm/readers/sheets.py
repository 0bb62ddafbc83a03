"""Label files that list the objects of one image, and what may be counted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.readers.record import BadRecord, ImageSource, Outcome, Record, attempt

Entry: TypeAlias = tuple[str, Callable[[], tuple[SceneObject, bool]]]
"""Where an object stands in its file, and what builds it and says whether it is marked difficult."""


@dataclass(frozen=True)
class Sheet:
    """One image's objects, the categories of which some had to be left out, and the entries that could not be used."""

    name: str
    image: ImageSource
    objects: tuple[SceneObject, ...]
    difficult: frozenset[str]
    bad: tuple[BadRecord, ...] = ()
    split: str = ""

    def countable(self, known: frozenset[str]) -> frozenset[str]:
        """Those of the ``known`` categories of which the sheet has every instance.

        With an entry that could not be used that is none, because nobody knows what the entry was.
        """
        return frozenset() if self.bad else known - self.difficult


def read_sheet(file: str, name: str, image: ImageSource, entries: Iterable[Entry], split: str = "") -> Sheet:
    """Build the objects of one image; a difficult one is left out, as in the benchmarks, and not counted on."""
    objects: list[SceneObject] = []
    difficult: set[str] = set()
    bad: list[BadRecord] = []
    for where, build in entries:
        made = attempt(file, where, build)
        if isinstance(made, BadRecord):
            bad.append(made)
        elif made[1]:
            difficult.add(made[0].category)
        else:
            objects.append(made[0])
    return Sheet(name, image, tuple(objects), frozenset(difficult), tuple(bad), split)


def sheet_records(sheets: Sequence[Sheet | BadRecord], categories: Iterable[str] = ()) -> Iterator[Outcome]:
    """Records of a set whose label files list every instance of its categories.

    ``categories`` are those that the set is known to label; those that occur are added.
    """
    known = occurring(sheets).union(categories)
    for sheet in sheets:
        if isinstance(sheet, BadRecord):
            yield sheet
            continue
        yield from sheet.bad
        labels = SceneLabels(objects=sheet.objects, exhaustive=sheet.countable(known))
        yield Record(sheet.name, (sheet.image,), labels, split=sheet.split)


def occurring(sheets: Iterable[Sheet | BadRecord]) -> frozenset[str]:
    """Every category of which the sheets list an object, a difficult one included."""
    found = [{o.category for o in sheet.objects} | sheet.difficult for sheet in sheets if isinstance(sheet, Sheet)]
    return frozenset().union(*found)
