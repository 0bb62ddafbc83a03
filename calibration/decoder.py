"""What goes through a decoder: the inputs of its linear layers by channel, and its keys and values as they are cached.

The decoder is run in PyTorch on whole sequences: image prefix, prompt, and the checkpoint's own greedy answer, so that
the activations are those of the field. Text alone will not do: image embeddings are other vectors than words. Keys are
taken after their rotary positions, because that is what a cache of 8 bits stores: rotation mixes the two channels of a
pair, so a range from before it can be too small by the square root of 2.

One sequence is in memory at a time. `watch` hands every layer's input to whoever asks, which is what a method needs
that builds a Hessian from it (GPTQ); `measure_decoder` keeps the two vectors that SmoothQuant (Xiao et al. 2022, arXiv
2211.10438: largest magnitudes) and AWQ (Lin et al. 2023, arXiv 2306.00978: mean magnitudes) scale by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gmrt.calibration.images import ImageSet, Picture
from gmrt.calibration.observe import Channels, observe_channels
from gmrt.calibration.record import DecoderStats, InputStats, as_stored, product_name
from gmrt.georsmllm import prompts
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration, greedy
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.georsmllm.tasks import wordings
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.image import prepare
from gmrt.runtime.lexicon import tag_tokens

FloatArray = npt.NDArray[np.float32]
OnInput = Callable[[str, FloatArray], None]
OnCache = Callable[[int, FloatArray, FloatArray], None]

PROMPTS = (
    prompts.CAPTION[0],
    prompts.CLASS[0],
    prompts.IS_CLASS[0].format("river"),
    wordings.COUNT[0].format(bare="buildings", all="all buildings"),
    wordings.LOCATE["box"][0].format(the="the buildings"),
    prompts.CAPTION[4],
)
"""A request of each task; every picture is asked some of them in turn, and a question of its own where it has any."""

MAX_TOKENS = 24
_EACH = 2

# The linear layers whose inputs differ: k and v read what q reads, up what gate reads.
_READERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Sample:
    """One sequence: token ``ids`` [S], with placeholders for the image, and their embeddings [1, S, D]."""

    ids: tuple[int, ...]
    embeds: Tensor


def answer_ends(model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor) -> tuple[int, ...]:
    """The tokens that end an answer: where a locator goes on, the tags of regions too."""
    tags = tag_tokens(processor.backend) if model.locator is not None else None
    return (*processor.prompt_layout.eos_token_ids, *(tags or ()))


def answered(
    model: GeoRSMLLMForConditionalGeneration, processor: GeoRSMLLMProcessor, images: ImageSet
) -> Iterator[Sample]:
    """Show every picture, ask about it, and yield prompt and greedy answer, one at a time."""
    spec, ends = processor.image_processor.image_spec, answer_ends(model, processor)
    for number, picture in enumerate(images.pictures):
        scene = picture()
        with torch.inference_mode():
            seen = model.encode_images(torch.from_numpy(prepare(scene.rgb, spec, scene.valid))[None])
        for question in questions(number, picture):
            ids = processor.encode(question).ids.tolist()
            with torch.inference_mode():
                prompt = model.embed(torch.tensor([ids]), seen)
                answer = greedy(model, prompt, ends, MAX_TOKENS)
                words = model.get_input_embeddings()(torch.tensor([answer], dtype=torch.long))
                sample = Sample((*ids, *answer), torch.cat([prompt, words], dim=1))
            yield sample


def questions(number: int, picture: Picture) -> tuple[str, ...]:
    """What is asked about the picture at place ``number``: two of `PROMPTS` in turn, and one of its own questions."""
    asked = tuple(PROMPTS[(_EACH * number + i) % len(PROMPTS)] for i in range(_EACH))
    own = picture.questions()
    return (*asked, own[number % len(own)]) if own else asked


def text_samples(model: GeoRSMLLMForConditionalGeneration, rows: Iterable[Sequence[int]]) -> Iterator[Sample]:
    """Yield rows of token ids without an image, for a decoder that is to be measured on text."""
    for row in rows:
        with torch.inference_mode():
            sample = Sample(tuple(row), model.get_input_embeddings()(torch.tensor([list(row)])))
        yield sample


def watch(decoder: Any, samples: Iterable[Sample], on_input: OnInput, on_cache: OnCache | None = None) -> None:
    """Run samples through a causal language model and show what its linear layers read.

    ``on_input`` is called with the name of a product (`record.product_name`) and its input float32 [S, K];
    ``on_cache`` with a layer's number, its rotated keys and its values, float32 [kv_heads, S, head_dim]. The arrays are
    the model's own: copy what is to be kept.
    """
    handles = []
    for number, layer in enumerate(decoder.model.layers):
        for name in _READERS:
            hook = _hook(product_name(f"layers.{number}.{name}"), on_input)
            handles.append(layer.get_submodule(name).register_forward_pre_hook(hook))
    try:
        for sample in samples:
            with torch.inference_mode():
                out = decoder.model(inputs_embeds=sample.embeds, use_cache=True)
            on_input("lm_head", _rows(out.last_hidden_state))
            for number, layer in enumerate(out.past_key_values.layers if on_cache else ()):
                on_cache(number, layer.keys[0].float().numpy(), layer.values[0].float().numpy())  # type: ignore[misc]
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, on_input: OnInput) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda _module, inputs: on_input(name, _rows(inputs[0]))


def _rows(values: Tensor) -> FloatArray:
    rows: FloatArray = values.reshape(-1, values.shape[-1]).float().numpy()
    return rows


def measure_decoder(decoder: Any, samples: Iterable[Sample], source: str) -> DecoderStats:
    """Measure a causal language model on samples; ``source`` says in words where they come from.

    Raises `GmrtError` when there are none, or a value is not finite.
    """
    channels: dict[str, Channels] = {}
    cache: dict[int, tuple[FloatArray, FloatArray]] = {}
    digest, lengths = hashlib.sha256(), [0, 0]

    def on_input(name: str, rows: FloatArray) -> None:
        _check(rows, name)
        channels[name] = observe_channels(channels.get(name), rows, axis=1)

    def on_cache(number: int, keys: FloatArray, values: FloatArray) -> None:
        _check(keys, f"the keys of layer {number}")
        _check(values, f"the values of layer {number}")
        now = np.abs(keys).max(axis=1), np.abs(values).max(axis=1)
        before = cache.get(number, now)
        cache[number] = np.maximum(before[0], now[0]), np.maximum(before[1], now[1])

    def counted() -> Iterator[Sample]:
        for sample in samples:
            digest.update(np.asarray(sample.ids, "<i8").tobytes() + b"|")
            lengths[:] = lengths[0] + 1, lengths[1] + len(sample.ids)
            yield sample

    watch(decoder, counted(), on_input, on_cache)
    if not lengths[0]:
        raise GmrtError("there is nothing to measure the decoder on: give it images or text")
    inputs = {
        name: InputStats(*(as_stored(part.astype(np.float32)) for part in (of.absmax, of.absmean)))
        for name, of in channels.items()
    }
    return DecoderStats(source, *lengths, digest.hexdigest(), inputs, tuple(cache[i] for i in sorted(cache)))


def _check(values: FloatArray, where: str) -> None:
    if not np.isfinite(values).all():
        raise GmrtError(f"calibration: a value is not finite in {where} of the decoder: check the checkpoint")
