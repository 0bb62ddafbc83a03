"""Answers of a model to many questions about one image, from a checkpoint (PyTorch) or a bundle (the runtime)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

import gmrt
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration, greedy
from gmrt.georsmllm.processor import load_processor
from gmrt.runtime.errors import BundleNotFoundError
from gmrt.runtime.image import prepare
from gmrt.runtime.scene import decode_image

MAX_TOKENS = 48


class Predictor(Protocol):
    """Anything that answers questions about an encoded image."""

    name: str

    def answers(self, image: bytes, questions: Sequence[str]) -> list[str]:
        """Answer each question about the image, greedily."""
        ...


class BundlePredictor:
    """A bundle, through the runtime that runs in the field."""

    def __init__(self, path: Path) -> None:
        self.model = gmrt.load(path)
        self.name = f"{path.name} (bundle)"

    def answers(self, image: bytes, questions: Sequence[str]) -> list[str]:
        """Look once, ask many times."""
        view = self.model.look(decode_image(image))
        return [view.ask(question, max_tokens=MAX_TOKENS).text for question in questions]


class CheckpointPredictor:
    """A checkpoint, in PyTorch: the reference that a bundle is compared with."""

    def __init__(self, path: Path) -> None:
        self.model = GeoRSMLLMForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
        self.processor = load_processor(path)
        self.name = f"{path.name} (checkpoint)"

    @torch.inference_mode()
    def answers(self, image: bytes, questions: Sequence[str]) -> list[str]:
        """Encode the image once, answer one question after another."""
        pixels = torch.from_numpy(prepare(decode_image(image).rgb, self.processor.image_processor.image_spec))[None]
        image_embeds = self.model.encode_images(pixels)
        texts = []
        for question in questions:
            prompt = self.model.embed(torch.from_numpy(self.processor.encode(question).ids)[None], image_embeds)
            answer = greedy(self.model, prompt, self.processor.prompt_layout.eos_token_ids, MAX_TOKENS)
            texts.append(self.processor.backend.decode(answer))
        return texts


def open_predictor(path: Path | str) -> Predictor:
    """Open a bundle (``bundle.json`` inside) or a checkpoint (``config.json``); else raise `BundleNotFoundError`."""
    path = Path(path)
    if (path / "bundle.json").is_file():
        return BundlePredictor(path)
    if (path / "config.json").is_file():
        return CheckpointPredictor(path)
    raise BundleNotFoundError(f"{path} is neither a bundle (bundle.json) nor a checkpoint (config.json)")
