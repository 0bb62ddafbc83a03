"""Packing: one image, many questions, one row.

The image is the expensive part of a prompt and all questions about it share it, so a training row is the image's
prefix once, followed by several branches (question, answer, end). A branch sees the prefix and itself, and its
positions go on from the prefix: to the model each branch is a prompt of its own, exactly as at inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmrt.georsmllm.coordinates import number_ids
from gmrt.georsmllm.locator import Located, located, locator_targets
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.runtime.locator import FINE
from gmrt.runtime.points import has_regions
from gmrt.runtime.scalar import COUNT, VALUE

IGNORE = -100


@dataclass(frozen=True)
class Row:
    """A packed row: ids, labels, positions int64 [S]; branch int64 [S] is 0 for the prefix, −1 for padding.

    Where the token that opens a scalar comes next, at the end of its prompt, ``values`` float32 [S] is the number in
    standard deviations from its mean, and ``outputs`` int64 [S] the index of its measure; elsewhere NaN and −1.
    ``spread`` bool [S] marks labels that are coordinates, whose neighbours are nearly right. ``located`` holds what a
    locator should find, each with the position of the hidden state that it is asked with; ``images`` are 1 or 2.
    """

    ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    branch: np.ndarray
    values: np.ndarray
    outputs: np.ndarray
    spread: np.ndarray
    located: tuple[tuple[int, Located], ...] = ()
    images: int = 1


@dataclass(frozen=True)
class Turn:
    """One question about an image and its answer.

    A scalar has its number, in its unit, as ``value`` and its name as ``measure``; its answer is `value_answer`. A
    location has the ``form`` of its regions, also where there are none, and may be asked for a ``single`` one. A count
    has what is ``counted`` as regions, where that is known.
    """

    question: str
    answer: str
    value: float | None = None
    measure: str = ""
    form: str = ""
    single: bool = False
    counted: str = ""


def value_answer(measure: str) -> str:
    """The words of an answer whose number comes from the regression head."""
    return f"{VALUE} {measure}"


def pack(
    processor: GeoRSMLLMProcessor,
    turns: Sequence[Turn | tuple[str, str]],
    images: int = 1,
    measures: Sequence[Mapping[str, Any]] = (),
    *,
    locator: bool = False,
) -> Row:
    """Pack turns, or pairs of question and answer, about the same images into one row; only answers carry labels.

    ``measures`` are the model's (`GeoRSMLLMConfig.measures`); with a ``locator`` a location is only opened and a count
    only named, and what is to be found goes along. Raises ValueError for a turn with a value whose measure is not among
    them, or whose answer does not open with the token of a scalar.
    """
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    branch: list[int] = []
    values: list[float] = []
    outputs: list[int] = []
    spread: list[bool] = []
    places: list[tuple[int, Located]] = []
    coordinates = set(number_ids(processor.backend) or ())
    for number, given in enumerate(turns, start=1):
        turn = given if isinstance(given, Turn) else Turn(*given)
        prompt = processor.encode(turn.question, images)
        if not ids:
            ids.extend(prompt.ids[: prompt.prefix].tolist())
            labels.extend([IGNORE] * prompt.prefix)
            positions.extend(range(prompt.prefix))
            branch.extend([0] * prompt.prefix)
            values.extend([np.nan] * prompt.prefix)
            outputs.extend([-1] * prompt.prefix)
            spread.extend([False] * prompt.prefix)
        suffix, target = prompt.suffix_ids.tolist(), processor.answer_ids(turn.answer)
        if locator and turn.form:
            target = [processor.backend.token_to_id(f"<{turn.form}>")]
            places.append((len(ids) + len(suffix) - 1, located(turn.answer, single=turn.single)))
        elif locator and turn.counted:
            target = processor.answer_ids(value_answer(COUNT))
            places.append((len(ids) + len(suffix) - 1, located(turn.counted, single=False)))
        ids.extend(suffix + target)
        labels.extend([IGNORE] * len(suffix) + target)
        positions.extend(range(prompt.prefix, prompt.prefix + len(suffix) + len(target)))
        branch.extend([number] * (len(suffix) + len(target)))
        spelt = has_regions(turn.answer)
        spread.extend([False] * len(suffix) + [spelt and token in coordinates for token in target])
        value, output = _scaled(processor, turn, target, measures)
        values.extend([np.nan] * (len(suffix) - 1) + [value] + [np.nan] * len(target))
        outputs.extend([-1] * (len(suffix) - 1) + [output] + [-1] * len(target))
    whole = (np.asarray(column, dtype=np.int64) for column in (ids, labels, positions, branch))
    return Row(
        *whole,
        np.asarray(values, dtype=np.float32),
        np.asarray(outputs, dtype=np.int64),
        np.asarray(spread, dtype=bool),
        tuple(places),
        images,
    )


def _scaled(
    processor: GeoRSMLLMProcessor, turn: Turn, target: Sequence[int], measures: Sequence[Mapping[str, Any]]
) -> tuple[float, int]:
    """A turn's value in standard deviations from the mean, and the index of its measure; NaN and −1 without one."""
    if turn.value is None:
        return np.nan, -1
    index = next((i for i, measure in enumerate(measures) if measure["name"] == turn.measure), -1)
    if index < 0:
        raise ValueError(f"the model has no measure {turn.measure!r}: name it in its configuration's measures")
    if target[0] != processor.backend.token_to_id(VALUE):
        raise ValueError(f"the answer to {turn.question!r} has a value and must open with {VALUE}, not {turn.answer!r}")
    return (turn.value - measures[index]["mean"]) / measures[index]["std"], index


def branch_mask(branch: Tensor) -> Tensor:
    """Additive attention mask float32 [B, 1, S, S] from branch numbers [B, S]: causal, own branch and prefix only."""
    size = branch.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    query, key = branch[:, :, None], branch[:, None, :]
    seen = causal & ((key == 0) | (key == query)) & (key >= 0)
    seen |= torch.eye(size, dtype=torch.bool)  # a padding row sees itself, so that no softmax is empty
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]


def collate(rows: Sequence[Row], pad: int, side: int = 0) -> dict[str, Tensor]:
    """Pad rows to the longest: input_ids, labels, position_ids [B, S]; attention_mask [B, 1, S, S] by branches.

    Where any row holds a scalar, values float32 and outputs int64 [B, S] come with them, and where any holds a
    coordinate, spread bool [B, S]. Where any holds what a locator should find, so do its targets for a tower ``side``
    cells wide (`locator.locator_targets`), the row and position of each query as asked int64 [L, 2], and images int64
    [B] how many images each row has.
    """
    size = max(len(row.ids) for row in rows)

    def stack(values: list[np.ndarray], fill: float) -> Tensor:
        return torch.from_numpy(np.stack([np.pad(v, (0, size - len(v)), constant_values=fill) for v in values]))

    branch = stack([row.branch for row in rows], -1)
    extra = {}
    if any((row.outputs >= 0).any() for row in rows):
        extra = {
            "values": stack([row.values for row in rows], np.nan),
            "outputs": stack([row.outputs for row in rows], -1),
        }
    if any(row.spread.any() for row in rows):
        extra["spread"] = stack([row.spread for row in rows], 0)
    if any(row.located for row in rows):
        asked = [(number, at) for number, row in enumerate(rows) for at, _ in row.located]
        extra |= locator_targets([answer for row in rows for _, answer in row.located], side * FINE)
        extra |= {"asked": torch.tensor(asked), "images": torch.tensor([row.images for row in rows])}
    return {
        "input_ids": stack([row.ids for row in rows], pad),
        "labels": stack([row.labels for row in rows], IGNORE),
        "position_ids": stack([row.positions for row in rows], 0),
        "attention_mask": branch_mask(branch),
        **extra,
    }
