"""Packing: one image, many questions, one row.

The image is the expensive part of a prompt and all questions about it share it, so a training row is the image's
prefix once, followed by several branches (question, answer, end). A branch sees the prefix and itself, and its
positions go on from the prefix: to the model each branch is a prompt of its own, exactly as at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gmrt.georsmllm.processor import GeoRSMLLMProcessor

IGNORE = -100


@dataclass(frozen=True)
class Row:
    """A packed row: ids, labels, positions int64 [S]; branch int64 [S] is 0 for the prefix, −1 for padding."""

    ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    branch: np.ndarray


def pack(processor: GeoRSMLLMProcessor, turns: Sequence[tuple[str, str]], images: int = 1) -> Row:
    """Pack (question, answer) pairs about the same images into one row; only answers carry labels."""
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    branch: list[int] = []
    for number, (question, answer) in enumerate(turns, start=1):
        prompt = processor.encode(question, images)
        if not ids:
            ids.extend(prompt.ids[: prompt.prefix].tolist())
            labels.extend([IGNORE] * prompt.prefix)
            positions.extend(range(prompt.prefix))
            branch.extend([0] * prompt.prefix)
        suffix, target = prompt.suffix_ids.tolist(), processor.answer_ids(answer)
        ids.extend(suffix + target)
        labels.extend([IGNORE] * len(suffix) + target)
        positions.extend(range(prompt.prefix, prompt.prefix + len(suffix) + len(target)))
        branch.extend([number] * (len(suffix) + len(target)))
    return Row(*(np.asarray(values, dtype=np.int64) for values in (ids, labels, positions, branch)))


def branch_mask(branch: Tensor) -> Tensor:
    """Additive attention mask float32 [B, 1, S, S] from branch numbers [B, S]: causal, own branch and prefix only."""
    size = branch.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    query, key = branch[:, :, None], branch[:, None, :]
    seen = causal & ((key == 0) | (key == query)) & (key >= 0)
    seen |= torch.eye(size, dtype=torch.bool)  # a padding row sees itself, so that no softmax is empty
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]


def collate(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """Pad rows to the longest: input_ids, labels, position_ids [B, S]; attention_mask [B, 1, S, S] by branches."""
    size = max(len(row.ids) for row in rows)

    def stack(values: list[np.ndarray], fill: int) -> Tensor:
        return torch.from_numpy(np.stack([np.pad(v, (0, size - len(v)), constant_values=fill) for v in values]))

    branch = stack([row.branch for row in rows], -1)
    return {
        "input_ids": stack([row.ids for row in rows], pad),
        "labels": stack([row.labels for row in rows], IGNORE),
        "position_ids": stack([row.positions for row in rows], 0),
        "attention_mask": branch_mask(branch),
    }
