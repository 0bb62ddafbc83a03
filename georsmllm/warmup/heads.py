"""The heads of the tower's warm-up and their losses; a locator begins with what they read off the places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gmrt.georsmllm.centres import focal
from gmrt.georsmllm.lite import EfficientNetLite
from gmrt.georsmllm.warmup.targets import GRID, ORIENTATIONS, Targets, Vocabulary
from gmrt.runtime.locator import FINE

WEIGHTS = {
    "heat": 1.0,
    "mask": 4.0,
    "box": 1.0,
    "turned": 0.5,
    "colour": 0.3,
    "orientation": 0.2,
    "class": 1.0,
    "tags": 6.0,
    "covers": 0.5,
    "measures": 1.0,
}
"""Weights that bring the losses of a trained tower to about the same size."""


class WarmUp(nn.Module):
    """Tower and linear heads: what a linear map can read off the features, a connector or a locator can read, too.

    ``width`` is that of what the tower says of a cell, ``places`` that of what its pyramid says of a place in it.
    """

    def __init__(self, tower: EfficientNetLite, width: int, places: int, names: Vocabulary) -> None:
        super().__init__()
        self.tower, self.names = tower, names
        kinds = len(names.categories)
        self.parts = (kinds, kinds, 4, 4, len(names.colours), len(ORIENTATIONS))
        self.whole = (len(names.classes), len(names.tags), len(names.covers), len(names.measures))
        self.width = width
        self.dense = nn.Conv2d(places, sum(self.parts), 1)
        self.pooled = nn.Linear(2 * width, sum(self.whole))
        nn.init.normal_(self.dense.weight, std=0.01)
        # Nearly every cell is empty: the heads begin by saying so (Lin et al., focal loss, arXiv 1708.02002).
        bias = torch.zeros(sum(self.parts))
        bias[: 2 * kinds] = -4.0
        self.dense.bias = nn.Parameter(bias)

    def forward(self, pixels: Tensor, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Losses of a batch [B, 3, H, W]: their weighted sum as ``loss``, and each by name without gradient."""
        features, places = self.tower(pixels).tensor_split([self.width], dim=2)
        cells = places.transpose(1, 2).reshape(len(pixels), -1, GRID // FINE, GRID // FINE)
        dense = self.dense(functional.pixel_shuffle(cells, FINE)).split(self.parts, dim=1)
        pooled = torch.cat([features.mean(1), features.amax(1)], dim=1)
        losses = dense_losses(dense, targets) | whole_losses(self.pooled(pooled).split(self.whole, dim=1), targets)
        start = torch.zeros((), device=pixels.device)
        total = sum((WEIGHTS[name] * value for name, value in losses.items()), start=start)
        return {"loss": total} | {name: value.detach() for name, value in losses.items()}

    def readings(self) -> dict[str, Tensor]:
        """What the heads read off a place, as linear layers: features [n, P] and geometry [8, P] with their biases.

        Features are centres of every category, colours, directions, and what every category covers; geometry is that of
        `gmrt.runtime.peaks.GEOMETRY` but for its last row.
        """
        heat, mask, boxes, turned, colours, directions = torch.arange(sum(self.parts)).split(self.parts)
        rows = {"features": torch.cat([heat, colours, directions, mask]), "geometry": torch.cat([boxes, turned])}
        weight, bias = self.dense.weight.detach().flatten(1), self.dense.bias.detach()
        return {
            f"{name}.{part}": value[these].contiguous()
            for name, these in rows.items()
            for part, value in (("weight", weight), ("bias", bias))
        }


def dense_losses(maps: Sequence[Tensor], targets: Sequence[Targets]) -> dict[str, Tensor]:
    """Losses of the maps, each a mean over what is labelled.

    The maps are centre heat, masks, boxes, turned rectangles, colours and orientations.
    """
    heat, mask, boxes, rectangles, colours, orientations = maps
    device = heat.device
    known = _stacked([t.known for t in targets], device)[..., None, None]
    wanted = _stacked([t.heat for t in targets], device)
    covered = _stacked([t.mask for t in targets], device)
    numbers = [len(t.places) for t in targets]
    image = torch.repeat_interleave(torch.arange(len(targets)), torch.tensor(numbers)).to(device)
    places = _stacked([t.places for t in targets], device, np.concatenate)
    # What is listed is there, also where the list is not complete.
    listed = torch.zeros_like(wanted, dtype=torch.bool)
    listed[image, places[:, 0], places[:, 1], places[:, 2]] = True
    some = max(len(places), 1)
    empty = max(int(known.sum()) * GRID**2, 1)
    picked = (image, slice(None), places[:, 1], places[:, 2])
    found = _stacked([t.boxes for t in targets], device, np.concatenate)
    turned = _stacked([t.rectangles for t in targets], device, np.concatenate)
    told = ~turned.isnan()
    colour = _stacked([t.colour for t in targets], device, np.concatenate)
    direction = _stacked([t.orientation for t in targets], device, np.concatenate)
    each = functional.binary_cross_entropy_with_logits(mask, covered, reduction="none")
    # Thin things cover few cells, so covered cells weigh more.
    weight = (known | listed.any((2, 3), keepdim=True)) * (1 + 9 * covered)
    return {
        "heat": focal(heat, wanted, listed, known) / some,
        "mask": (each * weight).sum() / empty,
        "box": functional.smooth_l1_loss(boxes[picked], found, reduction="sum", beta=0.1) / some,
        "turned": functional.smooth_l1_loss(rectangles[picked][told], turned[told], reduction="sum", beta=0.1) / some,
        "colour": _cross(colours[picked], colour),
        "orientation": _cross(orientations[picked], direction),
    }


def _stacked(arrays: list[Any], device: torch.device, join: Callable[..., Any] = np.stack) -> Tensor:
    return torch.from_numpy(join(arrays)).to(device)


def _cross(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over what is labelled; 0 where nothing is."""
    if not bool((wanted >= 0).any()):
        return logits.sum() * 0
    return functional.cross_entropy(logits, wanted, ignore_index=-1)


def whole_losses(outputs: Sequence[Tensor], targets: Sequence[Targets]) -> dict[str, Tensor]:
    """Losses of what is said of whole images: class, tags, land covers, measures."""
    classes, tags, covers, measures = outputs
    device = classes.device
    wanted = torch.tensor([t.scene_class for t in targets], device=device)
    worded = _stacked([t.tags for t in targets], device)
    shares = _stacked([t.covers for t in targets], device)
    numbers = _stacked([t.measures for t in targets], device)
    return {
        "class": _cross(classes, wanted),
        "tags": _known_mean(
            functional.binary_cross_entropy_with_logits(tags, worded.nan_to_num(), reduction="none"), worded
        ),
        "covers": _known_mean(-shares.nan_to_num() * functional.log_softmax(covers, dim=1), shares) * shares.shape[1],
        "measures": _known_mean(functional.smooth_l1_loss(measures, numbers.nan_to_num(), reduction="none"), numbers),
    }


def _known_mean(values: Tensor, wanted: Tensor) -> Tensor:
    known = ~wanted.isnan()
    return (values * known).sum() / known.sum().clamp(min=1)
