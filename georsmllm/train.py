"""Training from one readable file: ``gmrt train recipe.yaml``.

The stages of a recipe follow each other; each runs under Hugging Face's Trainer, which brings checkpoints, resuming,
schedules, and several devices through ``accelerate launch``. A stage that is done is not run again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_model
from transformers import Trainer, set_seed
from transformers.utils.logging import disable_progress_bar

from gmrt.georsmllm import presets
from gmrt.georsmllm import tokenizer as nano
from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.coordinates import number_ids, smooth_rows
from gmrt.georsmllm.data import DatasetError, Example, tokenizer_texts
from gmrt.georsmllm.language import PackedQuestions, cached, collator, freeze
from gmrt.georsmllm.lite import EfficientNetLite, load_imagenet
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor, load_processor, make_processor
from gmrt.georsmllm.recipe import Recipe, RecipeError, Stage, read_recipe, tower_file
from gmrt.georsmllm.scenes.dataset import write_examples, write_set
from gmrt.georsmllm.sources import Mixture, read_source
from gmrt.georsmllm.trainer import arguments, keep_memory, one_first, processes, run
from gmrt.georsmllm.turns import askable
from gmrt.georsmllm.warmup.run import HEADS_FILE, warm_up

UNITS = {"mean height": "m"}
"""Units of the measures that have one."""


def main(path: Path | str) -> Path:
    """Run a recipe, going on where an earlier run was cut; returns the finished checkpoint.

    Raises `RecipeError` for an impossible recipe and `DatasetError` for data that do not fit it, before the first step.
    """
    recipe = read_recipe(path)
    keep_memory()
    disable_progress_bar()  # stderr is for our own progress
    output = Path(recipe.output)
    with one_first():
        examples = {name: read_named(recipe, name) for name in recipe.sources}
    model, processor = build(recipe, [example for part in examples.values() for example in part])
    mixtures = [mix(recipe, stage, examples) for stage in recipe.stages]
    for stage in recipe.stages:
        check_data(model.config, stage, examples)
    main_process = processes().is_main_process
    if main_process:
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{Path(recipe.start).name or recipe.preset}: {millions:.2f} M parameters", file=sys.stderr)
    for number, (stage, (mixture, views)) in enumerate(zip(recipe.stages, mixtures, strict=True)):
        run_stage(model, processor, mixture, views, stage, output / stage.name, recipe.seed + number)
    if main_process:
        save_checkpoint(model, processor, recipe.provenance, output / "checkpoint")
    processes().wait_for_everyone()
    return output / "checkpoint"


def read_named(recipe: Recipe, name: str) -> list[Example]:
    """Read a source of the recipe; generated scenes, and tiles with their requests, are made once and kept."""
    spec = {key: value for key, value in recipe.sources[name].items() if key != "views"}
    made = recipe.generated(name)
    if made is None and "tiles" not in spec:
        return read_source(spec)
    path = Path(recipe.output) / "sets" / f"{name}.parquet"
    stamp, wanted = path.with_suffix(".json"), json.dumps(spec, sort_keys=True)
    if not (path.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted):
        stamp.unlink(missing_ok=True)
        if made is not None:
            write_set(path, made)
        else:
            write_examples(path, read_source(spec))
        stamp.write_text(wanted, encoding="utf-8")
    return read_source({"path": str(path)})


def mix(recipe: Recipe, stage: Stage, examples: Mapping[str, Sequence[Example]]) -> tuple[Mixture, list[int]]:
    """The mixture of a stage, and how many views each of its examples has."""
    names = list(stage.sources)
    numbers = np.repeat(np.arange(len(names)), [len(examples[name]) for name in names])
    chosen = tuple(example for name in names for example in examples[name])
    views = [1 if e.after is not None else recipe.views(names[n]) for e, n in zip(chosen, numbers, strict=True)]
    mixture = Mixture(chosen, numbers, tuple(float(stage.sources[name]) for name in names))
    if not len(mixture.order(np.random.default_rng(0))):
        raise DatasetError(f"stage {stage.name!r} draws none of the images of {', '.join(names)} in a pass")
    return mixture, views


def check_data(config: GeoRSMLLMConfig, stage: Stage, examples: Mapping[str, Sequence[Example]]) -> None:
    """Raise `DatasetError` when a language stage asks nothing of a source, or what this model cannot answer."""
    if stage.warm_up:
        return
    known = {str(measure["name"]) for measure in config.measures}
    for name in stage.sources:
        where = f"stage {stage.name!r}, source {name!r}"
        if not any(askable(example, stage.branches) for example in examples[name]):
            asked = ", ".join(kind for kind, count in stage.branches.items() if count)
            raise DatasetError(f"{where}: none of its images has anything to learn of what branches ask: {asked}")
        if config.max_images < 2 and any(example.after is not None for example in examples[name]):
            raise DatasetError(f"{where} holds pairs, and the model takes {config.max_images} image at a time")
        held = {measure.name for example in examples[name] for measure in example.measures}
        if stage.branches.get("measure", 0) and (unknown := sorted(held - known)):
            raise DatasetError(
                f"{where} asks for the {unknown[0]}, which the model to start from does not measure: "
                "leave measure out of branches, or begin without start"
            )


def build(recipe: Recipe, examples: Sequence[Example]) -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """Load the checkpoint to start from, or build the preset with a tokenizer trained on the examples."""
    if recipe.start:
        model = GeoRSMLLMForConditionalGeneration.from_pretrained(recipe.start, dtype=torch.float32)
        return model, load_processor(recipe.start)
    backend = nano.train_tokenizer(tokenizer_texts(list(examples)))
    config = presets.configure(recipe.preset, backend, measures=scales(examples))
    config.connector_dropout = recipe.connector_dropout
    set_seed(recipe.seed)
    model = GeoRSMLLMForConditionalGeneration(config)
    _order_numbers(model, number_ids(backend), recipe.seed)
    if (weights := tower_file(recipe)) is not None:
        if not isinstance(model.tower, EfficientNetLite):
            raise RecipeError(f"preset {recipe.preset!r} has no EfficientNet-Lite tower, which {weights.name} is for")
        load_imagenet(model.tower, torch.load(weights, map_location="cpu", weights_only=True))
    return model, make_processor(config, backend, eos=nano.EOS, image=nano.IMAGE, template=nano.CHAT_TEMPLATE)


def scales(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Name, unit, mean and standard deviation of every measure that the examples hold."""
    found: dict[str, list[float]] = {}
    for example in examples:
        for measure in example.measures:
            found.setdefault(measure.name, []).append(measure.target)
    return [
        {
            "name": name,
            "unit": UNITS.get(name, ""),
            "mean": float(np.mean(values)),
            "std": max(float(np.std(values)), 1e-6),
        }
        for name, values in sorted(found.items())
    ]


def _order_numbers(model: GeoRSMLLMForConditionalGeneration, ids: list[int] | None, seed: int) -> None:
    """Give the rows of the numbers an order; see `gmrt.georsmllm.coordinates`."""
    if ids is None:
        return
    table: Any = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(seed)
    rows = smooth_rows(table.weight.shape[1], float(table.weight.detach().std()), generator)
    with torch.no_grad():
        table.weight[torch.tensor(ids)] = rows


def run_stage(
    model: GeoRSMLLMForConditionalGeneration,
    processor: GeoRSMLLMProcessor,
    mixture: Mixture,
    views: Sequence[int],
    stage: Stage,
    output: Path,
    seed: int,
) -> None:
    """Run one stage in place, or load what it gave when it was run before."""
    if stage.warm_up:
        tower: Any = model.tower
        warm_up(tower, mixture, processor.image_processor.image_spec, stage, output, seed)
        if model.locator is not None:
            model.locator.adopt(load_file(output / HEADS_FILE))
        return
    done = output / "model.safetensors"
    if done.is_file():
        _load(model, done)
        return
    pixels = "tower" in stage.train
    # The features of a source serve every stage, as long as the tower stays the same.
    paths = [] if pixels else [output.parent / "features" / f"{name}.npy" for name in stage.sources]
    with one_first():
        features = cached(model, processor, mixture, views, paths, seed=0)
    freeze(model, stage)
    learner = with_adapters(model, stage) if stage.lora else model
    set_seed(seed)
    trainer = Trainer(
        model=learner,
        args=arguments(stage, output, seed),
        train_dataset=PackedQuestions(mixture, views, processor, stage, features, model.config, seed),
        data_collator=collator(processor, pixels=pixels),
    )
    run(trainer, output)
    if stage.lora:
        learner.merge_and_unload()
    model.eval()
    with one_first():
        if not done.is_file():
            partial = output / "model.safetensors.partial"
            save_model(model, str(partial))
            partial.replace(done)
    # Statistics of norms differ between processes: they go on from the same model.
    _load(model, done)


def _load(model: GeoRSMLLMForConditionalGeneration, path: Path) -> None:
    try:
        load_model(model, path)
    except (RuntimeError, SafetensorError):
        raise RecipeError(f"{path} is of another model: remove the folder of this stage to run it again") from None


def with_adapters(model: GeoRSMLLMForConditionalGeneration, stage: Stage) -> Any:
    """The model with LoRA adapters in the decoder's linear layers; what `freeze` left learning goes on learning."""
    from peft import LoraConfig, get_peft_model

    assert stage.lora is not None
    learning = [name for name, part in model.named_children() if any(p.requires_grad for p in part.parameters())]
    config = LoraConfig(
        r=stage.lora.rank,
        lora_alpha=stage.lora.alpha,
        lora_dropout=stage.lora.dropout,
        target_modules=r"decoder\..*\.(q|k|v|o|gate|up|down)_proj",
        modules_to_save=learning,  # so that they are in the checkpoints that a cut run resumes from
    )
    return get_peft_model(model, config)


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
