"""One way to ask a bundle or a checkpoint: look at an image or a pair once, then ask many questions about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

from gmrt.runtime.errors import BundleNotFoundError
from gmrt.runtime.model import View, load
from gmrt.runtime.scene import Scene


@dataclass(frozen=True)
class Given:
    """An answer: its text, ``confidence`` in 0…1, whether it was ``cut`` off, the milliseconds that it took.

    ``value`` is the number of the regression head, None for an answer in words.
    """

    text: str
    confidence: float = 1.0
    cut: bool = False
    ms: float = 0.0
    value: float | None = None


class Look(Protocol):
    """An image, or a pair, that a predictor has seen.

    ``unfamiliar`` says whether it is unlike what the model was trained on; None when the model cannot tell.
    """

    @property
    def unfamiliar(self) -> bool | None:
        """Whether the image is unlike the training data."""

    def ask(self, question: str, max_tokens: int) -> Given:
        """Answer greedily, with at most ``max_tokens`` tokens."""


class Predictor(Protocol):
    """Anything that answers questions about images. ``name`` is for the table, ``max_images`` is 2 for pairs."""

    name: str
    max_images: int

    def look(self, *scenes: Scene) -> Look:
        """See an image, or a pair in the order before, after."""


class BundlePredictor:
    """A bundle, through the runtime that runs in the field."""

    def __init__(self, path: Path) -> None:
        self.model = load(path)
        self.name = f"{path.resolve().name} (bundle)"
        self.max_images = self.model.bundle.manifest.prompt.max_images

    def look(self, *scenes: Scene) -> Look:
        """See one image or two with the runtime."""
        return _BundleLook(self.model.look(scenes[0]) if len(scenes) == 1 else self.model.compare(*scenes))


class _BundleLook:
    def __init__(self, view: View) -> None:
        self._view = view

    @property
    def unfamiliar(self) -> bool | None:
        return None if self._view.strangeness is None else self._view.unfamiliar

    def ask(self, question: str, max_tokens: int) -> Given:
        started = perf_counter()
        answer = self._view.ask(question, max_tokens=max_tokens)
        ms = (perf_counter() - started) * 1e3
        return Given(answer.text, answer.confidence, answer.finish_reason == "length", ms, answer.value)


def open_predictor(path: Path | str) -> Predictor:
    """Open a bundle (``bundle.json`` inside) or a checkpoint (``config.json``); else raise `BundleNotFoundError`."""
    path = Path(path)
    if (path / "bundle.json").is_file():
        return BundlePredictor(path)
    if (path / "config.json").is_file():
        from gmrt.georsmllm.evaluation.checkpoint import CheckpointPredictor

        return CheckpointPredictor(path)
    raise BundleNotFoundError(f"{path} is neither a bundle (bundle.json) nor a checkpoint (config.json)")
