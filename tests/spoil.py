"""Mistakes to make on purpose: weights changed between a checkpoint and the graphs that are built from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmrt.export.checkpoint import Checkpoint

Weights = dict[str, np.ndarray]
Spoil = Callable[[Weights], None]


def spoil_checkpoint(source: Checkpoint, spoil: Spoil) -> Checkpoint:
    """A checkpoint whose graphs are built from other weights than its model has."""
    spoiled = _Spoiled(source.path, source.sha256, source.model, source.processor, source.decoder, {})
    object.__setattr__(spoiled, "spoil", spoil)
    return spoiled


class _Spoiled(Checkpoint):
    def weights(self, prefix: str = "") -> Weights:
        weights = {name: value.copy() for name, value in super().weights().items()}
        self.spoil(weights)
        return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def swap_layers(stem: str) -> Spoil:
    """Put layer 0 in the place of layer 1 and the other way round."""

    def spoil(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith(f"{stem}.0.")]:
            other = name.replace(f"{stem}.0.", f"{stem}.1.")
            weights[name], weights[other] = weights[other], weights[name]

    return spoil


def scaled(name: str, factor: float) -> Spoil:
    """Multiply a tensor; a factor of zero drops it."""

    def spoil(weights: Weights) -> None:
        weights[name] *= np.float32(factor)

    return spoil


def rolled(name: str) -> Spoil:
    """Shift the rows of a tensor by one, so that each has its neighbour's place."""

    def spoil(weights: Weights) -> None:
        weights[name] = np.roll(weights[name], 1, axis=0)

    return spoil
