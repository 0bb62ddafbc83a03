"""Save a random LFM2-VL checkpoint whose tower is ours: ``python make_lfm2_vl.py FOLDER``.

SigLIP-B/16 at 512 px, then pixel shuffle of 4, layer norm and two linear layers to width 576: the same layers of the
same sizes as `edge-256m`. Of llama.cpp's projectors over a SigLIP tower this one has our connector, and it encodes an
image of 512 px once; its Idefics3 encodes an overview and a tile of any image. The text model is there for its width.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Lfm2Config, Lfm2VlConfig, Lfm2VlForConditionalGeneration, Siglip2VisionConfig

WIDTH, SIDE, PATCH, SHUFFLE = 576, 512, 16, 4


def main(folder: Path) -> None:
    """Make it and save it."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    vision = Siglip2VisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=PATCH,
        num_patches=(SIDE // PATCH) ** 2,
        vision_use_head=False,
    )
    text = Lfm2Config(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=512,
        layer_types=["full_attention"],
    )
    config = Lfm2VlConfig(
        vision_config=vision, text_config=text, downsample_factor=SHUFFLE, projector_hidden_size=WIDTH
    )
    model = Lfm2VlForConditionalGeneration(config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    # The converter knows the names that transformers 4 gave.
    weights = {
        name.removeprefix("model.").replace("vision_tower.", "vision_tower.vision_model."): tensor
        for name, tensor in model.state_dict().items()
        if "language_model" not in name and "lm_head" not in name
    }
    save_file(weights, folder / "model.safetensors")
    # The converter copies these two into the projector's header.
    norm = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(norm), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
