"""Scores of answers, each with a bootstrap interval.

Caption scores come from pycocoevalcap on its raw scale (CIDEr 0–10). Its tokenizer needs Java, so one normaliser of our
own stands in for it: lower case, punctuation to spaces, single spaces. Intervals are percentile bootstraps over images
(Efron 1979): questions about one image stand or fall together, so the image is what is drawn.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

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


def normalise(text: str) -> str:
    """Lower case, punctuation replaced by spaces, single spaces: what every caption and answer is compared in."""
    return " ".join(_NOT_WORD.sub(" ", text.lower()).split())


def _interval(draws: npt.ArrayLike) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(draws), [2.5, 97.5])
    return float(low), float(high)


def _draws(groups: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, groups, size=(RESAMPLES, groups))


def mean_score(values: Sequence[float], groups: Sequence[int], seed: int = 0) -> Score:
    """Mean of ``values`` [n] with an interval over ``groups`` [n], the number of the image that each belongs to."""
    numbers, owner = np.asarray(values, float), np.asarray(groups)
    _, owner = np.unique(owner, return_inverse=True)
    totals, counts = np.bincount(owner, numbers), np.bincount(owner)
    drawn = _draws(len(counts), seed)
    low, high = _interval(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return Score(float(numbers.mean()), low, high, len(numbers))


def caption_scores(answers: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0) -> dict[str, Score]:
    """BLEU-1…4, ROUGE-L and CIDEr of one answer an image against its reference captions."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given = {i: [normalise(text)] for i, text in enumerate(answers)}
    wanted = {i: [normalise(text) for text in texts] for i, texts in enumerate(references)}
    images = list(range(len(answers)))

    bleu = BleuScorer(n=4)
    for i in images:
        bleu += (given[i][0], wanted[i])
    test, refs = list(bleu.ctest), list(bleu.crefs)

    def corpus_bleu(rows: Sequence[int]) -> list[float]:
        # BLEU is a ratio of sums over the corpus, so every draw is scored as a corpus of its own.
        part = BleuScorer(n=4)
        part.ctest, part.crefs = [test[i] for i in rows], [refs[i] for i in rows]
        values, _ = part.compute_score(option="closest", verbose=0)
        return [float(v) for v in values]

    whole = corpus_bleu(images)
    drawn = np.asarray([corpus_bleu(rows) for rows in _draws(len(images), seed).tolist()])
    scores = {f"BLEU-{n + 1}": Score(whole[n], *_interval(drawn[:, n]), len(images)) for n in range(4)}
    _, rouge = Rouge().compute_score(wanted, given)
    scores["ROUGE-L"] = mean_score([float(v) for v in rouge], images, seed)
    # CIDEr's word weights are those of the whole reference set, in every draw.
    _, cider = Cider().compute_score(wanted, given)
    scores["CIDEr"] = mean_score([float(v) for v in cider], images, seed)
    return scores


def paired_difference(first: Sequence[float], second: Sequence[float], groups: Sequence[int], seed: int = 0) -> Score:
    """Mean of first − second on the same items, with its interval: whether two models really differ."""
    return mean_score([a - b for a, b in zip(first, second, strict=True)], groups, seed)


def majority_baseline(keys: Sequence[str], answers: Sequence[str], groups: Sequence[int]) -> list[float]:
    """Share of answers that the commonest answer to the same key would get right, without looking at the image.

    For each item, the vote is among the items of *other* images with the same key (leave one image out), so the
    baseline does not know the answer that it is scored on. Returns 0.0 or 1.0 an item.
    """
    votes: dict[str, list[tuple[str, int]]] = {}
    for key, answer, group in zip(keys, answers, groups, strict=True):
        votes.setdefault(key, []).append((answer, group))
    hits = []
    for key, answer, group in zip(keys, answers, groups, strict=True):
        others = [a for a, g in votes[key] if g != group]
        # Of equally common answers the last in the alphabet, so that the baseline is the same every time.
        commonest = max(((count, a) for a, count in Counter(others).items()), default=(0, ""))[1]
        hits.append(float(bool(others) and commonest == answer))
    return hits
