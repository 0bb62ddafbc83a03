"""Whether an answer's confidence can be believed: calibration and ranking, over all answers that are right or wrong.

The expected calibration error compares, in ten bins of confidence, the mean confidence with the share of right answers
(Guo et al. 2017); it is the mean of the gaps, each weighted by its bin's answers. AUROC is the chance that a right
answer has the higher confidence of a right and a wrong one: 0.5 says nothing, 1 tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.evaluation.scores import FloatArray, Row

BINS = 10
_RANKS = 200
"""AUROC sorts confidences into so many ranks, and takes two of one rank for equal: its error is below 0.3 %."""


def reliability_rows(confidences: Sequence[float], right: Sequence[float], images: Sequence[int]) -> list[Row]:
    """ECE, and AUROC where there are right and wrong answers; all arguments [n]."""
    outcome = np.asarray(right, float)
    sure = np.asarray(confidences, float)
    parts = [np.ones_like(sure), sure, outcome]
    rows = [_binned("ECE", _bins(sure, BINS), BINS, parts, images, _calibration_error)]
    if 0 < outcome.sum() < len(outcome):
        levels = np.unique(np.quantile(sure, np.linspace(0, 1, _RANKS), method="inverted_cdf"))
        ranks = np.searchsorted(levels, sure)
        rows.append(_binned("AUROC", ranks, len(levels), [outcome, 1 - outcome], images, _auroc))
    return rows


def reliability_table(confidences: Sequence[float], right: Sequence[float]) -> list[dict[str, float]]:
    """Each bin that holds answers: its bounds ``low`` and ``high``, ``items``, mean ``confidence``, share ``right``."""
    sure, outcome = np.asarray(confidences, float), np.asarray(right, float)
    bins = _bins(sure, BINS)
    return [
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "items": int((bins == number).sum()),
            "confidence": float(sure[bins == number].mean()),
            "right": float(outcome[bins == number].mean()),
        }
        for number in np.unique(bins).tolist()
    ]


def _bins(sure: FloatArray, count: int) -> npt.NDArray[np.int64]:
    return np.minimum((sure * count).astype(int), count - 1)


def _binned(
    name: str,
    bins: npt.NDArray[np.int64],
    count: int,
    parts: Sequence[FloatArray],
    images: Sequence[int],
    value_of: Callable[[FloatArray], FloatArray],
) -> Row:
    """A row over the sums of each part in each bin, part after part."""
    owners, index = np.unique(np.asarray(images), return_inverse=True)
    sums = np.zeros((len(owners), len(parts), count))
    for number, values in enumerate(parts):
        np.add.at(sums, (index, number, bins), values)
    flat = sums.reshape(len(owners), -1)
    shape = (len(parts), count)
    return Row(name, flat, tuple(owners.tolist()), len(bins), lambda s: value_of(s.reshape(*s.shape[:-1], *shape)))


def _calibration_error(sums: FloatArray) -> FloatArray:
    count, sure, right = np.moveaxis(sums, -2, 0)
    return np.abs(sure - right).sum(axis=-1) / count.sum(axis=-1)


def _auroc(sums: FloatArray) -> FloatArray:
    right, wrong = np.moveaxis(sums, -2, 0)
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    pairs = right.sum(axis=-1) * wrong.sum(axis=-1)
    return np.where(pairs > 0, (right * below).sum(axis=-1) / np.where(pairs > 0, pairs, 1.0), 0.5)
