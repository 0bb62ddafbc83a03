"""Models with a convolutional tower: one with random weights, small, and the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.presets import PRESETS

NANO = Path(__file__).parents[2] / "models" / "georsmllm-nano"


@pytest.fixture(scope="session")
def lite() -> GeoRSMLLMForConditionalGeneration:
    """EfficientNet-Lite0 with neck and pyramid, a tiny decoder, random; one batch sets the norms' statistics."""
    torch.manual_seed(0)
    text = {**PRESETS["tiny-llama"]["text_config"], "vocab_size": 64}
    vision = {"model_type": "efficientnet_lite", "image_size": 64, "neck": 48, "places": 16}
    model = GeoRSMLLMForConditionalGeneration(GeoRSMLLMConfig(vision_config=vision, text_config=text, positions=True))
    with torch.no_grad():
        for module in model.tower.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train().momentum = 1.0
        model.tower(torch.randn(8, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="session")
def nano() -> Path:
    """The shipped checkpoint: what rounding does to a random tower, which is chaotic, tells nothing."""
    if not (NANO / "model.safetensors").is_file():
        pytest.skip("the shipped checkpoint models/georsmllm-nano is not here")
    return NANO
