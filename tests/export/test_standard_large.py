"""The standard dialect at the size of edge-256m: a checkpoint that is not in the repository, given by its path."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gmrt.export.checkpoint import Checkpoint, open_checkpoint
from gmrt.export.decoder import DecoderSpec
from gmrt.export.dialects import NOTHING, decoder_spec, plain_decoder
from gmrt.export.precision import MIN_ONNXRUNTIME, recipe_for
from gmrt.runtime.backends import Decoder
from gmrt.runtime.backends.ort import OrtDecoder, session_options
from gmrt.runtime.backends.standard import BucketCache, StandardDecoder
from gmrt.runtime.cache import KVCache
from gmrt.runtime.manifest import CacheGeometry, Target
from gmrt.runtime.profiles import CHUNK, buckets_for

CHECKPOINT = os.environ.get("GMRT_EDGE_CHECKPOINT")
TOKENS, CAPACITY, TIE = 24, 128, 1e-3
PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Why is the sky blue?",
    "List three fruits.",
    "How do bees make honey?",
    "Explain what a satellite is.",
    "What does a harbour look like from the air?",
    "Name a river in South America.",
    "How many days are there in a leap year?",
    "What is the difference between weather and climate?",
    "Tell me a short story about a dog.",
    "Who wrote Romeo and Juliet?",
    "What is photosynthesis?",
    "Give me a recipe for pancakes.",
    "Translate good morning into Spanish.",
    "What should I pack for a hike?",
    "How does a refrigerator work?",
    "What are the primary colours?",
    "Describe an airport in two sentences.",
    "Is a whale a fish?",
)


def write_decoder(source: Checkpoint, target: Target, folder: Path) -> DecoderSpec:
    """Write the decoder in fp32 in the dialect of a target; the weights lie beside it, which takes less memory."""
    graph = plain_decoder(source, recipe_for("fp32", target), target, {}, NOTHING)
    ir.save(graph, folder / f"{target}.onnx", external_data=f"{target}.data")
    return decoder_spec(source, target)


def open_decoder(spec: DecoderSpec, target: Target, folder: Path) -> Decoder:
    """Open what `write_decoder` wrote, over an empty cache."""
    import onnxruntime as ort

    options = session_options(ort, "cpu", saturable=False)
    session = ort.InferenceSession(str(folder / f"{target}.onnx"), options, providers=["CPUExecutionProvider"])
    manifest = SimpleNamespace(
        hidden_size=spec.hidden,
        logits_size=spec.vocab,
        heads=None,
        locator=None,
        decoder=SimpleNamespace(file=f"{target}.onnx"),
        chunk=CHUNK,
        profiles=(),
        min_onnxruntime=MIN_ONNXRUNTIME,
    )
    bundle: Any = SimpleNamespace(manifest=manifest)
    geometry = CacheGeometry(spec.layers, spec.kv_heads, spec.head_dim, "float32", spec.max_length)
    if target == "tensorrt":
        cache = BucketCache(geometry, CAPACITY, buckets=buckets_for(spec.max_length))
        return StandardDecoder(ort, session, cache, bundle)
    return OrtDecoder(ort, session, KVCache(geometry, CAPACITY), bundle, rebind=False)


def greedy(decoder: Decoder, ids: list[int], lookup: Callable[[int], Any], forced: list[int] | None) -> Any:
    """Decode greedily, or along ``forced`` tokens; returns tokens and the logits that each was chosen at."""
    decoder.cache.truncate(0)
    embeds = np.stack([lookup(token) for token in ids])[None]
    rows = [decoder.prefill(embeds, np.array([[len(ids) - 1]]))[0, 0].copy()]
    tokens = [int(rows[0].argmax())]
    while len(tokens) < TOKENS:
        decoder.embeds[0, 0] = lookup((forced or tokens)[len(tokens) - 1])
        decoder.step()
        rows.append(decoder.logits[0, 0].copy())
        tokens.append(int(rows[-1].argmax()))
    return tokens, np.stack(rows)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(CHECKPOINT is None, reason="GMRT_EDGE_CHECKPOINT names no checkpoint of edge-256m")
def test_edge_256m_says_the_same_in_both_dialects(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Guards against a dialect that is right for small models only: 30 layers, a split head, a vocabulary of 49 152."""
    source = open_checkpoint(Path(str(CHECKPOINT)))
    table, tokenizer = source.table().copy(), source.processor.tokenizer
    asks = [[{"role": "user", "content": [{"type": "text", "text": prompt}]}] for prompt in PROMPTS]
    turns = [tokenizer.apply_chat_template(ask, add_generation_prompt=True, tokenize=False) for ask in asks]
    asked = [tokenizer.encode(turn, add_special_tokens=False) for turn in turns]
    source.model.tower = None  # only the decoder is asked, and the tower is half of the memory
    targets: tuple[Target, ...] = ("cpu", "tensorrt")
    specs = {target: write_decoder(source, target, tmp_path) for target in targets}
    del source
    gc.collect()
    plain = open_decoder(specs["cpu"], "cpu", tmp_path)
    said = [greedy(plain, ids, table.__getitem__, None) for ids in asked]
    del plain
    gc.collect()
    standard = open_decoder(specs["tensorrt"], "tensorrt", tmp_path)
    differ, ties, furthest = [], 0, 0.0
    for prompt, ids, (tokens, logits) in zip(PROMPTS, asked, said, strict=True):
        found, rows = greedy(standard, ids, table.__getitem__, tokens)
        second, first = np.sort(logits, axis=-1)[:, -2:].T
        tied = first - second < TIE
        ties += int(tied.sum())
        furthest = max(furthest, float(np.abs(rows - logits).max()))
        differ += [prompt for one, other, tie in zip(tokens, found, tied, strict=True) if one != other and not tie]
    record_property("ties", ties)
    record_property("largest difference of logits", furthest)
    assert differ == []
