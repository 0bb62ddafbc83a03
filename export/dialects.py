"""The decoder in the dialect of a bundle's target, from a checkpoint; and the shapes that engines are built for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import onnx_ir as ir

from gmrt.calibration.images import ImageSet
from gmrt.calibration.record import Record
from gmrt.export.checkpoint import Checkpoint
from gmrt.export.decoder import DecoderSpec, build_decoder
from gmrt.export.gate import gate_questions
from gmrt.export.precision import Recipe
from gmrt.export.reference import answer_cases
from gmrt.export.sensitivity import by_layer
from gmrt.export.standard import build_standard_decoder
from gmrt.export.w8a8 import input_absmax, search_alpha, static_decoder
from gmrt.runtime.manifest import Target
from gmrt.runtime.profiles import Profile, buckets_for, decoder_profiles, fixed_profile

# Pictures, one question each, that the strength of smoothing is judged by.
_JUDGED = 6


def plain_decoder(
    source: Checkpoint, spec: DecoderSpec, recipe: Recipe, target: Target, chosen: Mapping[str, str]
) -> ir.Model:
    """The decoder's graph in the dialect of its target; ``chosen`` gives layers another precision."""
    weights, rope = source.weights("decoder."), source.rope(spec.max_length)
    if target == "tensorrt":
        return build_standard_decoder(
            spec, weights, rope, linear=recipe.linear, head=recipe.head, product=recipe.activations
        )
    linear, head = by_layer(chosen, recipe.linear), by_layer(chosen, recipe.head)
    return build_decoder(spec, weights, rope, linear=linear, head=head, dtype=recipe.activations)


def calibrated_decoder(
    source: Checkpoint, spec: DecoderSpec, record: Record, images: ImageSet
) -> tuple[ir.Model, dict[str, Any]]:
    """The decoder in W8A8 by a record, and how it was smoothed: as is best for the checkpoint's answers on images."""
    shown = images.spread(_JUDGED).pixels(source.model.config.image_spec)
    asked = cycle(gate_questions(source))
    embeds = [case.embeds for pixels in shown for case in answer_cases(source, pixels, [next(asked)])]
    absmax = input_absmax(record, spec.layers)
    weights, rope = source.weights("decoder."), source.rope(spec.max_length)
    smoothing = search_alpha(spec, weights, rope, absmax, embeds)
    return static_decoder(spec, weights, rope, absmax, smoothing.alpha), smoothing.to_dict()


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
