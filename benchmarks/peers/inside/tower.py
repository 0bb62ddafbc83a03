"""The tower of `edge-256m` in PyTorch, random: SigLIP-B/16 at 512 px and its connector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

SIDE, PATCH, SHUFFLE, WIDTH = 512, 16, 4, 576


class Tower(nn.Module):
    """Pixels [1, 3, 512, 512] to embeddings [1, 64, 576]: encoder, pixel shuffle of 4, norm and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        config = SiglipVisionConfig(
            image_size=SIDE,
            patch_size=PATCH,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            vision_use_head=False,
        )
        folded = config.hidden_size * SHUFFLE**2
        self.siglip = SiglipVisionModel(config)
        self.project = nn.Sequential(
            nn.LayerNorm(folded), nn.Linear(folded, WIDTH), nn.GELU(approximate="tanh"), nn.Linear(WIDTH, WIDTH)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embeddings."""
        features = self.siglip(pixel_values=pixels).last_hidden_state
        g, s, channels = SIDE // PATCH, SHUFFLE, features.shape[-1]
        folded = features.reshape(1, g // s, s, g // s, s, channels).permute(0, 1, 3, 2, 4, 5)
        out: Tensor = self.project(folded.reshape(1, (g // s) ** 2, s * s * channels))
        return out


def random_tower() -> Tower:
    """The tower in evaluation mode."""
    torch.manual_seed(0)
    return Tower().eval()
