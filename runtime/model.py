"""The way in: load a bundle, look at an image, ask.

    model = load()
    view = model.look("harbour.tif")
    print(view.ask("describe"))

A model may be shared between threads, and does one thing at a time: a call that finds it working raises `BusyError`
instead of waiting. A stream counts as working from its first event until it is used up or closed.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gmrt.runtime.answer import Answer, Event, Finished, FinishReason, TextEvent
from gmrt.runtime.backends import Backend, Decoder, Encoded, create_backend
from gmrt.runtime.bundle import Bundle, open_bundle
from gmrt.runtime.confidence import apply_knots
from gmrt.runtime.errors import BundleError, BusyError, PromptError, SceneError
from gmrt.runtime.familiar import WARNING
from gmrt.runtime.generate import decode_tokens
from gmrt.runtime.image import FloatArray, prepare
from gmrt.runtime.locator import Locator, Maps
from gmrt.runtime.memory import parse_size, plan_memory
from gmrt.runtime.peaks import Located
from gmrt.runtime.places import Frame, Place, frame_of, places_in, restated
from gmrt.runtime.points import Kind, format_regions
from gmrt.runtime.prefixes import PrefixStore, prefix_key
from gmrt.runtime.prompt import Prompt
from gmrt.runtime.request import Options, Request, make_request
from gmrt.runtime.scalar import format_value
from gmrt.runtime.scene import Scene, read_scene, scene_hash

__all__ = ["SHIPPED", "Answer", "Event", "Finished", "Model", "TextEvent", "View", "load"]

SHIPPED = Path(__file__).parent.parent / "models" / "georsmllm-nano-int8"
"""The bundle that comes with the package."""

_PREFIX_BYTES = 16 << 20
"""Budget for image prefixes that are not in use: a dozen images of the nano model, a handful of a larger one."""


def load(
    path: str | os.PathLike[str] | None = None, *, provider: str = "cpu", max_memory: str | int | None = None
) -> Model:
    """Load a bundle, the shipped one without a path.

    ``provider`` is cpu or cuda. ``max_memory`` (``"2GiB"`` or bytes) is a limit on what the bundle takes beside the
    interpreter and its libraries; it bounds the KV cache too.

    Raises `BundleNotFoundError` and `BundleError` for a bundle that is not there or not whole, `ProviderError` for a
    provider that cannot be had, `MemoryLimitError` before anything large is loaded.
    """
    started = perf_counter()
    limit = None if max_memory is None else parse_size(max_memory)
    bundle = open_bundle(SHIPPED if path is None else path)
    capacity = plan_memory(bundle.manifest, prefixes=_PREFIX_BYTES).capacity_within(limit)
    backend = create_backend(bundle, provider)
    return Model(bundle, backend, max_capacity=capacity, load_ms=_since(started))


class Model:
    """A loaded bundle. Make one with `load`.

    ``bundle`` is what it was loaded from; ``max_capacity`` bounds prompt and answer together, in tokens.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, max_capacity: int, load_ms: float) -> None:
        self.max_capacity = max_capacity
        self.bundle = bundle
        self._backend = backend
        self._load_ms = load_ms
        self._eos = frozenset(bundle.manifest.prompt.eos_token_ids)
        self._lock = threading.Lock()
        self._prefixes = PrefixStore(_PREFIX_BYTES)
        self._decoder: Decoder | None = None
        self._resident: str | None = None  # key of the prefix that the decoder's cache holds, and nothing else

    @property
    def id(self) -> str:
        """The bundle's id: 16 hex that change with any of its files."""
        return self.bundle.manifest.id

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.bundle.manifest.name

    @property
    def precision(self) -> str:
        """The bundle's precision: fp32, fp16, int8 or int4."""
        return self.bundle.manifest.precision

    @property
    def provider(self) -> str:
        """What computes."""
        return self._backend.provider

    @property
    def backend(self) -> Backend:
        """What runs the graphs, for whoever measures them one by one."""
        return self._backend

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should know about how this bundle runs here."""
        return self._backend.notes

    def look(
        self,
        source: str | os.PathLike[str] | Scene,
        bands: str | Sequence[int | str] | None = None,
        composite: str | None = None,
    ) -> View:
        """Read an image, or take a scene, and encode it once; ``bands`` and ``composite`` as in `read_scene`.

        Raises `SceneError` and its kin for an image that cannot be read, `BusyError`.
        """
        return self._look((source,), bands, composite)

    def compare(self, before: str | os.PathLike[str] | Scene, after: str | os.PathLike[str] | Scene) -> View:
        """Read and encode a pair, in this order, for questions about the two; raises as `look` does.

        The second image is brought onto the grid of the first (`gmrt.runtime.pairing.align`), so that answers lie in
        the pixels of the first. Raises `SceneError` when the two do not lie over each other, and `PromptError` when the
        model was trained on single images only.
        """
        if self.bundle.manifest.prompt.max_images < 2:
            raise PromptError("this model was trained on one image at a time: look at the two one after the other")
        from gmrt.runtime.pairing import align

        scenes = [each if isinstance(each, Scene) else read_scene(each) for each in (before, after)]
        return self._look(align(*scenes))

    def _look(
        self,
        sources: Sequence[str | os.PathLike[str] | Scene],
        bands: str | Sequence[int | str] | None = None,
        composite: str | None = None,
    ) -> View:
        started = perf_counter()
        if (bands or composite) is not None and any(isinstance(source, Scene) for source in sources):
            raise SceneError("bands are chosen when a file is read, and this is a scene: give bands to read_scene")
        scenes = tuple(s if isinstance(s, Scene) else read_scene(s, bands=bands, composite=composite) for s in sources)
        pixels = np.stack([prepare(scene.rgb, self.bundle.manifest.image, scene.valid) for scene in scenes])
        read_ms = _since(started)
        with self._working():
            started = perf_counter()
            self._backend.prepare_vision()
            self._load_ms += _since(started)
            started = perf_counter()
            encoded = self._backend.encode(pixels)
            timings = {"read": read_ms, "vision": _since(started)}
        familiar = self.bundle.familiar
        strangeness = None if familiar is None else max(map(familiar.strangeness, encoded.embeds, pixels))
        return View(self, scenes, encoded, timings, strangeness)

    @contextmanager
    def _working(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise BusyError(
                "this model is working on another question: wait for it, close its stream, or load a second model"
            )
        try:
            yield
        finally:
            self._lock.release()

    def run(self, view: View, request: Request) -> Iterator[Event]:
        """Run one request as events; whatever happens, the cache is left holding the image prefix alone."""
        with self._working():
            started = perf_counter()
            decoder = self._decoder_for(request.capacity)
            reused = self._load_prefix(decoder, view, request.prompt)
            try:
                yield from self._events(decoder, view, request, reused, started)
            finally:
                decoder.cache.truncate(request.prompt.prefix)

    def _events(self, decoder: Decoder, view: View, request: Request, reused: int, started: float) -> Iterator[Event]:
        """Prefill the question and decode the answer, over a cache that holds the image prefix."""
        prompt = request.prompt
        last = np.array([[len(prompt.suffix_ids) - 1]])
        logits = decoder.prefill(self.bundle.table.lookup(prompt.suffix_ids)[None], last)[0, 0]
        hidden, scalar = decoder.last_hidden, request.scalar
        prefill_ms = _since(started)
        tokens = decode_tokens(
            decoder,
            self.bundle.table,
            logits,
            sampler=request.sampler,
            constraint=request.constraint,
            eos=self._eos,
            max_tokens=request.max_tokens,
            rewind_to=prompt.prefix,
        )
        shown: list[str] = []
        ended, count, logprob, decode_ms, started, last_id = False, 0, 0.0, 0.0, perf_counter(), 0
        with closing(tokens):
            for last_id, value in tokens:
                count += 1
                logprob += value
                ended = last_id in self._eos
                # A choice is shown in one piece, as it was given, once it is made; a scalar as its number; a place as
                # the locator finds it.
                silent = ended or request.choice or (scalar is not None and scalar.hides(last_id))
                silent = silent or (request.locator is not None and request.locator.hides(last_id))
                piece = "" if silent else request.text.push(last_id)
                if piece:
                    shown.append(piece)
                    decode_ms += _since(started)
                    yield TextEvent(piece, last_id)
                    started = perf_counter()
                if request.text.stopped:
                    ended = True
                    break
        rest = request.text.finish() if request.choice is None else request.choice.chosen or ""
        confidence = float(np.exp(logprob / count))
        places: tuple[Place, ...] | None = None
        if request.locator is not None and request.locator.kind is not None and hidden is not None:
            found = view.find(hidden[0, 0], request.locator.kind, request.max_regions)
            places = places_in(view.frame, found.regions, found.scores)
            rest = format_regions(map(view.frame.on_grid, places) if not view.frame.whole else found.regions)
            confidence *= found.confidence
        number, unit = None, ""
        if scalar is not None and scalar.counts and hidden is not None:
            found = view.count(hidden[0, 0])
            places = places_in(view.frame, found.regions, found.scores)
            number, rest = float(len(places)), str(len(places))
            confidence *= found.confidence
        elif scalar is not None and scalar.index is not None and hidden is not None:
            number, unit = self._measured(hidden[0], scalar.index)
            rest = format_value(number, unit)
        decode_ms += _since(started)
        if rest:
            shown.append(rest)
            yield TextEvent(rest, last_id)
        text, places = restated(view.frame, "".join(shown), confidence, places)
        held = request.constraint
        complete = ended or (held is not None and held.finished)
        reason: FinishReason = "stop" if complete and not (held is not None and held.cut) else "length"
        yield Finished(
            Answer(
                image=view.image,
                prompt=request.question,
                text=text,
                confidence=apply_knots(confidence, self.bundle.manifest.confidence),
                finish_reason=reason,
                tokens={"prompt": len(prompt.ids), "reused": reused, "generated": count},
                timings={"load": self._load_ms, **view.timings, "prefill": prefill_ms, "decode": decode_ms},
                model={"id": self.id, "precision": self.precision, "provider": self.provider},
                strangeness=view.strangeness,
                value=number,
                unit=unit,
                scene=view.scene,
                frame=view.frame,
                found=places,
            )
        )

    def _measured(self, hidden: FloatArray, index: int) -> tuple[float, str]:
        """One of the bundle's measures and its unit, from the last hidden state [1, D] of the prompt."""
        heads = self.bundle.manifest.heads
        assert heads is not None  # a guard over scalars comes with a head
        value = float(self._backend.measure(hidden)[0, index])
        if not math.isfinite(value):
            raise BundleError(f"{heads.file}: returned a number that is not finite: export at another precision")
        return value, heads.measures[index].unit

    def _decoder_for(self, capacity: int) -> Decoder:
        """Return a decoder whose cache holds ``capacity`` tokens, a new and larger one when need be."""
        if self._decoder is None or self._decoder.cache.capacity < capacity:
            self._put_away()
            self._decoder = None  # the old buffers go before the new ones come
            self._decoder = self._backend.bind(self._backend.new_cache(capacity))
        return self._decoder

    def _put_away(self) -> None:
        """Move the prefix that the cache holds to the store."""
        if self._decoder is not None and self._resident is not None:
            self._prefixes.put(self._resident, self._decoder.cache.snapshot())
        self._resident = None

    def _load_prefix(self, decoder: Decoder, view: View, prompt: Prompt) -> int:
        """Make the cache hold exactly the prompt's image prefix; returns how many of its tokens were reused.

        A prefix is always prefilled by itself, so a cold one and a reused one are the same numbers.
        """
        ids = prompt.ids[: prompt.prefix]
        key = prefix_key(self.id, self.bundle.manifest.image, view.hashes, ids)
        if self._resident == key:
            return prompt.prefix
        self._put_away()
        decoder.cache.truncate(0)
        snapshot = self._prefixes.get(key)
        if snapshot is not None:
            decoder.cache.restore(snapshot)
        else:
            embeds = self.bundle.table.lookup(ids)
            embeds[ids == self.bundle.manifest.prompt.image_token_id] = view.encoded.embeds.reshape(-1, embeds.shape[1])
            decoder.prefill(embeds[None], np.zeros((1, 0), np.int64))
        self._resident = key
        return 0 if snapshot is None else prompt.prefix


class View:
    """One image, or a pair, that the model has seen. Make one with `Model.look` or `Model.compare`.

    ``scenes`` are the images in order, ``encoded`` what the tower made of them, ``hashes`` those of their pixels,
    ``timings`` the milliseconds that reading and encoding took. ``strangeness`` says how unlike the calibration images
    this is, of a pair the worse (`gmrt.runtime.familiar`); None where the bundle cannot tell.
    """

    def __init__(
        self,
        model: Model,
        scenes: tuple[Scene, ...],
        encoded: Encoded,
        timings: Mapping[str, float],
        strangeness: float | None = None,
    ) -> None:
        self.model = model
        self.scenes = scenes
        self.encoded = encoded
        self.timings = timings
        self.strangeness = strangeness
        self.hashes = tuple(scene_hash(scene) for scene in scenes)

    def find(self, hidden: FloatArray, kind: Kind, max_regions: int | None) -> Located:
        """What the bundle's locator finds for a question, by the last hidden state [D] of its prompt."""
        locator, maps = self._located
        return locator.find(hidden, maps, kind, max_regions)

    def count(self, hidden: FloatArray) -> Located:
        """The places of all that a question asks to count, by the last hidden state [D] of its prompt."""
        locator, maps = self._located
        return locator.count(hidden, maps)

    @cached_property
    def _located(self) -> tuple[Locator, Maps]:
        """The bundle's locator and what it sees here, made when the first question for places comes."""
        locator, places = self.model.bundle.locator, self.encoded.places
        assert locator is not None  # a guard over locations or counts comes with a locator
        assert places is not None  # and a locator with a tower that has places
        return locator, locator.look(places)

    @cached_property
    def frame(self) -> Frame:
        """What the grid of answers lies over: the image, of a pair the second, or the window that it is."""
        return frame_of(self.scenes[-1])

    @property
    def image(self) -> str | tuple[str, ...] | None:
        """The path of the image, the paths of a pair, None when there is no file."""
        paths = tuple(scene.path for scene in self.scenes if scene.path is not None)
        if len(paths) != len(self.scenes):
            return None
        return paths[0] if len(paths) == 1 else paths

    @property
    def scene(self) -> Mapping[str, Any] | tuple[Mapping[str, Any], ...]:
        """What was drawn of the image, of a pair one after the other."""
        summaries = tuple(scene.summary() for scene in self.scenes)
        return summaries[0] if len(summaries) == 1 else summaries

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the images were read, those of a pair one after the other; a warning for `unfamiliar`."""
        notes = tuple(note for scene in self.scenes for note in scene.notes)
        return (*notes, WARNING) if self.unfamiliar else notes

    @property
    def unfamiliar(self) -> bool:
        """Whether the image is unlike anything that the model was calibrated on; False where nothing can tell."""
        return self.strangeness is not None and self.strangeness > 1

    def ask(  # noqa: PLR0913 - all but the prompt by name, each with a default
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        choices: Sequence[str] | None = None,
        yes_no: bool = False,
        number: bool = False,
        points: bool | Kind = False,
        max_regions: int | None = None,
    ) -> Answer:
        """Ask, and wait for the whole answer; the last event of `stream`, which see."""
        options = Options(
            max_tokens, temperature, top_k, top_p, seed, stop, choices, yes_no, number, points, max_regions
        )
        *_, last = self._run(prompt, options)
        assert isinstance(last, Finished)  # the last event of every stream
        return last.answer

    def stream(  # noqa: PLR0913 - as ask
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        choices: Sequence[str] | None = None,
        yes_no: bool = False,
        number: bool = False,
        points: bool | Kind = False,
        max_regions: int | None = None,
    ) -> Iterator[Event]:
        """Ask, and get the answer piece by piece: `TextEvent` after `TextEvent`, then one `Finished`.

        ``max_tokens`` cuts the answer off; without it that is `gmrt.runtime.request.MAX_TOKENS`, or less where the
        model has no room for them. A ``temperature`` of 0 takes the likeliest token; above it tokens are drawn
        with ``top_k``, ``top_p`` and ``seed`` as in `gmrt.runtime.sampling`. The answer ends before the first of the
        strings in ``stop``. ``choices`` holds it to one of these texts, ``yes_no`` to "yes" or "no", ``number`` to a
        whole number from 0 to 999, ``points`` to a set of regions (or of one kind: "point", "box", "obb", "poly"), at
        most ``max_regions`` of them. An answer that opens with a region without being asked to is a whole location
        too: regions for which there is no room are left out, and ``finish_reason`` is ``length``.

        Raises at once `PromptError` for a prompt that is empty or too long, `ConstraintError` for options that cannot
        be met together, `CacheFullError` when prompt and ``max_tokens`` exceed what the model holds; and `BusyError`
        at the first event.
        """
        options = Options(
            max_tokens, temperature, top_k, top_p, seed, stop, choices, yes_no, number, points, max_regions
        )
        return self._run(prompt, options)

    def _run(self, prompt: str, options: Options) -> Iterator[Event]:
        request = make_request(
            prompt,
            options,
            bundle=self.model.bundle,
            images=len(self.scenes),
            max_capacity=self.model.max_capacity,
        )
        return self.model.run(self, request)


def _since(started: float) -> float:
    """Milliseconds since a reading of `perf_counter`."""
    return (perf_counter() - started) * 1e3
