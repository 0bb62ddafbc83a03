"""Cached features of a frozen tower: every view of every image once, instead of once a pass.

View 0 is the image as it is; the others turn or mirror it, crop it a little and shift its colours. The views are fixed
by the seed, so a cache is a function of its inputs and is reused when those agree.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gmrt.georsmllm.data import Example
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.scene import decode_image

BATCH = 8


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
    crop = rgb[top : top + rows, left : left + columns].astype(np.float32) / 255
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, size=3)
    gamma = rng.uniform(0.8, 1.25)
    return (np.clip(crop * gain, 0, 1) ** gamma * 255).astype(np.uint8)


def cache_features(
    path: Path, tower: nn.Module, examples: Sequence[Example], spec: ImageSpec, *, views: int, seed: int
) -> np.ndarray:
    """Return features float16 [images, views, P, C], memory-mapped from ``path``; computed when they are not there."""
    key = _key(tower, examples, spec, views, seed)
    stamp = path.with_suffix(".json")
    if path.is_file() and stamp.is_file() and json.loads(stamp.read_text())["key"] == key:
        return np.load(path, mmap_mode="r")
    stamp.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    probe = _encode(tower, np.zeros((1, 3, spec.height, spec.width), np.float32))
    shape = (len(examples), views, *probe.shape[1:])
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for i, example in enumerate(examples):
        rng = np.random.default_rng((seed, i))
        rgb = decode_image(example.image).rgb
        pixels = np.stack([prepare(augment(rgb, view, rng), spec) for view in range(views)])
        out[i] = np.concatenate([_encode(tower, pixels[k : k + BATCH]) for k in range(0, views, BATCH)])
        if i % 50 == 0 or i + 1 == len(examples):
            print(f"\rtower features {i + 1}/{len(examples)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    out.flush()
    stamp.write_text(json.dumps({"key": key}))
    return np.load(path, mmap_mode="r")


@torch.inference_mode()
def _encode(tower: nn.Module, pixels: np.ndarray) -> np.ndarray:
    # Channels-last is what makes depthwise convolutions bearable on a CPU.
    x = torch.from_numpy(pixels).to(memory_format=torch.channels_last)
    features: np.ndarray = tower(x).to(torch.float16).numpy()
    return features


def _key(tower: nn.Module, examples: Sequence[Example], spec: ImageSpec, views: int, seed: int) -> str:
    digest = hashlib.sha256(json.dumps([spec.to_dict(), views, seed]).encode())
    for tensor in tower.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    for example in examples:
        digest.update(hashlib.sha256(example.image).digest())
    return digest.hexdigest()
