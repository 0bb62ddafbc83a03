"""The warm-up as a training of its own, under Hugging Face's Trainer: resumable, and the same however it is cut up."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, set_seed

from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.features import recoloured, turned
from gmrt.georsmllm.lite import EfficientNetLite
from gmrt.georsmllm.recipe import RecipeError, Stage
from gmrt.georsmllm.sources import Mixture
from gmrt.georsmllm.trainer import arguments, one_first, run
from gmrt.georsmllm.warmup.heads import WarmUp
from gmrt.georsmllm.warmup.targets import LEAST, Targets, Vocabulary, targets, vocabulary
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.scene import decode_image

TOWER_FILE, HEADS_FILE = "tower.safetensors", "heads.safetensors"


class Views(Dataset[tuple[np.ndarray, Targets]]):
    """Item ``n`` is one image, turned and recoloured at random, and its targets; passes follow each other."""

    def __init__(self, mixture: Mixture, names: Vocabulary, spec: ImageSpec, images: int, seed: int) -> None:
        self.mixture, self.names, self.spec, self.images, self.seed = mixture, names, spec, images, seed
        self.size = len(mixture.order(np.random.default_rng(0)))
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, item: int) -> tuple[np.ndarray, Targets]:
        number, place = divmod(item, self.size)
        if self._order[0] != number:
            self._order = number, self.mixture.order(np.random.default_rng((self.seed, number)))
        example = self.mixture.examples[int(self._order[1][place])]
        rng = np.random.default_rng((self.seed, number, place))
        turn = int(rng.integers(8))
        picture = recoloured(turned(decode_image(example.image).rgb, turn), rng)
        return prepare(picture, self.spec), targets(example, self.names, turn)


def warm_up(tower: EfficientNetLite, mixture: Mixture, spec: ImageSpec, stage: Stage, output: Path, seed: int) -> None:
    """Train the tower in place, or load what an earlier run has finished; ``output`` holds its files.

    ``tower.safetensors`` is the result, ``heads.safetensors`` what its heads read off a place, for a locator to begin
    with; ``vocabulary.json`` names what was predicted; ``steps/`` resumes a cut run.
    Raises `DatasetError` when the examples hold nothing that a tower could learn from, and `RecipeError` when the
    result is there but of another tower.
    """
    done = output / TOWER_FILE
    if done.is_file():
        _load(tower, done)
        return
    names = vocabulary(mixture.examples)
    if not any(vars(names).values()):
        raise DatasetError(
            f"stage {stage.name!r}: a warm-up learns from classes, objects, measures, and words of at least {LEAST} "
            "captioned images, and its sources hold none"
        )
    if tower.neck is None or tower.pyramid is None:
        raise RecipeError(
            f"stage {stage.name!r}: a warm-up is for a tower with neck and pyramid, as that of preset nano"
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / "vocabulary.json").write_text(json.dumps(names.to_dict(), indent=1), encoding="utf-8")
    set_seed(seed)
    model = WarmUp(tower, int(tower.neck.coarse.conv.out_channels), int(tower.pyramid.coarse.conv.out_channels), names)
    for module in (tower.stem, *tower.blocks[: stage.frozen]):
        module.requires_grad_(False)
    optimizer = torch.optim.AdamW(list(_groups(model, stage)), weight_decay=stage.weight_decay)
    trainer = Trainer(
        model=model,
        args=arguments(stage, output, seed),
        train_dataset=Views(mixture, names, spec, stage.images, seed),
        data_collator=_batch,
        optimizers=(optimizer, None),
    )
    run(trainer, output)
    tower.eval().requires_grad_(True)
    with one_first():
        if not done.is_file():
            save_file(model.readings(), output / HEADS_FILE)
            partial = done.with_name(f"{TOWER_FILE}.partial")
            save_file({name: value.contiguous() for name, value in tower.state_dict().items()}, partial)
            partial.replace(done)
            print(f"tower warmed up: {done}", file=sys.stderr)
    # Statistics of norms differ between processes: they go on from the same tower.
    _load(tower, done)


def _load(tower: EfficientNetLite, path: Path) -> None:
    try:
        tower.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError):
        raise RecipeError(f"{path} is of another tower: remove its folder to run the stage again") from None


def _groups(model: WarmUp, stage: Stage) -> Iterator[dict[str, Any]]:
    """Parameters by how fast they learn."""
    fresh: list[nn.Parameter] = [*model.dense.parameters(), *model.pooled.parameters()]
    for part in (model.tower.neck, model.tower.pyramid):
        assert part is not None
        fresh.extend(part.parameters())
    known = {id(parameter) for parameter in fresh}
    old = [p for p in model.tower.parameters() if p.requires_grad and id(p) not in known]
    yield {"params": old, "lr": stage.learning_rate}
    yield {"params": fresh, "lr": stage.learning_rate * stage.faster}


def _batch(items: Sequence[tuple[np.ndarray, Targets]]) -> dict[str, Any]:
    pixels: Tensor = torch.from_numpy(np.stack([pixels for pixels, _ in items]))
    return {"pixels": pixels.to(memory_format=torch.channels_last), "targets": [t for _, t in items]}
