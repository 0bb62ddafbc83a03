"""A checkpoint in PyTorch, asked as a bundle is: the reference that a bundle is compared with.

The tokens are chosen by the runtime's own loop and its guards, so the end of an answer, its confidence and the form of
a location are the same code; only the numbers come from PyTorch. The image's part of the prompt is run once and kept.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache
from transformers.utils.logging import disable_progress_bar

from gmrt.georsmllm.evaluation.predict import Given, Look
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.processor import load_processor
from gmrt.runtime.constrain import Constraint
from gmrt.runtime.embeddings import TokenTable
from gmrt.runtime.generate import decode_tokens
from gmrt.runtime.image import prepare
from gmrt.runtime.lexicon import Lexicon, read_lexicon, tag_tokens
from gmrt.runtime.location import Guard, Location
from gmrt.runtime.locator import Locator, LocatorGuard, Maps
from gmrt.runtime.points import KINDS, format_regions
from gmrt.runtime.sampling import make_sampler
from gmrt.runtime.scalar import Measure, ScalarGuard, Scalars, format_value, read_scalars
from gmrt.runtime.scene import Scene


class CheckpointPredictor:
    """A checkpoint in fp32 on the CPU."""

    def __init__(self, path: Path) -> None:
        disable_progress_bar()  # stderr is for our own progress
        self.model = GeoRSMLLMForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
        self.processor = load_processor(path)
        self.table = TokenTable(self.model.get_input_embeddings().weight.detach().numpy())
        self.name = f"{path.resolve().name} (checkpoint)"
        self.max_images = self.processor.prompt_layout.max_images
        self.eos = frozenset(self.processor.prompt_layout.eos_token_ids)
        self._tags = tag_tokens(self.processor.backend)

    @torch.inference_mode()
    def look(self, *scenes: Scene) -> Look:
        """Run tower and connector on one image or two."""
        spec = self.processor.image_processor.image_spec
        pixels = np.stack([prepare(scene.rgb, spec, scene.valid) for scene in scenes])
        return _CheckpointLook(self, *self.model.see(torch.from_numpy(pixels)))

    def guard(self, max_tokens: int) -> Constraint | None:
        """What holds an answer that opens as a location or a scalar to a whole one, as in the runtime."""
        eos = tuple(self.eos)
        guard: Constraint | None = None
        if self.locator is not None and self._tags is not None:
            guard = LocatorGuard(self._tags)
        elif self._tags is not None:
            guard = Guard(self._tags, lambda: Location(self.lexicon, kinds=KINDS, eos=eos, max_tokens=max_tokens))
        return guard if self.scalars is None else ScalarGuard(self.scalars, eos, otherwise=guard)

    @cached_property
    def locator(self) -> Locator | None:
        """What finds places, None for a model that spells them: the field's own code on the checkpoint's weights."""
        head = self.model.locator
        return None if head is None else Locator({k: v.numpy() for k, v in head.state_dict().items()})

    @cached_property
    def lexicon(self) -> Lexicon:
        """How the tokenizer spells locations, read when the first one is answered."""
        return read_lexicon(self.processor.backend)

    @cached_property
    def scalars(self) -> Scalars | None:
        """How the tokenizer spells the model's measures and counts, None for a model without any."""
        measures = [Measure(measure["name"], measure.get("unit", "")) for measure in self.model.config.measures]
        return read_scalars(self.processor.backend, measures, counts=self.locator is not None)


class _CheckpointLook:
    unfamiliar = None

    def __init__(self, predictor: CheckpointPredictor, embeds: torch.Tensor, places: torch.Tensor | None) -> None:
        self._owner = predictor
        self._image_embeds, self._places = embeds, places
        self._decoder: _TorchDecoder | None = None

    @cached_property
    def _located(self) -> tuple[Locator, Maps]:
        """The locator and what it sees here."""
        assert self._owner.locator is not None
        assert self._places is not None
        return self._owner.locator, self._owner.locator.look(self._places.numpy())

    @torch.inference_mode()
    def ask(self, question: str, max_tokens: int) -> Given:
        started = perf_counter()
        owner = self._owner
        prompt = owner.processor.encode(question, images=len(self._image_embeds))
        embeds = owner.model.embed(torch.from_numpy(prompt.ids)[None], self._image_embeds)
        if self._decoder is None:
            self._decoder = _TorchDecoder(owner.model)
            self._decoder.run(embeds[:, : prompt.prefix])
        logits, hidden = self._decoder.run(embeds[:, prompt.prefix :])
        guard = owner.guard(max_tokens)
        ids, total = [], 0.0
        for token, logprob in decode_tokens(
            self._decoder,
            owner.table,
            logits,
            sampler=make_sampler(temperature=0.0, top_k=0, top_p=1.0, seed=0),
            constraint=guard,
            eos=owner.eos,
            max_tokens=max_tokens,
            rewind_to=prompt.prefix,
        ):
            ids.append(token)
            total += logprob
        text = owner.processor.backend.decode([token for token in ids if token not in owner.eos])
        value = None
        if isinstance(guard, ScalarGuard) and guard.index is not None and not guard.counts:
            value = float(owner.model.measured(hidden)[guard.index])
            text = format_value(value, owner.scalars.measures[guard.index].unit)
        confidence = float(np.exp(total / len(ids)))
        located = guard.otherwise if isinstance(guard, ScalarGuard) else guard
        if isinstance(guard, ScalarGuard) and guard.counts:
            locator, maps = self._located
            found = locator.count(hidden.numpy(), maps)
            value, confidence = float(len(found.regions)), confidence * found.confidence
            text = str(len(found.regions))
        elif isinstance(located, LocatorGuard) and located.kind is not None:
            locator, maps = self._located
            found = locator.find(hidden.numpy(), maps, located.kind)
            text, confidence = format_regions(found.regions), confidence * found.confidence
        complete = ids[-1] in owner.eos or (guard is not None and guard.finished)
        cut = not complete or (guard is not None and guard.cut)
        ms = (perf_counter() - started) * 1e3
        return Given(text, confidence, cut, ms, value)


class _TorchDecoder:
    """The runtime's `Decoder` over a PyTorch model, as far as `decode_tokens` asks; ``cache`` can be cut back."""

    def __init__(self, model: GeoRSMLLMForConditionalGeneration) -> None:
        self._decoder: Any = model.decoder
        self._past: Any = DynamicCache(config=model.config.text_config)
        self.cache: Any = self
        self.embeds = np.zeros((1, 1, int(model.config.text_config.hidden_size)), np.float32)
        self.logits = np.zeros((1, 1, 0), np.float32)

    def run(self, embeds: torch.Tensor) -> tuple[npt.NDArray[np.float32], torch.Tensor]:
        """Append embeds [1, S, D]; returns the logits [V] behind the last of them and its last hidden state [D]."""
        out = self._decoder.model(inputs_embeds=embeds, past_key_values=self._past, use_cache=True)
        hidden = out.last_hidden_state[0, -1]
        return self._decoder.lm_head(hidden).numpy().copy(), hidden

    def step(self) -> None:
        """Append the token in ``embeds``."""
        self.logits = self.run(torch.from_numpy(self.embeds))[0][None, None]

    @torch.inference_mode()
    def prefill(self, embeds: npt.NDArray[np.float32], logits_at: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Append embeds [1, S, D]; returns logits [1, n, V] at ``logits_at`` [1, n]."""
        out = self._decoder.model(inputs_embeds=torch.from_numpy(embeds), past_key_values=self._past, use_cache=True)
        wanted: npt.NDArray[np.float32] = self._decoder.lm_head(out.last_hidden_state[:, logits_at[0]]).numpy()
        return wanted

    def truncate(self, length: int) -> None:
        """Forget every token from position ``length`` on."""
        if extra := self._past.get_seq_length() - length:
            self._past.crop(-extra)  # by how many to forget: a length is no longer taken by all versions
