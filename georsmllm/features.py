"""Views of images for training, and cached features of a frozen tower: every view once, instead of once a pass.

View 0 is the image as it is; the others turn or mirror it, crop it a little and shift its colours. The views are fixed
by the seed, so a cache is a function of its inputs and is reused when those agree.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gmrt.georsmllm.data import Example
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.scene import decode_image

BATCH = 16


def turned(rgb: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight symmetries of the square: ``turn`` % 4 quarter turns, mirrored first from 4 on."""
    return np.ascontiguousarray(np.rot90(rgb[:, ::-1] if turn >= 4 else rgb, turn % 4))


def augment(rgb: np.ndarray, view: int, rng: np.random.Generator) -> np.ndarray:
    """View ``view`` of a uint8 RGB image [H, W, 3]: 0 is the image, the others are turned, cropped and recoloured."""
    if view == 0:
        return rgb
    rgb = turned(rgb, view % 8)
    height, width = rgb.shape[:2]
    side = rng.uniform(0.75, 1.0)
    rows, columns = int(height * side), int(width * side)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    return recoloured(rgb[top : top + rows, left : left + columns], rng)


def recoloured(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uint8 RGB image [H, W, 3] under another light: brightness, colour cast and gamma are drawn at random."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, size=3)
    gamma = rng.uniform(0.8, 1.25)
    # A channel has 256 values, so the curve is worked out for those and looked up.
    curves = np.clip(np.arange(256)[:, None] / 255 * gain, 0, 1) ** gamma * 255
    return np.ascontiguousarray(np.stack([curves[:, c].astype(np.uint8)[rgb[..., c]] for c in range(3)], axis=-1))


def pixels_of(example: Example, view: int, seed: tuple[int, ...], spec: ImageSpec) -> npt.NDArray[np.float32]:
    """Prepared pixels float32 [1 or 2, 3, H, W] of a view of an image or a pair; pairs are only seen as they are."""
    images = (example.image,) if example.after is None else (example.image, example.after)
    rng = np.random.default_rng(seed)
    return np.stack([prepare(augment(decode_image(image).rgb, view, rng), spec) for image in images])


@dataclass(frozen=True)
class Features:
    """Cached features float16 [rows, P, C], and the row at which each view of each example begins."""

    rows: npt.NDArray[np.float16]
    starts: tuple[tuple[int, ...], ...]
    images: tuple[int, ...]

    def views(self, index: int) -> int:
        """How many views there are of an example."""
        return len(self.starts[index])

    def of(self, index: int, view: int) -> npt.NDArray[np.float32]:
        """Features float32 [1 or 2, P, C] of a view of an example."""
        start = self.starts[index][view]
        return np.asarray(self.rows[start : start + self.images[index]], dtype=np.float32)


def cache_features(
    path: Path, tower: nn.Module, examples: Sequence[Example], views: Sequence[int], spec: ImageSpec, *, seed: int
) -> Features:
    """Features of ``views`` [examples] views of each example, memory-mapped from ``path``; computed when not there."""
    images = tuple(1 if example.after is None else 2 for example in examples)
    starts, total = [], 0
    for count, number in zip(views, images, strict=True):
        starts.append(tuple(range(total, total + count * number, number)))
        total += count * number
    key = _key(tower, examples, views, spec, seed)
    stamp = path.with_suffix(".json")
    if not (path.is_file() and stamp.is_file() and json.loads(stamp.read_text())["key"] == key):
        stamp.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        _compute(partial, tower, examples, views, spec, seed, total)
        partial.replace(path)
        stamp.write_text(json.dumps({"key": key}))
    return Features(np.load(path, mmap_mode="r"), tuple(starts), images)


def _compute(
    path: Path,
    tower: nn.Module,
    examples: Sequence[Example],
    views: Sequence[int],
    spec: ImageSpec,
    seed: int,
    total: int,
) -> None:
    probe = encode(tower, np.zeros((1, 3, spec.height, spec.width), np.float32))
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(total, *probe.shape[1:]))
    waiting: list[npt.NDArray[np.float32]] = []
    done = 0
    jobs = ((i, view) for i, count in enumerate(views) for view in range(count))
    for i, view in jobs:
        waiting.extend(pixels_of(examples[i], view, (seed, i, view), spec))
        last = done + len(waiting) == total
        while len(waiting) >= BATCH or (last and waiting):
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            out[done : done + len(batch)] = encode(tower, np.stack(batch))
            done += len(batch)
            print(f"\rtower features {done}/{total}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    out.flush()


@torch.inference_mode()
def encode(tower: nn.Module, pixels: np.ndarray) -> npt.NDArray[np.float16]:
    """Features float16 [B, P, C] of prepared pixels [B, 3, H, W]."""
    # Channels-last is what makes depthwise convolutions bearable on a CPU.
    x = torch.from_numpy(pixels).to(next(tower.parameters()).device, memory_format=torch.channels_last)
    features: npt.NDArray[np.float16] = tower(x).to("cpu", torch.float16).numpy()
    return features


def _key(tower: nn.Module, examples: Sequence[Example], views: Sequence[int], spec: ImageSpec, seed: int) -> str:
    digest = hashlib.sha256(json.dumps([spec.to_dict(), list(views), seed]).encode())
    for tensor in tower.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    for example in examples:
        for image in (example.image, example.after or b""):
            digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()
