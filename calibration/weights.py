"""The linear layers of a decoder in 4 bits, quantised one decoder layer after the other.

The Hessian of a product is the mean of x xᵀ over what it reads, so samples have to be run through the decoder. Held are
the hidden states of the samples, one layer's weights and its four Hessians: the sequences go through one layer at a
time, and no sample is kept whose states would not fit into `POSITIONS`. Each layer is measured behind layers that are
already quantised, so that it makes up for their errors as well as for its own; the checkpoint itself is left as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gmrt.calibration.blocks import Blocks
from gmrt.calibration.gptq import gptq
from gmrt.runtime.errors import GmrtError

POSITIONS = 16_384
"""Most positions that are measured: 38 MB of hidden states 576 wide, ten times as many as the widest input."""

MINIMUM = 64
"""Fewer positions than this say nothing of which inputs go together."""

# The products of a layer as `gmrt.export.decoder` writes them: the modules of one product read the same input.
PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "self_attn.q_proj_k_proj_v_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}


@dataclass(frozen=True)
class _Sequence:
    """Hidden states [1, S, D] in front of a layer, and what else that layer is called with."""

    hidden: Tensor
    rest: Mapping[str, Any]


@torch.inference_mode()
def quantise_decoder(
    decoder: Any,
    embeds: Iterable[Tensor],
    *,
    bits: int = 4,
    positions: int = POSITIONS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Blocks]:
    """Quantise the linear layers of a causal language model by GPTQ on samples of its input, float32 [1, S, D].

    Returns blocks by the name of the product ("layers.0.mlp.down_proj"); the head is not among them. ``progress`` is
    called with (layers done, of). Raises `GmrtError` when the samples hold too little, or a value is not finite.
    """
    model = decoder.model
    sequences = _first_states(model, embeds, positions)
    count = sum(sequence.hidden.shape[1] for sequence in sequences)
    if count < MINIMUM:
        raise GmrtError(
            f"4-bit weights are measured on {MINIMUM} positions or more, and the calibration set has {count}: "
            "give more images"
        )
    blocks: dict[str, Blocks] = {}
    for number, original in enumerate(model.layers):
        layer = copy.deepcopy(original)
        hessians = _hessians(layer, sequences, count)
        for product, parts in PRODUCTS.items():
            name = f"layers.{number}.{product}"
            modules = [layer.get_submodule(part) for part in parts]
            weight = torch.cat([module.weight for module in modules])
            try:
                made = gptq(weight.numpy(), hessians[product].numpy(), bits)
            except ValueError as error:
                raise GmrtError(f"calibration: {error} in {name} of the decoder: check the checkpoint") from None
            blocks[name] = made
            rows = torch.from_numpy(made.dequantise()).split([module.weight.shape[0] for module in modules])
            for module, part in zip(modules, rows, strict=True):
                module.weight.copy_(part)
        sequences = [_Sequence(_run(layer, sequence), sequence.rest) for sequence in sequences]
        if progress is not None:
            progress(number + 1, len(model.layers))
    return blocks


class _Reached(Exception):  # noqa: N818  # no error: the way out of a forward pass that has gone far enough
    """The first layer was called."""


def _first_states(model: nn.Module, embeds: Iterable[Tensor], positions: int) -> list[_Sequence]:
    """What the first layer is called with, for as many samples as ``positions`` has room for."""
    sequences: list[_Sequence] = []

    def keep(_module: nn.Module, args: tuple[Tensor, ...], rest: dict[str, Any]) -> None:
        sequences.append(_Sequence(args[0], rest))
        raise _Reached

    layers: Sequence[nn.Module] = model.layers  # type: ignore[assignment]
    left = positions
    for sample in embeds:
        left -= sample.shape[1]
        if left < 0:
            break
        # Only for this call: samples may be made by the same model while they are asked for.
        handle = layers[0].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            model(inputs_embeds=sample, use_cache=False)
        except _Reached:
            continue
        finally:
            handle.remove()
    return sequences


def _hessians(layer: nn.Module, sequences: Sequence[_Sequence], count: int) -> dict[str, Tensor]:
    """Mean of x xᵀ, float32 [K, K], of the input of each product of a layer."""
    sums: dict[str, Tensor] = {}

    def adder(product: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].reshape(-1, args[0].shape[-1])
            if product not in sums:
                sums[product] = torch.zeros(x.shape[1], x.shape[1])
            sums[product].addmm_(x.T, x, alpha=1 / count)

        return add

    handles = [
        layer.get_submodule(parts[0]).register_forward_pre_hook(adder(product)) for product, parts in PRODUCTS.items()
    ]
    try:
        for sequence in sequences:
            _run(layer, sequence)
    finally:
        for handle in handles:
            handle.remove()
    return sums


def _run(layer: nn.Module, sequence: _Sequence) -> Tensor:
    out = layer(sequence.hidden, **sequence.rest)
    hidden: Tensor = out[0] if isinstance(out, tuple) else out
    return hidden
