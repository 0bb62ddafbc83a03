"""Choose a precision for each layer from a scan, under a bound on the size or on the accuracy.

The losses of layers (1 − cosine of the logits) are taken to add up, as independent errors do. A size bound is met from
the top: the layer that loses least for each byte that it saves goes first. An accuracy bound is met from the bottom:
the layer that gives back most for each byte that it costs goes first. A plan is a prediction; the gate measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gmrt.export.sensitivity import FLOAT, LayerScan
from gmrt.runtime.errors import GmrtError


@dataclass(frozen=True)
class Plan:
    """A precision by layer; ``bytes`` of the whole bundle and ``cosine`` of the logits are predictions."""

    layers: Mapping[str, str]
    bytes: int
    cosine: float

    @property
    def floats(self) -> tuple[str, ...]:
        """What stays float, by name."""
        return tuple(name for name, precision in self.layers.items() if precision == FLOAT)

    def to_dict(self) -> dict[str, Any]:
        """Return the record that the bundle keeps."""
        return asdict(self) | {"layers": dict(self.layers), "float": list(self.floats)}


@dataclass(frozen=True)
class Bounds:
    """What an export is planned under: bytes of the bundle's files, cosine of the logits; neither for a scan alone."""

    max_bytes: int | None = None
    min_cosine: float | None = None

    def plan(self, table: Sequence[LayerScan], smallest: int) -> Plan:
        """Plan; ``smallest`` is the bytes of the bundle with every layer in the least precise of its choices."""
        rest = smallest - sum(scan.choices[-1].bytes for scan in table)
        return plan(table, rest, max_bytes=self.max_bytes, min_cosine=self.min_cosine)


def plan(
    table: Sequence[LayerScan], rest: int, *, max_bytes: int | None = None, min_cosine: float | None = None
) -> Plan:
    """Plan under one bound or both; without one, every layer takes the least precise of its choices.

    ``rest`` is the bytes of a bundle without the layers of the table. Raises `GmrtError` when no plan meets the bounds.
    """
    lowest = [len(scan.choices) - 1 for scan in table]
    if max_bytes is not None:
        smallest = _plan(table, lowest, rest)
        if smallest.bytes > max_bytes:
            raise GmrtError(f"no plan is smaller than {smallest.bytes} bytes and {max_bytes} are allowed: allow more")
        made = _walk(table, [0] * len(table), 1, rest, lambda found: found.bytes <= max_bytes)
    elif min_cosine is not None:
        made = _walk(table, lowest, -1, rest, lambda found: found.cosine >= min_cosine)
    else:
        made = _plan(table, lowest, rest)
    if min_cosine is not None and made.cosine < min_cosine:
        raise GmrtError(
            f"within {max_bytes} bytes the logits' cosine is predicted to be {made.cosine:.6f}, below {min_cosine}: "
            "allow more bytes or a lower cosine"
        )
    return made


def _walk(table: Sequence[LayerScan], start: list[int], step: int, rest: int, done: Callable[[Plan], bool]) -> Plan:
    """Move one layer after another by ``step`` along its choices, the best bargain first, until ``done``."""
    at = list(start)
    while not done(made := _plan(table, at, rest)):
        moves = [i for i, scan in enumerate(table) if 0 <= at[i] + step < len(scan.choices)]
        if not moves:
            break
        at[min(moves, key=lambda i: (_price(table[i], at[i], step), i))] += step
    return made


def _price(scan: LayerScan, at: int, step: int) -> float:
    """What a move of a layer loses for each byte saved, or, moving up, the negative of what it gains a byte."""
    here, there = scan.choices[at], scan.choices[at + step]
    return (here.cosine - there.cosine) / max(1, abs(here.bytes - there.bytes))


def _plan(table: Sequence[LayerScan], at: Sequence[int], rest: int) -> Plan:
    chosen = [scan.choices[i] for scan, i in zip(table, at, strict=True)]
    return Plan(
        {scan.layer: choice.precision for scan, choice in zip(table, chosen, strict=True)},
        rest + sum(choice.bytes for choice in chosen),
        1 - sum(max(0.0, 1 - choice.cosine) for choice in chosen),
    )
