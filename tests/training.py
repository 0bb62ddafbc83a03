"""A training small enough for a test: fabricated pictures, a tiny preset, a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gmrt.georsmllm.data import Example
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.readers.record import encode_png
from gmrt.georsmllm.scenes.dataset import write_examples
from gmrt.georsmllm.tasks import Measure, Request

CLASSES = ("forest", "storage tanks")
CORNERS = ((0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.25, 0.5))


def picture(seed: int, size: int = 32) -> bytes:
    """A small noisy picture of one of two colours."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 80, (size, size, 3), dtype=np.uint8)
    rgb[..., seed % 2] += 150
    return encode_png(rgb)


def scene(seed: int, size: int = 32) -> Example:
    """A picture with a caption, a class, an object, requests for it, and a measure."""
    kind = seed % 2
    tank = SceneObject("storage tank", CORNERS, "box", {"colour": ("white", "grey")[kind]})
    labels = SceneLabels(
        objects=(tank,) * kind,
        exhaustive=frozenset({"storage tank"}),
        scene_class=CLASSES[kind],
        captions=(f"a {CLASSES[kind]} scene", f"there is {('much', 'little')[kind]} green"),
        measures={"built-up fraction": 0.2 + 0.5 * kind},
    )
    answer = ("none", "<box> 250 250 500 500")[kind]
    asked = (
        Request("detect", "box", ("locate the storage tanks", "find all storage tanks"), answer),
        Request("qa", "count", ("how many storage tanks are there?",), str(kind)),
    )
    share = Measure("estimate the built-up fraction", "built-up fraction", 0.2 + 0.5 * kind)
    return Example(
        f"{seed}.png", picture(seed, size), labels.scene_class, labels.captions, (), asked, (share,), None, labels
    )


def pair(seed: int) -> Example:
    """Two pictures, and what is new in the second."""
    asked = (Request("change", "box", ("what is new?",), "<box> 250 250 500 500"),)
    return Example(f"pair-{seed}", picture(seed), requests=asked, after=picture(seed + 1))


def write_recipe(folder: Path, name: str = "run", *stages: dict[str, Any], **changes: Any) -> Path:
    """A recipe on eight scenes and four pairs; ``stages`` replace the one there is, ``changes`` any other field."""
    land, pairs = folder / "land.parquet", folder / "pairs.parquet"
    if not land.is_file():
        write_examples(land, [scene(seed) for seed in range(8)])
        write_examples(pairs, [pair(seed) for seed in range(4)])
    fields = {
        "output": str(folder / name),
        "preset": "tiny-llama",
        "sources": {"land": {"path": str(land), "views": 2}, "pairs": {"path": str(pairs)}},
        "stages": list(stages) or [stage()],
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def stage(name: str = "instruct", **changes: Any) -> dict[str, Any]:
    """A stage of four steps on both sources."""
    return {"name": name, "sources": {"land": 1, "pairs": 1}, "images": 16, "batch": 4, **changes}
