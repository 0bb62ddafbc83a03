"""Open a checkpoint for export: checked first, then loaded in float32 with everything an export needs of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from gmrt.export.decoder import DecoderSpec, rope_tables
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import GeoRSMLLMProcessor, load_processor
from gmrt.runtime.errors import CheckpointError

FloatArray = npt.NDArray[np.float32]

_FILES = ("config.json", "tokenizer.json", "processor_config.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. ``sha256`` is of its weight files, ``decoder`` the geometry that the graph will have."""

    path: Path
    sha256: str
    model: GeoRSMLLMForConditionalGeneration
    processor: GeoRSMLLMProcessor
    decoder: DecoderSpec
    provenance: Mapping[str, Any]

    def weights(self, prefix: str = "") -> dict[str, FloatArray]:
        """All tensors whose name starts with ``prefix``, which is cut off, as float32."""
        state = self.model.state_dict()
        return {k.removeprefix(prefix): v.float().numpy() for k, v in state.items() if k.startswith(prefix)}

    def table(self) -> FloatArray:
        """The token table, float32 [V, D]."""
        return self.weights("decoder.model.embed_tokens.")["weight"]

    def rope(self, length: int) -> tuple[FloatArray, FloatArray]:
        """Cosines and sines of the decoder's first ``length`` rotary positions, from the checkpoint's frequencies."""
        rotary = self.model.decoder.model.rotary_emb
        return rope_tables(rotary.inv_freq.numpy(), float(rotary.attention_scaling), length)


def check_checkpoint(path: Path | str) -> Path:
    """Return the directory of a complete checkpoint; raise `CheckpointError` naming the first file that is missing."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no checkpoint there: give the directory that holds config.json")
    for name in _FILES:
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: has no {name}, so it is not a whole GeoRSMLLM checkpoint: copy it again")
    if not any((path / name).is_file() for name in _WEIGHTS):
        raise CheckpointError(f"{path}: has no {_WEIGHTS[0]}, so it is not a whole GeoRSMLLM checkpoint: copy it again")
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: config.json is not readable ({error!r}): copy the checkpoint again") from None
    if kind != "georsmllm":
        raise CheckpointError(f"{path}: a checkpoint of type {kind!r} cannot be exported: it must be 'georsmllm'")
    return path


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Load a checkpoint; raise `CheckpointError` when it is not whole or not of a kind that can be exported.

    ``provenance.json`` beside the weights, when there is one, tells data and licence, and goes into the bundle.
    """
    path = check_checkpoint(path)
    disable_progress_bar()  # stderr is for our own progress
    try:
        model = GeoRSMLLMForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, local_files_only=True
        ).eval()
        processor = load_processor(path)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{path}: the checkpoint does not load ({first[:300]}): copy it again") from None
    return Checkpoint(
        path=path,
        sha256=sha256_of(*sorted(path.glob("*.safetensors"))),
        model=model,
        processor=processor,
        decoder=DecoderSpec.from_config(model.config.text_config),
        provenance=_provenance(path / "provenance.json"),
    )


def _provenance(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not readable as JSON ({error}): correct it") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: must be an object with data and licence: correct it")
    return data


def sha256_of(*files: Path) -> str:
    """Sha256 (hex) over the contents of files, in order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
