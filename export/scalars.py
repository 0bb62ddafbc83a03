"""The scalars of a bundle against those of its checkpoint, in standard deviations of their training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gmrt.export.checkpoint import Checkpoint
from gmrt.export.precision import Limit
from gmrt.export.reference import Case
from gmrt.georsmllm.tasks.wordings import MEASURE
from gmrt.runtime.backends import Backend

FloatArray = npt.NDArray[np.float32]

_ALONE = Limit(1e-3, "a float product of some hundred terms; 1e-6 was measured")


@dataclass(frozen=True)
class ScalarRow:
    """How far a measure was off over ``cases``, in standard deviations: on average, and at ``worst``."""

    component: str
    measure: str
    cases: int
    average: float
    worst: float
    failed: str


def scalar_questions(checkpoint: Checkpoint) -> tuple[str, ...]:
    """A question for each of a checkpoint's measures, in their order."""
    return tuple(MEASURE[0].format(measure=measure["name"]) for measure in checkpoint.model.config.measures)


class Scalars:
    """Differences of the head alone, and of the whole bundle where a measure was asked for; ``whole`` is their limit.

    A head may be off by its worst, because it is float at every precision; a whole bundle on average, because one
    picture on which rounding costs much tells little.
    """

    def __init__(self, checkpoint: Checkpoint, whole: Limit) -> None:
        self._model, self._whole = checkpoint.model, whole
        self._asked = scalar_questions(checkpoint)
        self._std = np.array([measure["std"] for measure in checkpoint.model.config.measures], np.float32)
        self._alone: list[FloatArray] = []
        self._answers: dict[str, list[float]] = {question: [] for question in self._asked}

    @torch.inference_mode()
    def add(self, case: Case, values: FloatArray, backend: Backend) -> None:
        """Compare the head on a case's last hidden states, and ``values`` [n, K] of the bundle's own where asked."""
        if not self._asked:
            return
        truth = self._model.measured(torch.from_numpy(case.last_hidden)).numpy()
        self._alone.append(np.abs(truth - backend.measure(case.last_hidden)) / self._std)
        if case.question in self._answers:
            off = np.abs(truth[0] - values[0]) / self._std
            self._answers[case.question].append(float(off[self._asked.index(case.question)]))

    def rows(self) -> Iterator[ScalarRow]:
        """For each measure one row of the head and one of the whole bundle."""
        for index, measure in enumerate(self._model.config.measures):
            alone = np.concatenate([case[:, index] for case in self._alone])
            yield _row("heads", measure["name"], alone, float(np.max(alone)), _ALONE)
            whole = self._answers[self._asked[index]]
            yield _row("answers", measure["name"], whole, float(np.mean(whole)), self._whole)


def _row(component: str, measure: str, off: Sequence[float] | FloatArray, judged: float, limit: Limit) -> ScalarRow:
    failed = "" if judged <= limit.value else f"off by {judged:.3g} deviations > {limit.value} ({limit.why})"
    average, worst = round(float(np.mean(off)), 7), round(float(np.max(off)), 7)
    return ScalarRow(component, measure, len(off), average, worst, failed)
