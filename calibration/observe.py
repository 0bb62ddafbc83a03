"""What a tensor's values look like, in memory that does not grow with the number of images.

A histogram of 2 048 bins over [-bound, bound] counts values as they pass. When a value lies outside, the bound doubles
and neighbouring bins merge: nothing is lost but resolution, and the bins stay at most 1/512 of the largest magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_BINS = 2048
_LEVELS = 255

# Fractions of the observed range that the search tries for either end.
_FRACTIONS = np.linspace(0.3, 1.0, 29)


@dataclass
class Observer:
    """Running statistics of one tensor; ``channel_axis`` is the axis that keeps a mean of its own, None for none."""

    channel_axis: int | None = None
    low: float = np.inf
    high: float = -np.inf
    bound: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    _sums: npt.NDArray[np.float64] | None = None
    _values_per_channel: int = 0

    def add(self, values: FloatArray) -> None:
        """Count the values of one image; raises ValueError when one of them is not finite."""
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low + high):
            raise ValueError("a value is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        # Exact zeros (of a ReLU, mostly) are exact in every range and would only blur the search.
        flat = values[values != 0]
        indices = ((flat / self.bound + 1) * (_BINS / 2)).astype(np.int64)
        self.counts += np.bincount(np.minimum(indices, _BINS - 1), minlength=_BINS)
        if self.channel_axis is not None:
            sums = np.moveaxis(values, self.channel_axis, 0).reshape(values.shape[self.channel_axis], -1)
            total = sums.sum(axis=1, dtype=np.float64)
            self._sums = total if self._sums is None else self._sums + total
            self._values_per_channel += sums.shape[1]

    @property
    def mean(self) -> npt.NDArray[np.float64] | None:
        """Mean per channel, None where none was asked for."""
        return None if self._sums is None else self._sums / self._values_per_channel

    def range(self) -> tuple[float, float]:
        """The range around zero whose 256 codes lie nearest to the values seen, in the mean square.

        For a candidate [a, b] the error is step² / 12 for every value, and for those outside also the squared distance
        to the nearer end; either end is tried at 0.3 to 1 times what was observed.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if low == high:
            return 0.0, 1.0
        centres = (np.arange(_BINS) + 0.5) * (2 * self.bound / _BINS) - self.bound
        best, chosen = np.inf, (low, high)
        for a in low * _FRACTIONS if low < 0 else (0.0,):
            for b in high * _FRACTIONS if high > 0 else (0.0,):
                outside = np.square(centres - np.clip(centres, a, b))
                error = float((self.counts * (outside + ((b - a) / _LEVELS) ** 2 / 12)).sum())
                if error < best:
                    best, chosen = error, (float(a), float(b))
        return chosen

    def _widen(self, magnitude: float) -> None:
        if self.bound == 0:
            self.bound = magnitude or 1.0
        while magnitude > self.bound:
            self.bound *= 2
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(_BINS, np.int64)
            self.counts[_BINS // 4 : 3 * _BINS // 4] = merged
