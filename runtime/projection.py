"""How long a board should take, from counts of operations and bytes: a roofline, with its assumptions as numbers.

time of a phase = max(operations / (`COMPUTE` · peak rate), bytes / (`BANDWIDTH` · peak bandwidth)) + kernels · `LAUNCH`

A phase is bound by one of the two: the tower and the prefill by operations, a decode step by the bytes of the weights
and of the cache, all of which it reads once. The first two constants are set by what NVIDIA publishes of its own
runtime (`PUBLISHED`), so that the Orin Nano's rows come out; for the Orin NX, whose rows NVIDIA has 1.7 times as fast
on the same bandwidth, they are too careful. No number here was measured on a board by this project.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmrt.runtime.boards import Board
from gmrt.runtime.manifest import Manifest

COMPUTE = 0.25
"""Part of a board's peak rate that a tower or a prefill is taken to reach."""
BANDWIDTH = 0.5
"""Part of a board's peak bandwidth that a decode step is taken to reach."""
LAUNCH = 5e-6
"""Seconds from one kernel to the next within a captured graph."""
_KERNELS = 12
"""Kernels of one layer: two norms, four products of attention, two of scores and values, softmax, three of the MLP."""

PUBLISHED_SOURCE = (
    "NVIDIA, TensorRT Edge-LLM documentation, Performance Benchmarks, section v0.9.0 (batch 1, INT4 AWQ, FP16 tower), "
    "https://nvidia.github.io/TensorRT-Edge-LLM/0.9.1/user_guide/performance/performance-benchmarks.html"
)


@dataclass(frozen=True)
class Published:
    """One row of NVIDIA's table: ``prefill_ms`` for ``tokens``, ``tower_ms`` or None, decode in tokens per second."""

    board: str
    model: str
    tokens: int
    prefill_ms: float
    tower_ms: float | None
    decode: float


PUBLISHED = (
    Published("orin-nano", "Qwen3-0.6B", 61, 28.7, None, 72.8),
    Published("orin-nano", "Qwen3.5-0.8B", 296, 251.9, 49.2, 55.3),
    Published("orin-nano", "Qwen3-1.7B", 61, 63.1, None, 37.4),
    Published("orin-nano", "Qwen3-VL-2B-Instruct", 292, 190.9, 151.1, 36.9),
    Published("orin-nx", "Qwen3-0.6B", 61, 18.9, None, 117.4),
    Published("orin-nx", "Qwen3.5-0.8B", 296, 140.5, 26.8, 88.7),
    Published("orin-nx", "Qwen3-1.7B", 61, 35.4, None, 60.4),
    Published("orin-nx", "Qwen3-VL-2B-Instruct", 292, 103.1, 82.1, 60.1),
)


@dataclass(frozen=True)
class Decoder:
    """Sizes of a decoder; ``vocabulary`` is that of the head, which each step reads whole."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of all layers: query and output, key and value, three of the MLP."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def head_weights(self) -> int:
        """Weights of the head."""
        return self.hidden * self.vocabulary

    @property
    def cache_row(self) -> int:
        """Numbers of one token in the KV cache."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Workload:
    """A model and one question: ``tower`` products of one question's images, ``tower_layers`` of the tower.

    ``tokens`` are those of images and question together. Weights take ``weight_bytes`` each in the layers and
    ``head_bytes`` in the head; the cache is half precision, as the `standard` dialect has it. ``tower_bits`` and
    ``prefill_bits`` say at which rate the products run.
    """

    name: str
    tower: float
    tower_layers: int
    tokens: int
    decoder: Decoder
    weight_bytes: float = 1.03
    head_bytes: float = 1.03
    tower_bits: int = 8
    prefill_bits: int = 8


def vit_products(layers: int, width: int, mlp: int, patches: int) -> float:
    """Products of a vision transformer: four projections, the MLP, scores and values, for each patch."""
    return float(layers) * patches * (4 * width**2 + 2 * width * mlp + 2 * patches * width)


WORKLOADS = {
    load.name: load
    for load in (
        # The tower's products are counted in docs/decisions.md; layers are its convolutions.
        Workload("nano", 690e6, 60, 67, Decoder(4, 256, 704, 8, 4, 32, 2871)),
        Workload("edge-256m", vit_products(12, 768, 3072, 1024), 12, 80, Decoder(30, 576, 1536, 9, 3, 64, 49152)),
        # Five views of 384 px (the image and its quarters), nine patches to a token.
        Workload(
            "edge-2b", 5 * vit_products(27, 1152, 4304, 729), 27, 425, Decoder(28, 1536, 8960, 12, 2, 128, 151936)
        ),
    )
}


@dataclass(frozen=True)
class Projection:
    """Expected times in ms on a board; ``decode`` in tokens per second."""

    tower_ms: float
    prefill_ms: float
    step_ms: float

    @property
    def first_token_ms(self) -> float:
        """From pixels to the first token; the head's share of it is in the prefill."""
        return self.tower_ms + self.prefill_ms

    @property
    def decode(self) -> float:
        """Tokens per second."""
        return 1000 / self.step_ms


def project(load: Workload, board: Board) -> Projection:
    """Expected times of a workload on a board."""
    decoder = load.decoder
    weights = decoder.layer_weights * load.weight_bytes + decoder.head_weights * load.head_bytes
    launches = decoder.layers * _KERNELS * LAUNCH
    step = _seconds(
        board, 2.0 * (decoder.layer_weights + decoder.head_weights), weights + 2 * decoder.cache_row * load.tokens
    )
    prefill = _seconds(
        board, 2.0 * (decoder.layer_weights * load.tokens + decoder.head_weights), weights, load.prefill_bits
    )
    tower = _seconds(board, 2.0 * load.tower, 0, load.tower_bits)
    per_tower_layer = 1 if load.name == "nano" else _KERNELS
    return Projection(
        tower_ms=1e3 * (tower + load.tower_layers * per_tower_layer * LAUNCH),
        prefill_ms=1e3 * (prefill + launches),
        step_ms=1e3 * (step + launches),
    )


def _seconds(board: Board, operations: float, size: float, bits: int = 8) -> float:
    rate = board.int8 if bits == 8 else board.fp16
    return max(operations / (COMPUTE * rate), size / (BANDWIDTH * board.bandwidth))


def workload_of(manifest: Manifest) -> Workload | None:
    """The workload of a bundle of one of the known presets, told by its sizes; None for another."""
    cache = manifest.cache
    for load in WORKLOADS.values():
        decoder = load.decoder
        if (decoder.layers, decoder.kv_heads, decoder.head_dim, decoder.hidden) == (
            cache.layers,
            cache.kv_heads,
            cache.head_dim,
            manifest.hidden_size,
        ):
            return replace(load, decoder=replace(decoder, vocabulary=manifest.logits_size))
    return None
