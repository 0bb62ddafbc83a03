"""Sources of training and evaluation data: what a recipe or a command line names becomes a list of examples.

A source is a path to a parquet file, a path to a table (CSV) of the images beside it, or a mapping with one of

    path: set.parquet                        Hugging Face's image convention, or a set of generated scenes
    reader: dota, path: …, split: train      a public dataset in its own layout (`gmrt.georsmllm.readers`)
    folder: images, captions: captions.csv   your own images and a table of them (`gmrt.georsmllm.table`)

and, for any of them,

    images: "0:160"                          only these of its images, from the first up to before the last
    kinds: [presence, comp, count]           only published questions of these kinds
    agreed: 2                                only the two captions of an image that agree best with its others
    tiles: {size: 256, per_image: 6, seed: 0}    random crops instead of the images (`gmrt.georsmllm.crops`)
    weight: 2                                how often an image is drawn in a pass; 1 when it is not given
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.agreement import most_agreed
from gmrt.georsmllm.conditions import Category
from gmrt.georsmllm.crops import tiles
from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers import READERS, ReadResult, Record, read, to_example
from gmrt.georsmllm.table import read_table
from gmrt.georsmllm.tasks import Request, requests, wordings
from gmrt.georsmllm.tasks.request import located, worded
from gmrt.runtime.points import NONE

Spec: TypeAlias = str | Path | Mapping[str, Any]
ROUNDS = 2
"""Times that requests are drawn of an image with objects: about twenty in all."""
FORMS = {"box": ("point", "box"), "obb": ("point", "box", "obb"), "poly": ("point", "box", "obb", "poly")}
"""Forms of an answer that labels of a kind hold."""


@dataclass(frozen=True)
class Tiles:
    """Random crops of ``size`` pixels, ``per_image`` of each image; ``seed`` chooses them."""

    size: int
    per_image: int
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """A checked source; the module's text says what the fields mean."""

    path: str = ""
    reader: str = ""
    split: str | None = None
    folder: str = ""
    captions: str = ""
    images: str = ""
    kinds: tuple[str, ...] = ()
    agreed: int = 0
    tiles: Tiles | None = None
    weight: float = 1.0

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path or self.folder


@dataclass(frozen=True)
class Mixture:
    """Examples of several sources: of each example the number of its source, and of each source its weight."""

    examples: tuple[Example, ...]
    sources: npt.NDArray[np.int64]
    weights: tuple[float, ...]

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Scene classes that occur in each source, sorted."""
        found: list[set[str]] = [set() for _ in self.weights]
        for example, source in zip(self.examples, self.sources, strict=True):
            if example.scene_class:
                found[source].add(example.scene_class)
        return tuple(tuple(sorted(names)) for names in found)

    def classes_of(self, index: int) -> tuple[str, ...]:
        """Scene classes of the source that example ``index`` is from."""
        return self.classes[int(self.sources[index])]

    def order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices of one pass, shuffled; always as many.

        An image of weight 1 comes once, of weight 2 twice, and of weight 0.3 in three passes of ten.
        """
        drawn = []
        for source, weight in enumerate(self.weights):
            members = np.flatnonzero(self.sources == source)
            whole, rest = divmod(round(weight * len(members)), max(len(members), 1))
            drawn += [np.repeat(members, whole), rng.permutation(members)[:rest]]
        return rng.permutation(np.concatenate(drawn)).astype(np.int64)


def check_source(spec: Spec) -> Source:
    """Check a source without reading its data; raises `DatasetError` that says what is wrong with which one."""
    if isinstance(spec, (str, Path)):
        table = Path(spec).suffix.lower() == ".csv"
        spec = {"folder": str(Path(spec).parent), "captions": str(spec)} if table else {"path": str(spec)}
    if not isinstance(spec, Mapping):
        raise DatasetError(f"a source is a path, or named fields such as 'path: set.parquet': got {spec!r}")
    known = [field.name for field in fields(Source)]
    if unknown := sorted(set(spec) - set(known)):
        raise DatasetError(f"source {dict(spec)}: unknown field {unknown[0]!r}; known are {', '.join(known)}")
    if bool(spec.get("path")) == bool(spec.get("folder")):
        raise DatasetError(f"source {dict(spec)}: give either a path, or a folder of images and its captions")
    kinds = spec.get("kinds") or ()
    given: dict[str, Any] = {
        **{key: str(value) for key, value in spec.items() if value is not None},
        "kinds": (kinds,) if isinstance(kinds, str) else tuple(map(str, kinds)),
        "agreed": _agreed(spec),
        "weight": _number(spec, "weight", spec.get("weight", 1.0)),
        "tiles": _tiles(spec),
    }
    source = Source(**given)
    _check_place(source)
    _slice(source)
    return source


def read_source(spec: Spec) -> list[Example]:
    """Read one source; requests are drawn of images with objects, the same ones every time.

    Raises `DatasetError` when the source is not well-formed, its data cannot be read, or nothing is left of it. What
    a reader skipped is said on stderr.
    """
    source = check_source(spec)
    examples = _select(_read(source), source)
    if source.agreed:
        kept = most_agreed([example.captions for example in examples], source.agreed)
        examples = [replace(example, captions=few) for example, few in zip(examples, kept, strict=True)]
    if source.tiles:
        cut = source.tiles
        streams = [np.random.default_rng((cut.seed, number)) for number in range(len(examples))]
        examples = [
            tile
            for example, rng in zip(examples, streams, strict=True)
            for tile in tiles(example, cut.size, cut.per_image, rng)
        ]
    return [_with_requests(example, number) for number, example in enumerate(examples)]


def read_sources(specs: Sequence[Spec]) -> Mixture:
    """Read several sources into one `Mixture`; every one of them is checked before the first is read."""
    if not specs:
        raise DatasetError("no sources are given: name at least one parquet file, dataset or folder")
    weights = tuple(check_source(spec).weight for spec in specs)
    parts = [read_source(spec) for spec in specs]
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Mixture(tuple(example for part in parts for example in part), numbers, weights)


def _number(spec: Mapping[str, Any], name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise DatasetError(f"source {dict(spec)}: {name} must be a number above 0, got {value!r}")
    return float(value)


def _agreed(spec: Mapping[str, Any]) -> int:
    given = spec.get("agreed", 0)
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise DatasetError(f"source {dict(spec)}: agreed is how many captions to keep of an image, got {given!r}")
    return given


def _tiles(spec: Mapping[str, Any]) -> Tiles | None:
    given = spec.get("tiles")
    if given is None:
        return None
    names = {field.name for field in fields(Tiles)}
    if not isinstance(given, Mapping) or not {"size", "per_image"} <= set(given) <= names:
        raise DatasetError(f"source {dict(spec)}: tiles are given as {{size: 256, per_image: 6, seed: 0}}")
    if not all(isinstance(value, int) and value >= (name != "seed") for name, value in given.items()):
        raise DatasetError(f"source {dict(spec)}: size and per_image of tiles must be whole numbers above 0")
    return Tiles(**given)


def _check_place(source: Source) -> None:
    if source.folder:
        if not source.captions:
            raise DatasetError(f"source {source.folder}: name the table of its images, as in 'captions: captions.csv'")
        if not Path(source.folder).is_dir():
            raise DatasetError(f"there is no folder at {source.folder}, looked for from the current directory")
        _table_file(source)
    elif source.reader and source.reader not in READERS:
        raise DatasetError(f"there is no reader {source.reader!r}: choose one of {', '.join(READERS)}")
    elif not Path(source.path).exists():
        raise DatasetError(f"there is nothing at {source.path}, looked for from the current directory")


def _table_file(source: Source) -> Path:
    """The table, from the current directory or else inside the folder."""
    for path in (Path(source.captions), Path(source.folder) / source.captions):
        if path.is_file():
            return path
    raise DatasetError(f"no file {source.captions}, neither in the current directory nor in {source.folder}")


def _slice(source: Source) -> slice:
    found = re.fullmatch(r"(\d*):(\d*)", source.images or ":")
    if found is None:
        raise DatasetError(f"source {source.name}: images are given as '0:160' (or '160:'), got {source.images!r}")
    first, last = (int(number) if number else None for number in found.groups())
    return slice(first, last)


def _read(source: Source) -> list[Example]:
    if source.folder:
        return _examples(read_table(_table_file(source), Path(source.folder)))
    if not source.reader and _is_set_of_scenes(Path(source.path)):
        from gmrt.georsmllm.scenes.dataset import read_set

        return read_set(Path(source.path))
    result: ReadResult = read(source.reader or "parquet", source.path, split=source.split)
    if result.bad:
        print(f"{source.name}: skipped entries: {len(result.bad)}, the first is {result.bad[0]}", file=sys.stderr)
    return _examples(result.records)


def _is_set_of_scenes(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return False
    try:
        return "labels" in pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a readable parquet file ({error})") from None


def _examples(records: Sequence[Record]) -> list[Example]:
    return [to_example(record) for record in records]


def _select(examples: list[Example], source: Source) -> list[Example]:
    """The images and questions that the source names."""
    chosen = examples[_slice(source)]
    if not chosen:
        raise DatasetError(f"source {source.name} has {len(examples)} images, and none of them is in {source.images!r}")
    if not source.kinds:
        return chosen
    known = {question.kind for example in chosen for question in example.questions}
    if unknown := sorted(set(source.kinds) - known):
        raise DatasetError(
            f"source {source.name} has no questions of kind {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}"
        )
    return [
        replace(example, questions=tuple(q for q in example.questions if q.kind in source.kinds)) for example in chosen
    ]


def _with_requests(example: Example, number: int) -> Example:
    """The example with requests drawn from its objects, where it has objects and no requests yet."""
    if example.requests or example.after or example.labels is None or not example.labels.exhaustive:
        return example
    rng = np.random.default_rng((ROUNDS, number))
    labels = example.labels
    held = {form for thing in labels.objects for form in FORMS[thing.exact]} or set(FORMS["box"])
    drawn = [*_boxes(labels), *(request for _ in range(ROUNDS) for request in requests(labels, rng))]
    return replace(example, requests=tuple(r for r in dict.fromkeys(drawn) if _is_asked(r, held)))


def _boxes(labels: SceneLabels) -> Iterator[Request]:
    """Boxes of every category that is there and listed in full: what such labels are for, and scored by."""
    for category in sorted(labels.exhaustive & {thing.category for thing in labels.objects}):
        answer = located([thing for thing in labels.objects if thing.category == category], "box")
        if answer is not None:
            yield Request("detect", "box", worded(wordings.LOCATE["box"], Category(category)), answer)


def _is_asked(request: Request, held: set[str]) -> bool:
    """Leave out what is asked anyway, and "none" in a form that no answer has: every such answer would be "none"."""
    return request.task not in ("caption", "class") and (request.answer != NONE or request.kind in held)
