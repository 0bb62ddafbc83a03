"""Convert the tower to OpenVINO and quantise it: ``python make_openvino.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import torch
from tower import SIDE, random_tower

IMAGES = 2


def main(folder: Path) -> None:
    """Save both; the int8 one by NNCF's preset for transformers, on noise, because the weights are noise too."""
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    model = ov.convert_model(random_tower(), example_input=pixels, input=[1, 3, SIDE, SIDE])
    ov.save_model(model, folder / "tower.xml", compress_to_fp16=True)
    rng = np.random.default_rng(0)
    images = nncf.Dataset([rng.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(IMAGES)])
    quantised = nncf.quantize(model, images, model_type=nncf.ModelType.TRANSFORMER, subset_size=IMAGES)
    ov.save_model(quantised, folder / "tower-int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
