"""Models for the tests of evaluation that answer what a function says, and images that carry their own number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gmrt.georsmllm.evaluation.predict import Given
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import Scene

Answer = Callable[[int, str], str | Given]


def picture(number: int, width: int = 16, height: int = 16) -> bytes:
    """A PNG whose red value says which image it is, and whose green and blue where a pixel lies (in tens of pixels)."""
    y, x = np.mgrid[0:height, 0:width] // 10
    return encode_png(np.stack([np.full_like(x, number), x, y], axis=2).astype(np.uint8))


@dataclass
class Pretender:
    """A predictor that looks up its answer by the number of the image and the question."""

    answer: Answer
    max_images: int = 2
    unfamiliar: bool | None = None
    name: str = "pretender"

    def look(self, *scenes: Scene) -> PretendedLook:
        """Read the number off the first image."""
        return PretendedLook(self, scenes)


@dataclass
class PretendedLook:
    """An image that was seen, of a pair the first."""

    owner: Pretender
    scenes: tuple[Scene, ...]

    @property
    def unfamiliar(self) -> bool | None:
        """What the predictor says of every image."""
        return self.owner.unfamiliar

    def ask(self, question: str, max_tokens: int) -> Given:  # noqa: ARG002 - as a predictor's
        """The answer of the function, with full confidence when it gives text alone."""
        given = self.owner.answer(int(self.scenes[0].rgb[0, 0, 0]), question)
        return given if isinstance(given, Given) else Given(given, 0.9, ms=1.0)
