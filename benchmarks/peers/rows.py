"""A row of the comparison: both sides run in turn, medians of the rounds, and a ratio above 1 where ours is better."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Figures = dict[str, float]
Side = Callable[[], Figures]


@dataclass(frozen=True)
class Row:
    """One line of the comparison; ``ratio`` above 1 means that ours is better, ``parity`` is our token agreement.

    ``wanted`` is the ratio that the project asks of itself, None where the row is there to be seen.
    """

    row: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str
    parity: float | None
    wanted: float | None


@dataclass(frozen=True)
class Measure:
    """How a row comes out of both sides' figures: ``value`` of each, better when ``larger`` or when smaller."""

    row: str
    unit: str
    ours: Callable[[Figures], float]
    peer: Callable[[Figures], float]
    wanted: float | None
    larger: bool = True
    parity: float | None = None


def speed(row: str, tokens: int, key: str, wanted: float | None, parity: float | None) -> Measure:
    """Tokens a second, where ``key`` names the seconds that so many took."""

    def value(figures: Figures) -> float:
        return tokens / figures[key]

    return Measure(row, "tok/s", value, value, wanted, parity=parity)


def seconds(row: str, key: str, wanted: float | None, parity: float | None) -> Measure:
    """Seconds of one piece of work."""

    def value(figures: Figures) -> float:
        return figures[key]

    return Measure(row, "s", value, value, wanted, larger=False, parity=parity)


def constant(value: float) -> Side:
    """A side that is a stated limit and not a program."""
    return lambda: {"limit": value}


def compare(measures: Sequence[Measure], ours: Side, peer: Side, *, name: str, rounds: int) -> list[Row]:
    """Run both sides in turn, the order changing from round to round, and make the rows."""
    pairs: list[tuple[Figures, Figures]] = []
    for at in range(rounds):
        if at % 2:
            theirs = peer()
            mine = ours()
        else:
            mine = ours()
            theirs = peer()
        pairs.append((mine, theirs))
        rows = ", ".join(measure.row for measure in measures)
        print(f"{rows}: round {at + 1} of {rounds}", file=sys.stderr)
    return [_row(measure, pairs, name) for measure in measures]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| row | ours | peer | ratio | wanted | token agreement |", "|---|---|---|---|---|---|"]
    for row in rows:
        parity = "" if row.parity is None else f"{row.parity:.1%}"
        wanted, short = "", ""
        if row.wanted is not None:
            wanted = f"{row.wanted:g}"
            short = "" if row.ratio >= row.wanted else " (short)"
        peer = f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        lines.append(
            f"| {row.row} | {row.ours:.4g} {row.unit} | {peer} | {row.ratio:.2f}{short} | {wanted} | {parity} |"
        )
    return "\n".join(lines)


def _row(measure: Measure, pairs: Sequence[tuple[Figures, Figures]], name: str) -> Row:
    values = [(measure.ours(mine), measure.peer(theirs)) for mine, theirs in pairs]
    ratios = [mine / theirs if measure.larger else theirs / mine for mine, theirs in values]
    mine, theirs = (statistics.median(side) for side in zip(*values, strict=True))
    return Row(measure.row, mine, theirs, name, statistics.median(ratios), measure.unit, measure.parity, measure.wanted)
