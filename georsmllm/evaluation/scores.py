"""Scores with bootstrap intervals, and differences of two models on the same items.

Every score here is a function of sums over images: a mean of two, R² of four, BLEU of the counts of its n-grams. So a
score keeps those sums image by image (`Row`), and one percentile bootstrap over images (Efron 1979) serves for all:
questions about one image stand or fall together, so the image is what is drawn. Two rows over the same images are drawn
together, which gives the interval of their difference.

Caption scores come from pycocoevalcap on its raw scale (CIDEr 0–10). Its tokenizer needs Java, so one normaliser of our
own stands in for it: lower case, punctuation to spaces, single spaces.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Scale = Literal["percent", "raw"]

_NOT_WORD = re.compile(r"[^\w\s]|_")
RESAMPLES = 500


@dataclass(frozen=True)
class Score:
    """A score, the bounds of its 95 % bootstrap interval, and the number of items behind it."""

    value: float
    low: float
    high: float
    items: int

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One score of the table, before its interval.

    ``sums`` float64 [G, K] belong to ``images`` [G]; ``value_of`` maps sums [..., K] over any draw of images to values
    [...]. ``scale`` says how the value is shown: a share in per cent, or as it is.
    """

    name: str
    sums: FloatArray
    images: tuple[int, ...]
    items: int
    value_of: Callable[[FloatArray], FloatArray]
    scale: Scale = "percent"

    def score(self, seed: int = 0) -> Score:
        """The value with its interval; the same seed draws the same images for every row of as many images."""
        low, high = _interval(self.value_of(_weights(len(self.images), seed) @ self.sums))
        return Score(float(self.value_of(self.sums.sum(axis=0))), low, high, self.items)


def difference(first: Row, second: Row, seed: int = 0) -> Score:
    """``first`` − ``second`` with its interval, both over the same draws of images: whether two models really differ.

    The rows hold the same items; an image that only one of them has counts nothing for the other.
    """
    images = sorted({*first.images, *second.images})
    a, b = (_aligned(row, images) for row in (first, second))
    weights = _weights(len(images), seed)
    low, high = _interval(first.value_of(weights @ a) - second.value_of(weights @ b))
    whole = first.value_of(a.sum(axis=0)) - second.value_of(b.sum(axis=0))
    return Score(float(whole), low, high, first.items)


def ratio_row(
    name: str, parts: Sequence[float], wholes: Sequence[float], images: Sequence[int], scale: Scale = "percent"
) -> Row:
    """Σ ``parts`` / Σ ``wholes`` over the items [n]; ``images`` [n] is the number of the image that each belongs to.

    Where the whole is nothing, nothing was missed: the value is 1.
    """
    sums, owners = _by_image(np.stack([np.asarray(parts, float), np.asarray(wholes, float)], axis=1), images)
    return Row(name, sums, owners, len(parts), _ratio, scale)


def mean_row(name: str, values: Sequence[float], images: Sequence[int], scale: Scale = "percent") -> Row:
    """Mean of ``values`` [n] of the items of ``images`` [n]."""
    return ratio_row(name, values, [1.0] * len(values), images, scale)


def mean_score(values: Sequence[float], groups: Sequence[int], seed: int = 0) -> Score:
    """Mean of ``values`` [n] with an interval over ``groups`` [n], the number of the image that each belongs to."""
    return mean_row("", values, groups).score(seed)


def r2_row(name: str, targets: Sequence[float], given: Sequence[float], images: Sequence[int]) -> Row:
    """R² of numbers: the share of the variance of ``targets`` that ``given`` explains; 0 where they do not vary."""
    y = np.asarray(targets, float)
    y, error = y - y.mean(), y - np.asarray(given, float)
    sums, owners = _by_image(np.stack([np.ones_like(y), y, y**2, error**2], axis=1), images)
    return Row(name, sums, owners, len(y), _r2, "raw")


def caption_rows(answers: Sequence[str], references: Sequence[Sequence[str]], images: Sequence[int]) -> list[Row]:
    """BLEU-1…4, ROUGE-L and CIDEr of answers [n] against the reference captions of each [n]."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given = {i: [normalise(text)] for i, text in enumerate(answers)}
    wanted = {i: [normalise(text) for text in texts] for i, texts in enumerate(references)}
    bleu = BleuScorer(n=4)
    for i in given:
        bleu += (given[i][0], wanted[i])
    counts = []
    for each in bleu.ctest:
        closest = min((abs(length - each["testlen"]), length) for length in each["reflen"])[1]
        counts.append([*each["correct"], *each["guess"], each["testlen"], closest])
    sums, owners = _by_image(np.asarray(counts, float), images)
    rows = [Row(f"BLEU-{n + 1}", sums, owners, len(answers), _bleu(n), "raw") for n in range(4)]
    _, rouge = Rouge().compute_score(wanted, given)
    # CIDEr's word weights are those of the whole reference set, in every draw.
    _, cider = Cider().compute_score(wanted, given)
    named = (("ROUGE-L", rouge), ("CIDEr", cider))
    return rows + [mean_row(name, [float(v) for v in values], images, "raw") for name, values in named]


def caption_scores(answers: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0) -> dict[str, Score]:
    """`caption_rows` of one answer an image, by name."""
    return {row.name: row.score(seed) for row in caption_rows(answers, references, range(len(answers)))}


def normalise(text: str) -> str:
    """Lower case, punctuation replaced by spaces, single spaces: what every caption and answer is compared in."""
    return " ".join(_NOT_WORD.sub(" ", text.lower()).split())


def majority_baseline(keys: Sequence[str], answers: Sequence[str], groups: Sequence[int]) -> list[float]:
    """Share of answers that the commonest answer to the same key would get right, without looking at the image.

    For each item, the vote is among the items of *other* images with the same key (leave one image out), so the
    baseline does not know the answer that it is scored on. Where no other image has the key, those vote whose key
    begins with the same words, as many as possible: "are there more roads than …" is mostly answered alike. Returns
    0.0 or 1.0 an item.
    """
    votes: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    own: dict[tuple[tuple[str, ...], int], Counter[str]] = defaultdict(Counter)
    beginnings = [_beginnings(key) for key in keys]
    for parts, answer, group in zip(beginnings, answers, groups, strict=True):
        for part in parts:
            votes[part][answer] += 1
            own[part, group][answer] += 1
    hits = []
    for parts, answer, group in zip(beginnings, answers, groups, strict=True):
        others = next((left for part in parts if (left := votes[part] - own[part, group])), Counter[str]())
        # Of equally common answers the last in the alphabet, so that the baseline is the same every time.
        commonest = max(((count, a) for a, count in others.items()), default=(0, ""))[1]
        hits.append(float(bool(others) and commonest == answer))
    return hits


def _beginnings(key: str) -> list[tuple[str, ...]]:
    """The words of a key, then all but the last of them, and so on; the whole key ends in a mark of its own."""
    words = tuple(key.split())
    return [(*words, "."), *(words[:count] for count in range(len(words), -1, -1))]


def _by_image(values: FloatArray, images: Sequence[int]) -> tuple[FloatArray, tuple[int, ...]]:
    """Sums of values [n, K] by image [G, K], and the images [G]."""
    owners, index = np.unique(np.asarray(images), return_inverse=True)
    sums = np.zeros((len(owners), values.shape[1]))
    np.add.at(sums, index, values)
    return sums, tuple(int(owner) for owner in owners)


def _aligned(row: Row, images: Sequence[int]) -> FloatArray:
    sums = np.zeros((len(images), row.sums.shape[1]))
    sums[np.searchsorted(images, row.images)] = row.sums
    return sums


@lru_cache(maxsize=8)
def _weights(groups: int, seed: int) -> FloatArray:
    """How often each image is in each draw, [RESAMPLES, groups]."""
    draws = np.random.default_rng(seed).integers(0, groups, size=(RESAMPLES, groups))
    return np.stack([np.bincount(draw, minlength=groups) for draw in draws]).astype(float)


def _interval(draws: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _ratio(sums: FloatArray) -> FloatArray:
    part, whole = sums[..., 0], sums[..., 1]
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 1.0)


def _r2(sums: FloatArray) -> FloatArray:
    count, first, second, error = np.moveaxis(sums, -1, 0)
    spread = second - first**2 / np.maximum(count, 1.0)
    varies = spread > 1e-12 * np.maximum(count, 1.0)
    return np.where(varies, 1 - error / np.where(varies, spread, 1.0), 0.0)


def _bleu(order: int) -> Callable[[FloatArray], FloatArray]:
    """BLEU up to an order from the corpus's counts: 4 × correct, 4 × given, length given, length wanted."""
    tiny, small = 1e-15, 1e-9  # as in pycocoevalcap, so that its values come out

    def value(sums: FloatArray) -> FloatArray:
        precision = (sums[..., :4] + tiny) / (sums[..., 4:8] + small)
        ratio = (sums[..., 8] + tiny) / (sums[..., 9] + small)
        brevity = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1.0)), 1.0)
        return np.prod(precision[..., : order + 1], axis=-1) ** (1 / (order + 1)) * brevity

    return value
