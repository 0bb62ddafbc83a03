"""What each precision means, graph by graph, and how far from the checkpoint a bundle of it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gmrt.export.linear import HEAD_ROWS, Linear, block_linear, float_linear
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.manifest import Precision, Target

MIN_ONNXRUNTIME = "1.22.0"
"""The first whose CPU kernel of MatMulNBits takes 8-bit weights; the oldest that the tests have run with."""


@dataclass(frozen=True)
class Limit:
    """A threshold of the gate and the reason for it."""

    value: float
    why: str


@dataclass(frozen=True)
class Limits:
    """Least cosine and top-1 agreement, and largest |norm ratio - 1|, by component.

    ``task`` is the least task score (`gmrt.export.score`), ``integer`` the least share of the products with weights
    that runs in integer kernels, ``values`` how far the scalars of a whole bundle may be off on average, in standard
    deviations of their data.
    """

    vision: Limit
    vision_norm: Limit
    decoder: Limit
    decoder_norm: Limit
    table: Limit
    top1: Limit
    task: Limit
    integer: Limit
    values: Limit


@dataclass(frozen=True)
class Recipe:
    """One precision of one dialect: how linear layers, head, activations, token table and tower are stored.

    ``activations`` is the type of products and of the cache, ``between`` of what stands between products where that
    is another one. ``decoder_statistics``: its linear layers need a calibration record that has measured the decoder.
    ``gptq``: the decoder's linear layers are quantised on calibration samples instead of rounded to nearest.
    ``smoothing``: how strongly outliers of the decoder's activations are moved into its weights before, by the record
    (SmoothQuant's alpha). ``static``: its linear layers are quantised by the record (`gmrt.export.w8a8`), and
    ``linear`` and ``head`` have no say in it.
    ``floats`` names layers that are float by decision and do not count as left behind.
    """

    linear: Linear
    head: Linear
    activations: str
    table: str
    integer_tower: bool
    words: Mapping[str, str]
    limits: Limits
    decoder_statistics: bool = False
    smoothing: float | None = None
    gptq: bool = False
    between: str | None = None
    static: bool = False
    floats: tuple[str, ...] = ()


_FLOAT = "the same arithmetic in another order: 1e-5 is 100 times what was measured"
_HALF = "11 bits of mantissa through some ten layers; 1e-4 was measured"
_TOWER = "8-bit convolutions in a chain of 49 with corrected biases keep 0.994; saturating kernels give 0.5 to 0.8"
_TABLE = "8 bits a row lose 1e-4; a row in the wrong place loses everything"
_EXACT = "fp32 must say what the checkpoint says wherever the checkpoint itself is not undecided"

_FP32_LIMITS = Limits(
    vision=Limit(1 - 1e-5, _FLOAT),
    vision_norm=Limit(1e-3, _FLOAT),
    decoder=Limit(1 - 1e-5, _FLOAT),
    decoder_norm=Limit(1e-3, _FLOAT),
    table=Limit(1.0 - 1e-6, "a copy"),
    top1=Limit(1.0, _EXACT),
    task=Limit(0.98, "the same answers, but for a tie that falls the other way and takes the rest of a text with it"),
    integer=Limit(0.0, "a float precision"),
    values=Limit(1e-3, _FLOAT),
)
_FP16_LIMITS = Limits(
    vision=Limit(0.999, _HALF),
    vision_norm=Limit(0.01, _HALF),
    decoder=Limit(0.999, _HALF),
    decoder_norm=Limit(0.01, _HALF),
    table=Limit(0.9999, _HALF),
    top1=Limit(0.98, "half precision moves logits by 1e-3 of their size, which decides close calls only"),
    task=Limit(0.95, "a close call that falls the other way changes the words behind it, too"),
    integer=Limit(0.0, "a float precision"),
    values=Limit(0.02, _HALF),
)
_INT8_DECODER = "8-bit blocks and 8-bit activations lose 5e-4; a dropped bias or a swapped scale loses more than 1e-2"
_INTEGER = "float by decision is a convolutional tower's opening, 3 to 5 %; more than that is a layer that did not fuse"
_INT8_LIMITS = Limits(
    vision=Limit(0.98, _TOWER),
    vision_norm=Limit(0.05, _TOWER),
    decoder=Limit(0.995, _INT8_DECODER),
    decoder_norm=Limit(0.02, _INT8_DECODER),
    table=Limit(0.9995, _TABLE),
    top1=Limit(0.95, "blocks of 64 kept 96 % on a 135 M model, where 49 k words come close to each other"),
    task=Limit(0.9, "one word in ten: georsmllm-nano keeps 0.97 on scenes that it was not calibrated on"),
    integer=Limit(0.9, _INTEGER),
    values=Limit(0.25, "an error of a quarter of the spread that is independent costs an R² at most 0.06"),
)
_INT4_DECODER = "4-bit blocks rounded to nearest: cosine 0.995 a product, and errors add up over the layers"
_INT4_LIMITS = Limits(
    vision=_INT8_LIMITS.vision,
    vision_norm=_INT8_LIMITS.vision_norm,
    decoder=Limit(0.95, _INT4_DECODER),
    decoder_norm=Limit(0.1, _INT4_DECODER),
    table=_INT8_LIMITS.table,
    top1=Limit(0.8, "llama.cpp's 4-bit round-to-nearest format keeps 80 to 90 % on models of some 100 M weights"),
    task=Limit(0.7, "one top token in five may differ, and the words behind it with it"),
    integer=Limit(0.9, _INTEGER),
    values=Limit(0.5, "twice that of int8: an R² loses at most 0.25"),
)

_FLOAT_BLOCKS = "integer products of {} weights in blocks of 64 with activations quantised on the fly"
_INTEGER_TOWER = (
    "8-bit weights per channel and 8-bit activations, static; attention scores, softmax, norms and GELU float32"
)

SMOOTHING = 0.5
"""SmoothQuant's alpha for 8-bit blocks: of 0, 0.3, 0.5 and 0.65 it kept most top tokens of a 135 M model (96.6 %
instead of 95.1 %, docs/quantization.md)."""

RECIPES: Mapping[Precision, Recipe] = {
    "fp32": Recipe(
        linear=float_linear("float32"),
        head=float_linear("float32"),
        activations="float32",
        table="float32",
        integer_tower=False,
        words={"vision": "float32", "decoder": "float32", "embeddings": "float32"},
        limits=_FP32_LIMITS,
    ),
    "fp16": Recipe(
        linear=float_linear("float16"),
        head=float_linear("float16"),
        activations="float16",
        table="float16",
        integer_tower=False,
        words={"vision": "float16", "decoder": "float16, cache included", "embeddings": "float16"},
        limits=_FP16_LIMITS,
    ),
    "int8": Recipe(
        linear=block_linear(8),
        head=block_linear(8),
        activations="float32",
        table="int8",
        integer_tower=True,
        words={
            "vision": _INTEGER_TOWER,
            "decoder": _FLOAT_BLOCKS.format("8-bit") + ", smoothed",
            "embeddings": "int8 per row",
        },
        limits=_INT8_LIMITS,
        decoder_statistics=True,
        smoothing=SMOOTHING,
    ),
    "int4": Recipe(
        linear=block_linear(4),
        head=block_linear(8),
        activations="float32",
        table="int8",
        integer_tower=True,
        words={
            "vision": _INTEGER_TOWER,
            "decoder": _FLOAT_BLOCKS.format("4-bit") + ", by GPTQ; head 8-bit",
            "embeddings": "int8 per row",
        },
        limits=_INT4_LIMITS,
        gptq=True,
    ),
}

_W8A8 = "symmetric 8-bit weights per channel and 8-bit activations, static"
_STATIC_DECODER = "one scale a tensor: what SmoothQuant leaves of the outliers costs more than blocks do"
_STATIC_TOP1 = "static W8A8 with SmoothQuant must keep 93 % of a 135 M model of 49 k words"
_STATIC_LIMITS = replace(
    _INT8_LIMITS,
    decoder=Limit(0.98, _STATIC_DECODER),
    decoder_norm=Limit(0.05, _STATIC_DECODER),
    top1=Limit(0.93, _STATIC_TOP1),
)
_HALF_PRODUCTS = "float16 products and cache; norms, rotation, softmax, activations and residual sums float32"

STANDARD: Mapping[Precision, Recipe] = {
    "fp32": replace(RECIPES["fp32"], head=float_linear("float32", most=HEAD_ROWS)),
    "fp16": Recipe(
        linear=float_linear("float16", "float32"),
        head=float_linear("float16", "float32", most=HEAD_ROWS),
        activations="float16",
        table="float16",
        integer_tower=False,
        words={
            "vision": "float16 convolutions and products; norms, softmax, GELU and residual sums float32",
            "decoder": _HALF_PRODUCTS,
            "embeddings": "float16",
        },
        limits=_FP16_LIMITS,
        between="float32",
    ),
    "int8": Recipe(
        linear=float_linear("float32"),
        head=float_linear("float32", most=HEAD_ROWS),
        activations="float16",
        table="int8",
        integer_tower=True,
        words={
            "vision": _W8A8 + "; attention's products float16; softmax, norms and GELU float32",
            "decoder": _W8A8 + ", smoothed; head, attention's products and cache float16; norms, rotation, softmax, "
            "activations and residual sums float32",
            "embeddings": "int8 per row",
        },
        limits=_STATIC_LIMITS,
        decoder_statistics=True,
        between="float32",
        static=True,
        floats=("lm_head",),
    ),
}


def recipe_for(precision: Precision, target: Target) -> Recipe:
    """What a precision means for a target; raises `GmrtError` for one that the target does not have."""
    recipes = STANDARD if target == "tensorrt" else RECIPES
    if precision not in recipes:
        raise GmrtError(f"there is no {precision} for {target}: choose one of {', '.join(recipes)}, or another target")
    return recipes[precision]
