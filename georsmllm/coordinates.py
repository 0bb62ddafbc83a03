"""Numbers that know their order, so that a small model learns where things are from fewer examples.

To a language model 512 and 513 are two words. Here the table's rows of the whole numbers begin as smooth functions of
the number (random Fourier features, Rahimi and Recht 2007), and a coordinate's target is spread over its neighbours:
an answer that is off by one cell is nearly right, and is taught as such. Counts are exact, and their targets one-hot.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from gmrt.runtime.points import GRID

SPREAD = 4.0
"""Standard deviation of a coordinate's target in cells of the grid: a pixel of a 256 px image is 4 cells."""
SCALES = (300.0, 80.0, 20.0)
"""Distances, in cells, over which the features of numbers stay alike."""


@lru_cache(maxsize=8)
def number_ids(backend: Tokenizer) -> list[int] | None:
    """Token ids of 0…999 as they stand in a location; None when some are not single tokens."""
    ids = [backend.token_to_id(f"▁{number}") for number in range(GRID)]
    return None if None in ids else [int(i) for i in ids]


def smooth_rows(width: int, std: float, generator: torch.Generator) -> Tensor:
    """Rows [GRID, width] for the numbers, of standard deviation ``std``, alike for near numbers."""
    scale = torch.tensor(SCALES)[torch.arange(width) % len(SCALES)]
    frequency = torch.randn(width, generator=generator) / scale
    phase = 2 * torch.pi * torch.rand(width, generator=generator)
    waves = torch.cos(torch.arange(GRID)[:, None] * frequency + phase)
    return std * (waves - waves.mean(0)) / waves.std(0)


def neighbours() -> Tensor:
    """Target distributions [GRID, GRID]: row n is a Gaussian round n, `SPREAD` wide, that sums to 1."""
    cells = torch.arange(GRID, dtype=torch.float32)
    weights = torch.exp(-((cells[:, None] - cells) ** 2) / (2 * SPREAD**2))
    return weights / weights.sum(1, keepdim=True)


def token_losses(logits: Tensor, labels: Tensor, spread: Tensor, numbers: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy [n] of ``logits`` [n, V] with ``labels`` [n], where ``spread`` [n] with spread targets.

    ``numbers`` [GRID] are the tokens of the numbers and ``targets`` [GRID, GRID] what `neighbours` gives; a spread
    loss is measured from the target's own entropy, so that 0 is perfect for every token.
    """
    losses = functional.cross_entropy(logits, labels, reduction="none")
    if not bool(spread.any()):
        return losses
    place = torch.full((logits.shape[1],), -1, device=logits.device).index_put_(
        (numbers,), torch.arange(GRID, device=logits.device)
    )
    wanted = targets.to(logits.device)[place[labels[spread]]]
    logs = functional.log_softmax(logits[spread].float(), dim=1)[:, numbers]
    entropy = -torch.special.xlogy(wanted, wanted).sum(1)
    return losses.index_put((torch.nonzero(spread)[:, 0],), -(wanted * logs).sum(1) - entropy)
