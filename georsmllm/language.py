"""Stages that teach the language model: rows of packed questions about features or pixels, under the Trainer.

What an item holds depends on the seed, the stage, the pass and the place in it only, never on what ran before, so a
resumed run is the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.coordinates import number_ids
from gmrt.georsmllm.features import Features, cache_features, pixels_of
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.packing import Row, collate, pack
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.georsmllm.recipe import Stage
from gmrt.georsmllm.sources import Mixture
from gmrt.georsmllm.turns import askable, turns

WINDOW = 8
"""Batches over which rows are grouped by source: rows of one source are about as long, and short rows waste no work."""


@dataclass(frozen=True)
class Item:
    """A packed row and what it is about: features float32 [1 or 2, P, C], or pixels float32 [1 or 2, 3, H, W]."""

    row: Row
    images: npt.NDArray[np.float32]


class PackedQuestions(Dataset[Item]):
    """Item ``n`` is one view of one image or pair with packed questions; passes over the mixture follow each other.

    An image that the stage asks nothing about gives its place to another of its source.
    """

    def __init__(
        self,
        mixture: Mixture,
        views: Sequence[int],
        processor: GeoRSMLLMProcessor,
        stage: Stage,
        features: Sequence[Features],
        config: GeoRSMLLMConfig,
        seed: int,
    ) -> None:
        self.mixture, self.views, self.processor, self.stage = mixture, views, processor, stage
        self.features, self.measures, self.locator, self.seed = features, config.measures, bool(config.places), seed
        self.firsts = np.searchsorted(mixture.sources, np.arange(len(mixture.weights)))
        self.size = len(mixture.order(np.random.default_rng(0)))
        self.asked = np.array([askable(example, stage.branches) for example in mixture.examples])
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.stage.images

    def __getitem__(self, item: int) -> Item:
        number, place = divmod(item, self.size)
        index = int(self.order(number)[place])
        example = self.mixture.examples[index]
        rng = np.random.default_rng((self.seed, number, place))
        view = int(rng.integers(self.views[index])) if example.after is None else 0
        classes, branches = self.mixture.classes_of(index), self.stage.branches
        drawn = turns(example, classes, branches, rng, upright=view == 0, whole=view == 0)
        if not drawn:  # everything that is known names a place
            view, drawn = 0, turns(example, classes, branches, rng, upright=True, whole=True)
        images = 1 if example.after is None else 2
        row = pack(self.processor, drawn, images, self.measures, locator=self.locator)
        if self.features:
            source = int(self.mixture.sources[index])
            return Item(row, self.features[source].of(index - int(self.firsts[source]), view))
        seed = (self.seed, index, view)
        return Item(row, pixels_of(example, view, seed, self.processor.image_processor.image_spec))

    def order(self, number: int) -> npt.NDArray[np.int64]:
        """Indices of a pass, grouped by source within windows of `WINDOW` batches, the batches shuffled."""
        if self._order[0] != number:
            rng = np.random.default_rng((self.seed, number))
            order = self.mixture.order(rng)
            sources = self.mixture.sources
            for place in np.flatnonzero(~self.asked[order]):
                order[place] = rng.choice(np.flatnonzero(self.asked & (sources == sources[order[place]])))
            self._order = number, grouped(order, sources[order], self.stage.batch, rng)
        return self._order[1]


def grouped(
    order: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64], batch: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """``order`` [n] with rows of one kind next to each other within windows, the whole batches of a window shuffled."""
    parts = []
    for start in range(0, len(order), WINDOW * batch):
        part = order[start : start + WINDOW * batch]
        part = part[np.argsort(kinds[start : start + WINDOW * batch], kind="stable")]
        full = len(part) // batch * batch
        batches = part[:full].reshape(-1, batch)
        parts += [batches[rng.permutation(len(batches))].reshape(-1), part[full:]]
    return np.concatenate(parts)


def collator(processor: GeoRSMLLMProcessor, *, pixels: bool) -> Callable[[Sequence[Item]], dict[str, Tensor]]:
    """What makes a batch of items: the columns of `packing.collate`, and image_features or pixel_values."""
    pad = processor.backend.token_to_id(nano.PAD)
    pad = processor.prompt_layout.eos_token_ids[0] if pad is None else pad
    numbers = number_ids(processor.backend)
    side = round(processor.image_processor.image_spec.tokens**0.5)

    def batch(items: Sequence[Item]) -> dict[str, Tensor]:
        images = torch.from_numpy(np.concatenate([item.images for item in items]))
        columns = collate([item.row for item in items], pad, side)
        if "spread" in columns and numbers is not None:
            columns["numbers"] = torch.tensor(numbers)
        if pixels:
            return columns | {"pixel_values": images.to(memory_format=torch.channels_last)}
        return columns | {"image_features": images}

    return batch


def cached(
    model: GeoRSMLLMForConditionalGeneration,
    processor: GeoRSMLLMProcessor,
    mixture: Mixture,
    views: Sequence[int],
    paths: Sequence[Path],
    seed: int,
) -> list[Features]:
    """Features of the frozen tower for every view of every example, in one file of ``paths`` a source."""
    tower: nn.Module = model.tower.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = processor.image_processor.image_spec
    parts = []
    for source, path in enumerate(paths):
        members = np.flatnonzero(mixture.sources == source)
        examples, counts = [mixture.examples[i] for i in members], [views[i] for i in members]
        parts.append(cache_features(path, tower, examples, counts, spec, seed=seed))
    return parts


def freeze(model: GeoRSMLLMForConditionalGeneration, stage: Stage) -> None:
    """Let the parts learn that the stage names; regression head and locator belong to the decoder."""
    model.requires_grad_(False)
    for part in stage.train:
        getattr(model, part).requires_grad_(True)
    for head in (model.regression, model.locator):
        if head is not None and ("decoder" in stage.train or stage.lora):
            head.requires_grad_(True)
