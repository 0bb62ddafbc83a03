"""The locator: where what a question asks for lies, read off the tower's places instead of spelt digit by digit.

The language model opens an answer with the tag of a region, and the hidden state that the tag is chosen from becomes a
query. Its product with every place of the tower's pyramid is a map of centres, as the embedding of a special token
decodes to a mask in LISA (Lai et al. 2023, arXiv 2308.00692), and boxes and turned rectangles stand beside every place
as in "Objects as Points" (Zhou et al. 2019, arXiv 1904.07850). `gmrt.runtime.locator` computes the same without PyTorch
and `gmrt.runtime.peaks` turns the maps into regions, so desk and field answer alike. docs/decisions.md says why: a
decoder this small does not learn to spell places in hours on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gmrt.georsmllm.centres import focal, splat
from gmrt.georsmllm.shapes import minimal_rotated_box, turned_rectangle
from gmrt.runtime.locator import FEW, PLANES, RANK, SIZES, planes
from gmrt.runtime.peaks import GEOMETRY
from gmrt.runtime.points import Region, from_grid, parse_regions

FloatArray = npt.NDArray[np.float32]
ROUND = 1.2
"""A round thing's corners reach no farther out of the ellipse; those of a square reach 1.41."""


@dataclass(frozen=True)
class Located:
    """The answer to a question for places: ``boxes`` [n, 4] as x0, y0, x1, y1 in 0…1; one is asked for if ``single``.

    ``rectangles`` [n, 5] are a turned rectangle's long and short side in 0…1, cosine and sine of twice its angle, and 1
    for a thing that is round, else 0. ``known`` [n, 3] says whether boxes, rectangles and roundness are told: of points
    nothing is.
    """

    boxes: FloatArray
    rectangles: FloatArray
    known: npt.NDArray[np.bool_]
    single: bool


def located(answer: str, *, single: bool) -> Located:
    """Read the targets off an answer that is a location."""
    regions = parse_regions(answer)
    corners = [np.array([[from_grid(x), from_grid(y)] for x, y in region.points]) for region in regions]
    boxes = [np.concatenate([points.min(0), points.max(0)]) for points in corners]
    turned = [_rectangle(region, points) for region, points in zip(regions, corners, strict=True)]
    known = [(r.kind != "point", r.kind in ("obb", "poly"), r.kind == "poly") for r in regions]
    return Located(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(turned, np.float32).reshape(-1, 5),
        np.array(known, bool).reshape(-1, 3),
        single,
    )


def _rectangle(region: Region, points: npt.NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    if region.kind not in ("obb", "poly"):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    corners = points if region.kind == "obb" else minimal_rotated_box(points)
    return *turned_rectangle(corners), float(is_round(points, corners))


def is_round(points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]) -> bool:
    """Whether an outline [N, 2] keeps to the ellipse in its turned rectangle [4, 2]: no corner sticks out far."""
    centre, sides = corners.mean(axis=0), np.stack([corners[1] - corners[0], corners[3] - corners[0]]) / 2
    lengths = np.maximum(np.hypot(*sides.T), 1e-6)
    reach = (points - centre) @ (sides / lengths[:, None] ** 2).T
    return bool(np.hypot(*reach.T).max() < ROUND)


class Locator(nn.Module):
    """Queries [L, D], places [N, P, G, G] → centre maps [L, G, G], geometry [L, GEOMETRY, G, G], one or many [L].

    Of a pair, ``first`` are the places of the image before and ``last`` those of the image after; of a single image
    both are the same.
    """

    def __init__(self, width: int, places: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.cells = nn.Linear(places, RANK + GEOMETRY)
        self.changes = nn.Linear(places, RANK, bias=False)
        self.query = nn.Linear(width, RANK + PLANES + SIZES + 3)

    def forward(self, queries: Tensor, first: Tensor, last: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``owner`` [L] is the image, or pair, of each query; maps are logits."""
        weights, over, sizes, (bias, which, single) = self._split(self.query(queries))
        features, geometry = over_places(self.cells, last).split((RANK, GEOMETRY), dim=1)
        mixed, shapes = features[owner], geometry[owner]
        if first is not last:
            old_features, old_geometry = over_places(self.cells, first).split((RANK, GEOMETRY), dim=1)
            share = torch.sigmoid(which)[:, None, None, None]
            differences = over_places(self.changes, last - first)
            mixed = mixed + share * (old_features[owner] - mixed) + differences[owner]
            shapes = shapes + share * (old_geometry[owner] - shapes)
        maps = torch.einsum("lr,lrhw->lhw", weights, mixed) / RANK**0.5
        maps = maps + torch.einsum("lp,phw->lhw", over, self.planes.to(over))
        maps = maps + torch.einsum("ls,lshw->lhw", sizes, shapes[:, 2:4].detach()) + (bias + FEW)[:, None, None]
        return maps, shapes, single

    @torch.no_grad()
    def adopt(self, heads: Mapping[str, Tensor]) -> None:
        """Begin with what a warm-up's heads read off the places (`warmup.heads.WarmUp.readings`).

        A query then has to name what it is after, and need not learn what that looks like (docs/training-log.md).
        """
        features, geometry = heads["features.weight"][:RANK], heads["geometry.weight"]
        self.cells.weight[: len(features)] = features
        self.cells.bias[: len(features)] = heads["features.bias"][:RANK]
        self.cells.weight[RANK : RANK + len(geometry)] = geometry
        self.cells.bias[RANK : RANK + len(geometry)] = heads["geometry.bias"]
        self.query.weight[:RANK] = 0
        self.query.bias[:RANK] = 0

    @cached_property
    def planes(self) -> Tensor:
        """`gmrt.runtime.locator.planes`; no buffer: one that is not saved is lost when a model is loaded."""
        return torch.from_numpy(planes(self.side))

    @staticmethod
    def _split(query: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        weights, over, sizes, rest = query.split((RANK, PLANES, SIZES, 3), dim=1)
        bias, which, single = rest.unbind(1)
        return weights, over, sizes, (bias, which, single)


def over_places(linear: nn.Linear, places: Tensor) -> Tensor:
    """A linear layer at every place: [N, P, G, G] to [N, outputs, G, G]."""
    return functional.conv2d(places, linear.weight[:, :, None, None], linear.bias)


def locator_targets(answers: Sequence[Located], side: int) -> dict[str, Tensor]:
    """Targets of L questions: wanted [L, G, G], places int64 [n, 3], shapes [n, GEOMETRY], known [n, 3], single [L]."""
    wanted = np.zeros((len(answers), side, side), np.float32)
    places, shapes, known = [], [], []
    for number, answer in enumerate(answers):
        for box, turned, told in zip(answer.boxes, answer.rectangles, answer.known, strict=True):
            x, y = (box[0] + box[2]) / 2 * side, (box[1] + box[3]) / 2 * side
            wide, high = (box[2] - box[0]) * side, (box[3] - box[1]) * side
            column, row = min(int(x), side - 1), min(int(y), side - 1)
            splat(wanted[number], column, row, wide, high)
            places.append((number, row, column))
            long, short = (np.log(max(length * side, 0.1)) for length in turned[:2])
            sides = [np.log(max(length, 0.1)) for length in (wide, high)]
            shapes.append((x - column, y - row, *sides, long, short, *turned[2:]))
            known.append(told)
    return {
        "wanted": torch.from_numpy(wanted),
        "places": torch.from_numpy(np.array(places, np.int64).reshape(-1, 3)),
        "shapes": torch.from_numpy(np.array(shapes, np.float32).reshape(-1, GEOMETRY)),
        "known": torch.from_numpy(np.array(known, bool).reshape(-1, 3)),
        "single": torch.tensor([answer.single for answer in answers]),
    }


def locator_loss(maps: Tensor, shapes: Tensor, single: Tensor, targets: Mapping[str, Any]) -> Tensor:
    """Where sets are (focal, Law and Deng, arXiv 1808.01244), where the one is (cross-entropy), and their sizes."""
    wanted, places, known, one = targets["wanted"], targets["places"], targets["known"], targets["single"]
    loss = functional.binary_cross_entropy_with_logits(single, one.float())
    listed = torch.zeros_like(wanted, dtype=torch.bool)
    listed[places[:, 0], places[:, 1], places[:, 2]] = True
    if bool((~one).any()):
        logits, truth, centres = maps[~one], wanted[~one], listed[~one]
        # Counting the maps in keeps a batch in which next to nothing is there from weighing a hundred times as much.
        loss = loss + focal(logits, truth, centres) / (centres.sum() + len(truth))
    if bool(one.any()):
        truth = wanted[one].flatten(1) ** 2
        truth = truth / truth.sum(1, keepdim=True).clamp(min=1e-6)
        loss = loss - (truth * functional.log_softmax(maps[one].flatten(1), dim=1)).sum(1).mean()
    if len(places):
        found, true = shapes[places[:, 0], :, places[:, 1], places[:, 2]], targets["shapes"]
        told = known[:, [0] * 4 + [1] * 4].float()
        told[:, :2] = 1.0  # a centre is always told
        each = functional.smooth_l1_loss(found[:, :8], true[:, :8], reduction="none", beta=0.1)
        loss = loss + (each * told).sum() / told.sum().clamp(min=1) * 4
        rounded = functional.binary_cross_entropy_with_logits(found[:, 8], true[:, 8], reduction="none")
        loss = loss + (rounded * known[:, 2]).sum() / known[:, 2].sum().clamp(min=1)
    return loss
