"""The decoder in the dialect of a bundle's target, from a checkpoint; and the shapes that engines are built for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from gmrt.calibration.blocks import Blocks
from gmrt.calibration.decoder import answered, measure_decoder
from gmrt.calibration.images import ImageSet
from gmrt.calibration.record import Record
from gmrt.calibration.spoken import decoder_samples, spoken
from gmrt.calibration.vocabulary import Kept, choose_vocabulary
from gmrt.calibration.weights import quantise_decoder
from gmrt.export.checkpoint import Checkpoint
from gmrt.export.decoder import EMBEDDINGS, HEAD_WEIGHT, CacheScales, DecoderSpec, Weights, build_decoder
from gmrt.export.gate import gate_questions
from gmrt.export.linear import block_linear
from gmrt.export.plan import Plan
from gmrt.export.precision import Recipe
from gmrt.export.reference import answer_cases
from gmrt.export.sensitivity import INT4, by_layer
from gmrt.export.smooth import HEAD, smooth, smooth_head
from gmrt.export.standard import build_standard_decoder
from gmrt.export.w8a8 import Smoothing, input_absmax, search_smoothing
from gmrt.runtime.manifest import Target
from gmrt.runtime.profiles import Profile, buckets_for, decoder_profiles, fixed_profile

Progress = Callable[[int, int], None]
Cache = Literal["float", "int8"]

# What is asked in the field may give larger keys and values than calibration saw; codes end a little beyond those.
_HEADROOM = 1.1
# What the strength of smoothing is judged by: pictures, one question each, and texts of so many tokens.
_JUDGED, _TEXTS, _SPOKEN = 6, 2, 256


@dataclass(frozen=True)
class StaticDecoder:
    """A decoder in W8A8, and how its outliers were smoothed."""

    graph: ir.Model
    smoothing: Smoothing


@dataclass(frozen=True)
class Prepared:
    """What a decoder is made from: smoothed weights, blocks of 4 bits, scales of an 8-bit cache, or all in W8A8.

    ``kept`` are the words of its head where those are not all.
    """

    weights: Weights | None = None
    blocks: Mapping[str, Blocks] | None = None
    scales: CacheScales | None = None
    static: StaticDecoder | None = None
    kept: Kept | None = None

    def plan_record(self, planned: Plan | None) -> dict[str, Any]:
        """What a parity record begins with: the plan, or the products that are float because no scale serves them."""
        if planned is not None:
            return {"plan": planned.to_dict()}
        floats = () if self.static is None else self.static.smoothing.floats
        return {"plan": {"float": list(floats)}} if floats else {}


NOTHING = Prepared()


def prepare_decoder(
    source: Checkpoint,
    recipe: Recipe,
    record: Record | None,
    images: ImageSet,
    *,
    cache: Cache,
    words: int | None,
    seed: int,
    progress: Progress,
) -> Prepared:
    """Compute what the recipe and the cache's type need, on images and by the record; ``progress`` as of GPTQ.

    ``words`` is how many the head keeps, None for all.
    """
    kept = None
    if words is not None:
        kept = choose_vocabulary(source.model, source.processor, images, size=words, seed=seed)
    return Prepared(
        weights=_smoothed(source, record, recipe.smoothing) if record is not None and recipe.smoothing else None,
        kept=kept,
        blocks=_blocks(source, images, seed, progress) if recipe.gptq else None,
        scales=_cache_scales(source, record, images) if cache == "int8" else None,
        static=_calibrated(source, record, images, kept, seed) if record is not None and recipe.static else None,
    )


def decoder_spec(source: Checkpoint, target: Target) -> DecoderSpec:
    """Geometry of a bundle's decoder: capacities of an engine end where its buckets do."""
    spec = source.decoder
    return replace(spec, max_length=buckets_for(spec.max_length)[-1]) if target == "tensorrt" else spec


def plain_decoder(
    source: Checkpoint,
    recipe: Recipe,
    target: Target,
    planned: Mapping[str, str],
    made: Prepared,
) -> ir.Model:
    """The decoder's graph, float or in blocks, in the dialect of its target; ``planned`` gives layers other widths."""
    weights = source.weights("decoder.") if made.weights is None else made.weights
    spec, weights = _with_head(decoder_spec(source, target), weights, made.kept)
    rope = source.rope(spec.max_length)
    if target == "tensorrt":
        return build_standard_decoder(
            spec, weights, rope, linear=recipe.linear, head=recipe.head, product=recipe.activations
        )
    # A layer that is planned in 4 bits is what int4 makes of it anyway.
    chosen = {name: width for name, width in planned.items() if width != INT4}
    return build_decoder(
        spec,
        weights,
        rope,
        linear=by_layer(chosen, recipe.linear if made.blocks is None else block_linear(4, made.blocks)),
        head=by_layer(chosen, recipe.head),
        dtype=recipe.activations,
        cache_scales=made.scales,
    )


def _smoothed(source: Checkpoint, record: Record, alpha: float) -> Weights:
    """The decoder's weights with the outliers of its activations in them, those of the head's input too."""
    layers = source.decoder.layers
    absmax = input_absmax(record, layers)
    weights, _ = smooth(source.weights("decoder."), absmax, layers, alpha)
    return smooth_head(weights, {HEAD: record.channels(HEAD).absmax}, alpha)


def _with_head(spec: DecoderSpec, weights: Weights, kept: Kept | None) -> tuple[DecoderSpec, Weights]:
    """Geometry and weights of a decoder whose head has the rows of ``kept`` alone, or all."""
    if kept is None:
        return spec, weights
    head = weights[HEAD_WEIGHT if HEAD_WEIGHT in weights else EMBEDDINGS]
    return replace(spec, vocab=len(kept.ids)), {**weights, HEAD_WEIGHT: head[kept.ids]}


def _calibrated(source: Checkpoint, record: Record, images: ImageSet, kept: Kept | None, seed: int) -> StaticDecoder:
    """The decoder in W8A8 by a record, smoothed as is best for the checkpoint's answers and for text it makes up."""
    spec, weights = _with_head(decoder_spec(source, "tensorrt"), source.weights("decoder."), kept)
    shown = images.spread(_JUDGED).pixels(source.model.config.image_spec)
    asked = cycle(gate_questions(source))
    embeds = [case.embeds for pixels in shown for case in answer_cases(source, pixels, [next(asked)])]
    table, length = source.table(), min(_SPOKEN, source.decoder.max_length)
    # Not the text that the record was measured on.
    embeds += [table[ids.numpy()] for ids in spoken(source.model.decoder, rows=_TEXTS, length=length, seed=seed + 1)]
    absmax, rope = input_absmax(record, spec.layers), source.rope(spec.max_length)
    return StaticDecoder(*search_smoothing(spec, source.model.decoder, weights, rope, absmax, embeds))


def bundle_profiles(tower: ir.Model, heads: ir.Model | None, spec: DecoderSpec) -> tuple[Profile, ...]:
    """The shapes that engines are built for."""
    ((_, *image),) = (value.shape for value in tower.graph.inputs)
    fixed = [fixed_profile("vision", "vision", {"pixels": (1, *image)})]
    if heads is not None:
        fixed.append(fixed_profile("heads", "heads", {"last_hidden": (1, spec.hidden)}))
    decoders = decoder_profiles(
        buckets_for(spec.max_length),
        layers=spec.layers,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        hidden=spec.hidden,
    )
    return (*fixed, *decoders)


def _blocks(source: Checkpoint, images: ImageSet, seed: int, progress: Progress) -> dict[str, Blocks]:
    """The decoder's linear layers in 4 bits, quantised on what the decoder reads."""
    samples = decoder_samples(source.model, source.processor, images, seed)
    return quantise_decoder(source.model.decoder, (sample.embeds for sample in samples), progress=progress)


def _cache_scales(source: Checkpoint, record: Record | None, images: ImageSet) -> CacheScales:
    """Scales of an 8-bit cache, from the record, or measured where the record says nothing of the decoder."""
    stats = None if record is None else record.decoder
    if stats is None:
        samples = answered(source.model, source.processor, images)
        stats = measure_decoder(source.model.decoder, samples, images.source)
    peaks = (tuple(np.where(peak > 0, peak, 1) for peak in pair) for pair in stats.cache)
    step = np.float32(_HEADROOM / 127)
    return [((keys * step).astype(np.float32), (values * step).astype(np.float32)) for keys, values in peaks]
