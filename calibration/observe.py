"""What a tensor's values look like, in memory that does not grow with how many of them pass.

A histogram of 8 192 bins covers [-2^e, 2^e). When a value lies outside, e grows and neighbouring bins merge. The bound
being a power of two and the bins half-open, the result is exactly the histogram of all values at once, in whatever
order and portions they came; a bin is at most 1/2048 of the largest magnitude. Four methods read a range off it, so one
pass over the images serves them all:

    min-max      what was seen, to the last outlier
    percentile   leaves out 0.005 % of the values at either end
    mse          the least mean square error of the 8-bit codes
    entropy      the least Kullback-Leibler divergence between the values and their codes (S. Migacz, "8-bit Inference
                 with TensorRT", GTC 2017, with both ends free)

All functions are pure: they take a frozen value and return another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Range = tuple[float, float]

Method = Literal["min-max", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

BINS = 8192
TAIL = 5e-5
"""Share of the values that the percentile method leaves out at either end."""

_MIDDLE = BINS // 2
_LEAST_EXPONENT = -100  # whatever is smaller is as good as zero
_STEPS, _SYMMETRIC_STEPS = 255, 254

# Fractions of the observed range that a search tries for either end.
_FRACTIONS = np.geomspace(0.05, 1.0, 60)
# Codes cannot lose information against bins that are as coarse as they are.
_BINS_PER_STEP = 2


@dataclass(frozen=True, eq=False)
class Histogram:
    """Values of one tensor: extremes, ``counts`` [`BINS`] of those that are not zero, over [-2^exponent, 2^exponent).

    Zeros (of a ReLU, mostly) are counted apart: they are exact in every range and would only blur a search.
    """

    low: float = math.inf
    high: float = -math.inf
    exponent: int = _LEAST_EXPONENT
    counts: Counts | None = None
    zeros: int = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent) / _MIDDLE

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Borders of the bins, [`BINS` + 1]."""
        return np.arange(-_MIDDLE, _MIDDLE + 1) * self.width

    @property
    def filled(self) -> Counts:
        """``counts``, also where nothing was seen yet."""
        return np.zeros(BINS, np.int64) if self.counts is None else self.counts


@dataclass(frozen=True, eq=False)
class Channels:
    """Of every channel [K]: largest magnitude, mean magnitude and mean, over ``count`` values a channel."""

    absmax: npt.NDArray[np.float64]
    absmean: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    count: int


def observe(histogram: Histogram, values: npt.NDArray[np.floating]) -> Histogram:
    """Add values of any shape to a histogram; raise ValueError when there are none or one of them is not finite."""
    flat = np.asarray(values, np.float32).reshape(-1)
    if not flat.size:
        raise ValueError("there are no values")
    low, high = float(flat.min()), float(flat.max())
    if not math.isfinite(low + high):
        raise ValueError("a value is not finite")
    exponent = max(histogram.exponent, math.frexp(max(-low, high))[1] if low or high else _LEAST_EXPONENT)
    flat = flat[flat != 0]
    # Scaling by a power of two is exact, and so is the floor: no value changes its bin when the bound grows.
    scaled = np.multiply(flat, math.ldexp(_MIDDLE, -exponent), dtype=np.float64)
    bins = np.floor(scaled, out=scaled).astype(np.int64) + _MIDDLE
    return Histogram(
        low=min(histogram.low, low),
        high=max(histogram.high, high),
        exponent=exponent,
        counts=_widen(histogram.filled, exponent - histogram.exponent) + np.bincount(bins, minlength=BINS),
        zeros=histogram.zeros + int(np.size(values)) - flat.size,
    )


def _widen(counts: Counts, doublings: int) -> Counts:
    for _ in range(min(doublings, BINS.bit_length())):
        wider = np.zeros(BINS, np.int64)
        wider[BINS // 4 : 3 * BINS // 4] = counts.reshape(-1, 2).sum(axis=1)
        counts = wider
    return counts


def observe_channels(channels: Channels | None, values: FloatArray, axis: int) -> Channels:
    """Add values to the statistics of the channels along ``axis``; None begins them."""
    by_channel = np.moveaxis(np.asarray(values, np.float32), axis, 0).reshape(values.shape[axis], -1)
    size = np.abs(by_channel)
    new = Channels(
        absmax=size.max(axis=1).astype(np.float64),
        absmean=size.mean(axis=1, dtype=np.float64),
        mean=by_channel.mean(axis=1, dtype=np.float64),
        count=by_channel.shape[1],
    )
    if channels is None:
        return new
    count = channels.count + new.count
    share = new.count / count
    return Channels(
        absmax=np.maximum(channels.absmax, new.absmax),
        absmean=channels.absmean + (new.absmean - channels.absmean) * share,
        mean=channels.mean + (new.mean - channels.mean) * share,
        count=count,
    )


def choose_range(histogram: Histogram, method: Method, *, symmetric: bool = False) -> Range:
    """Choose the range (low ≤ 0 ≤ high) that 8-bit codes are to cover: 256 codes, or 255 on ±high if ``symmetric``.

    A tensor that is zero everywhere has the range of 1. Raises ValueError for a histogram of nothing.
    """
    if histogram.counts is None:
        raise ValueError("a histogram of no values has no range")
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if low == high:
        return (-1.0 if symmetric else 0.0), 1.0
    if symmetric:
        low, high = min(low, -high), max(high, -low)
    chosen = _CHOOSE[method](histogram, low, high, symmetric) if method != "min-max" else (low, high)
    return (min(chosen[0], -chosen[1]), max(chosen[1], -chosen[0])) if symmetric else chosen


def _percentile(histogram: Histogram, low: float, high: float, symmetric: bool) -> Range:
    counts = histogram.filled.copy()
    counts[_MIDDLE] += histogram.zeros
    if symmetric:  # |value| and its two tails in one
        counts = np.concatenate([np.zeros(_MIDDLE, np.int64), counts[_MIDDLE:] + counts[:_MIDDLE][::-1]])
    allowed = TAIL * counts.sum() * (2 if symmetric else 1)
    edges = histogram.edges
    below = np.searchsorted(np.cumsum(counts), allowed, side="right")  # whole bins that may be left out
    above = np.searchsorted(np.cumsum(counts[::-1]), allowed, side="right")
    top = min(high, float(edges[BINS - above]))
    return (-top, top) if symmetric else (min(0.0, max(low, float(edges[below]))), max(0.0, top))


def _mean_square(histogram: Histogram, low: float, high: float, symmetric: bool) -> Range:
    """For a candidate [a, b]: step² / 12 for every value, and the squared distance to the nearer end outside."""
    centres, counts = _occupied(histogram)
    total, steps = counts.sum(), _SYMMETRIC_STEPS if symmetric else _STEPS
    ends = [end * _FRACTIONS if end else np.zeros(1) for end in (low, high)]
    outside = [
        np.array([(counts * np.square(np.maximum(side * (centres - end), 0))).sum() for end in candidates])
        for side, candidates in zip((-1, 1), ends, strict=True)
    ]
    if symmetric:
        best = int((total * np.square(2 * ends[1] / steps) / 12 + outside[0] + outside[1]).argmin())
        return float(ends[0][best]), float(ends[1][best])
    rounding = total * np.square((ends[1][None] - ends[0][:, None]) / steps) / 12
    a, b = np.unravel_index((rounding + outside[0][:, None] + outside[1][None]).argmin(), rounding.shape)
    return float(ends[0][a]), float(ends[1][b])


def _entropy(histogram: Histogram, low: float, high: float, symmetric: bool) -> Range:
    centres, counts = _occupied(histogram)
    steps = _SYMMETRIC_STEPS if symmetric else _STEPS
    fractions = _FRACTIONS[1::2]  # ends with 1
    lows, highs = (end * fractions if end else np.zeros(1) for end in (low, high))
    pairs = list(zip(lows, highs, strict=True)) if symmetric else [(a, b) for a in lows for b in highs]
    least = _BINS_PER_STEP * steps * histogram.width
    wide = [(float(a), float(b)) for a, b in pairs if b - a >= least] or [(low, high)]
    return min(wide, key=lambda pair: _divergence(centres, counts, pair, steps))


def _divergence(centres: npt.NDArray[np.float64], counts: Counts, ends: Range, steps: int) -> float:
    """KL(P || Q) in nats: P the values with those outside at the ends, Q what is left of the inner ones in codes.

    Q spreads the weight of a code evenly over the bins that P fills; where only P has weight, Q is taken as a
    thousandth of one value.
    """
    codes = np.clip(np.round((centres - ends[0]) * (steps / (ends[1] - ends[0]))), 0, steps).astype(np.int64)
    inside = (centres >= ends[0]) & (centres <= ends[1])
    if not inside.any():
        return math.inf
    p = np.where(inside, counts, 0).astype(np.float64)
    weight, bins = np.bincount(codes, p, steps + 1), np.bincount(codes, inside, steps + 1)
    q = np.where(inside, weight[codes] / np.maximum(bins[codes], 1), 0)
    first, last = np.flatnonzero(inside)[[0, -1]]
    p[first] += counts[:first].sum()
    p[last] += counts[last + 1 :].sum()
    p, q = p[inside] / p.sum(), np.maximum(q[inside], 1e-3) / np.maximum(q[inside], 1e-3).sum()
    return float((p * np.log(p / q)).sum())


def _occupied(histogram: Histogram) -> tuple[npt.NDArray[np.float64], Counts]:
    """Centres and counts of the bins that hold anything."""
    filled = np.flatnonzero(histogram.filled)
    return (filled + 0.5 - _MIDDLE) * histogram.width, histogram.filled[filled]


_CHOOSE: Mapping[Method, Callable[[Histogram, float, float, bool], Range]] = {
    "percentile": _percentile,
    "mse": _mean_square,
    "entropy": _entropy,
}
