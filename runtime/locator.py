"""Where what is asked for lies: a query over what the tower says of every place, in numpy, and the guard that opens it.

A bundle with a locator does not spell coordinates token by token. The decoder opens its answer with the tag of a region
(or is held to one), and the hidden state behind the prompt becomes a query: its product with every place of the image
is a map of scores, and the geometry of what lies there stands beside it. `gmrt.runtime.peaks` writes down what the map
holds. The head is trained in `gmrt.georsmllm.locator`, and small enough to need no graph: 1024 places × 96 features
times 72 weights once an image, and 64 times 1024 a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import FloatArray
from gmrt.runtime.peaks import GEOMETRY, Located, find_regions
from gmrt.runtime.points import KINDS, Kind

FINE = 4
"""Places along a side of one cell of the tower."""
RANK = 64
"""Features of a place that a query weighs."""
PLANES = 8
"""Functions of the place alone that a query weighs: for "at the top left", "leftmost"."""
SIZES = 2
"""Log width and height, which it weighs for "largest"."""
FEW = -4.0
"""Bias with which every place begins empty (Lin et al., focal loss, arXiv 1708.02002)."""

_MAX_BYTES = 64 << 20


def planes(side: int) -> FloatArray:
    """Smooth functions of the place [PLANES, side, side]: coordinates in −1…1, squares, product, waves, a constant."""
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(steps, steps, indexing="ij")
    stack = [x, y, x * x, y * y, x * y, np.cos(np.pi * x), np.cos(np.pi * y), np.ones_like(x)]
    return np.stack(stack).astype(np.float32)


def shapes_of(width: int, places: int) -> dict[str, tuple[int, ...]]:
    """The weights of a locator by name, with their shapes: hidden states ``width`` wide, ``places`` numbers a place."""
    queries = RANK + PLANES + SIZES + 3
    return {
        "cells.weight": (RANK + GEOMETRY, places),
        "cells.bias": (RANK + GEOMETRY,),
        "changes.weight": (RANK, places),
        "query.weight": (queries, width),
        "query.bias": (queries,),
    }


@dataclass(frozen=True)
class Maps:
    """What a locator sees in an image, or a pair: features float32 [RANK, G, G] and geometry [GEOMETRY, G, G].

    Of a pair those of the image after, with ``before`` and ``changes``; of a single image these two are None.
    """

    features: FloatArray
    geometry: FloatArray
    before: tuple[FloatArray, FloatArray] | None = None
    changes: FloatArray | None = None


class Locator:
    """The head's weights in float32; see the module's text for what it computes."""

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        self._weights = {name: np.asarray(weights[name], np.float32) for name in weights}

    def look(self, places: FloatArray) -> Maps:
        """Prepare an image, or a pair in the order before, after: places float32 [1 or 2, P, G, G]."""
        features, geometry = self._split(places[-1])
        if len(places) == 1:
            return Maps(features, geometry)
        changes = np.tensordot(self._weights["changes.weight"], places[1] - places[0], 1)
        return Maps(features, geometry, self._split(places[0]), changes)

    def maps(self, hidden: FloatArray, seen: Maps) -> tuple[FloatArray, FloatArray, float]:
        """Logits [G, G], geometry [GEOMETRY, G, G] and one (above 0) or many, for a hidden state [D]."""
        query = self._weights["query.weight"] @ hidden + self._weights["query.bias"]
        over, sizes = query[RANK : RANK + PLANES], query[RANK + PLANES : RANK + PLANES + SIZES]
        bias, which, single = query[RANK + PLANES + SIZES :]
        features, geometry = seen.features, seen.geometry
        if seen.before is not None:
            share = np.float32(1) / (1 + np.exp(-which))
            features = features + share * (seen.before[0] - features) + seen.changes
            geometry = geometry + share * (seen.before[1] - geometry)
        logits: FloatArray = np.tensordot(query[:RANK], features, 1) / np.float32(RANK**0.5)
        logits += np.tensordot(over, self._planes(len(logits)), 1) + np.tensordot(sizes, geometry[2:4], 1) + bias + FEW
        return logits, geometry, float(single)

    def find(self, hidden: FloatArray, seen: Maps, kind: Kind, max_regions: int | None = None) -> Located:
        """Answer the question that left ``hidden`` [D], as regions of a kind."""
        return find_regions(*self.maps(hidden, seen), kind, max_regions)

    def count(self, hidden: FloatArray, seen: Maps) -> Located:
        """The places of all that the question that left ``hidden`` [D] asks to count."""
        maps, geometry, _ = self.maps(hidden, seen)
        return find_regions(maps, geometry, -1.0, "box")

    def _split(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        maps = np.tensordot(self._weights["cells.weight"], places, 1) + self._weights["cells.bias"][:, None, None]
        return maps[:RANK], maps[RANK:]

    @cached_property
    def _sides(self) -> dict[int, FloatArray]:
        return {}

    def _planes(self, side: int) -> FloatArray:
        return self._sides.setdefault(side, planes(side))


def open_locator(file: Path, width: int, places: int) -> Locator:
    """Read a locator's weights from a .npz file; raises `BundleError` when it holds anything else."""
    try:
        return Locator(_read(file, shapes_of(width, places)))
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise BundleError(f"{file.name}: not the weights of a locator ({error}): export the bundle again") from None


def _read(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, FloatArray]:
    if file.stat().st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES >> 20} MiB")
    with np.load(file, allow_pickle=False) as held:
        weights = {name: held[name] for name in held.files}
    if {name: array.shape for name, array in weights.items()} != dict(shapes):
        raise ValueError("other weights than a locator has")
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in weights.values()):
        raise ValueError("weights that are not finite numbers")
    return weights


class LocatorGuard:
    """Tells whether an answer opens with the tag of a region, with which it is complete; any other answer runs free.

    With ``kinds`` it must open with one of theirs. ``kind`` is the one that came, None in other answers. Later on no
    tag may come: it is a way to open an answer, not a word.
    """

    cut = False

    def __init__(self, tags: Sequence[int], kinds: Sequence[Kind] = ()) -> None:
        self._kinds: dict[int, Kind] = dict(zip(tags, KINDS, strict=True))
        self._tags = np.array(tags, np.int64)
        self._wanted = np.array([token for token, kind in self._kinds.items() if kind in kinds], np.int64)
        self._first = True
        self.kind: Kind | None = None

    @property
    def finished(self) -> bool:
        """Whether the kind of region is known."""
        return self.kind is not None

    @property
    def forced(self) -> int | None:
        """The one token that may come next."""
        return int(self._wanted[0]) if self._first and len(self._wanted) == 1 else None

    def hides(self, token: int) -> bool:
        """Whether a token that has come is no text to be shown."""
        return token in self._kinds

    def __call__(self, row: FloatArray) -> None:
        """Leave the logits of the tags that were asked for, in place; behind the first token none."""
        if not self._first:
            row[self._tags] = -np.inf
        elif len(self._wanted):
            kept = row[self._wanted]
            row.fill(-np.inf)
            row[self._wanted] = kept

    def accept(self, token: int) -> None:
        """Move on over ``token``; the first one decides what kind of answer this is."""
        if self._first:
            self.kind = self._kinds.get(token)
        self._first = False
