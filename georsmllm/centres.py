"""Maps of centres, as the tower's warm-up and the locator learn them: how a thing is drawn, and the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

REACH = 3
"""Places round a centre over which a thing is drawn."""


def splat(heat: npt.NDArray[np.float32], column: int, row: int, wide: float, high: float) -> None:
    """Raise a map [G, G] to a Gaussian round a centre, a sixth of the thing wide and high, in places."""
    sigma_x, sigma_y = max(wide / 6, 0.4), max(high / 6, 0.4)
    rows = np.arange(max(row - REACH, 0), min(row + REACH + 1, heat.shape[0]))
    columns = np.arange(max(column - REACH, 0), min(column + REACH + 1, heat.shape[1]))
    bump = np.exp(-((rows[:, None] - row) ** 2) / (2 * sigma_y**2) - (columns[None] - column) ** 2 / (2 * sigma_x**2))
    window = heat[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.maximum(window, bump, out=window)


def focal(logits: Tensor, wanted: Tensor, listed: Tensor, known: Tensor | bool = True) -> Tensor:
    """Penalty-reduced focal loss of centre maps (Law and Deng, arXiv 1808.01244, equation 1), summed.

    ``wanted`` in 0…1 and bool ``listed``, where centres are, have the shape of ``logits``; ``known`` says of which maps
    the list is complete.
    """
    chance = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    hit = -((1 - chance) ** 2) * torch.log(chance) * listed
    miss = -(chance**2) * (1 - wanted) ** 4 * torch.log(1 - chance) * (~listed & known)
    return (hit + miss).sum()
