"""The way in: load a bundle, look at an image, ask.

    model = load()
    view = model.look("harbour.tif")
    print(view.ask("describe"))

A model may be shared between threads, and does one thing at a time: a call that finds it working raises `BusyError`
instead of waiting. A stream counts as working from its first event until it is used up or closed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gmrt.runtime.ahead import made_ahead
from gmrt.runtime.answer import Answer, Event, Finished, TextEvent
from gmrt.runtime.backends import Backend, Decoder, create_backend
from gmrt.runtime.batch import Batch, Job
from gmrt.runtime.bundle import Bundle, open_bundle
from gmrt.runtime.errors import (
    BusyError,
    GmrtError,
    PromptError,
    SceneError,
    SceneNotFoundError,
    SceneReadError,
)
from gmrt.runtime.generate import decode_tokens
from gmrt.runtime.image import FloatArray, prepare
from gmrt.runtime.memory import parse_size, plan_memory
from gmrt.runtime.prefixes import Prefilled, Prefiller
from gmrt.runtime.reply import Reply
from gmrt.runtime.request import Decoding, Options, Request, make_request
from gmrt.runtime.scene import Scene, read_scene, scene_hash
from gmrt.runtime.series import AHEAD, Outcome, Series, Source
from gmrt.runtime.view import View

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SHIPPED", "Answer", "Event", "Finished", "Model", "Outcome", "TextEvent", "View", "load"]

SHIPPED = Path(__file__).parent.parent / "models" / "georsmllm-nano-int8"
"""The bundle that comes with the package."""

_PREFIX_BYTES = 16 << 20
"""Budget for image prefixes: a dozen images of the nano model, a handful of a larger one."""


def load(
    path: str | os.PathLike[str] | None = None, *, provider: str = "cpu", max_memory: str | int | None = None
) -> Model:
    """Load a bundle, the shipped one without a path.

    ``provider`` is cpu, cuda or tensorrt. ``max_memory`` (``"2GiB"`` or bytes) is a limit on what the bundle takes
    beside the interpreter and its libraries; it bounds the KV cache too.

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

    ``bundle`` is what it was loaded from, ``load_ms`` how long that took; ``max_capacity`` bounds prompt and answer
    together, and the rows of a batch together, in tokens.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, max_capacity: int, load_ms: float) -> None:
        self.max_capacity = max_capacity
        self.bundle = bundle
        self._backend = backend
        self.load_ms = load_ms
        self._eos = frozenset(bundle.manifest.prompt.eos_token_ids)
        self._lock = threading.Lock()
        self._prefiller = Prefiller(bundle, _PREFIX_BYTES)
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
        self, source: Source, bands: str | Sequence[int | str] | None = None, composite: str | None = None
    ) -> View:
        """Read an image, or take a scene, and encode it once; ``bands`` and ``composite`` as in `read_scene`.

        Raises `SceneError` and its kin for an image that cannot be read, `BusyError`.
        """
        return self._look((source,), bands, composite)

    def compare(self, before: Source, after: Source) -> View:
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

    def ask_each(
        self,
        sources: Iterable[Source],
        prompts: str | Sequence[str],
        *,
        bands: str | Sequence[int | str] | None = None,
        composite: str | None = None,
        **options: Unpack[Decoding],
    ) -> Generator[Outcome, None, None]:
        """Ask the same about many images: an `Outcome` for each, in order, as soon as it is complete.

        ``bands`` and ``composite`` as in `read_scene`; ``options`` are those of `View.stream`. Reading and preparing
        run in a thread of their own, at most `AHEAD` images ahead, in which ``sources`` is iterated too; answers are
        decoded together (`gmrt.runtime.batch`). So memory does not grow with the number of images.

        Raises at once what `View.stream` raises; an image that cannot be read is an outcome with an ``error``, and
        every other failure is raised where it happens. Closing the iterator stops the work.
        """
        asked = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        held = Options(**options)
        if not asked:
            raise PromptError("no prompt given: ask at least one")
        capacity = max(self.request(prompt, held, 1).capacity for prompt in asked)

        def read(source: Source) -> _Read:
            try:
                return source, self._see((source,), bands, composite)
            except (SceneError, SceneNotFoundError, SceneReadError) as error:
                return source, error

        return self._outcomes(made_ahead(sources, read, AHEAD), asked, held, capacity)

    def _outcomes(
        self, images: Generator[_Read, None, None], prompts: Sequence[str], options: Options, capacity: int
    ) -> Generator[Outcome, None, None]:
        """Encode and answer images that a thread reads."""
        with self._working(), closing(images):
            series = Series(
                self._batch(capacity, self._backend.max_batch),
                len(prompts),
                lambda number: self.request(prompts[number], options, 1),
            )
            yield from series.outcomes(
                (source, seen if isinstance(seen, GmrtError) else self._view(seen)) for source, seen in images
            )

    def ask_many(self, view: View, prompts: Sequence[str], options: Options) -> list[Answer]:
        """Answer many prompts about one view together; see `View.ask_many`."""
        requests = [self.request(prompt, options, len(view.scenes)) for prompt in prompts]
        if not requests:
            return []
        jobs = [Job(at, view, request) for at, request in enumerate(requests)]
        with self._working():
            batch = self._batch(max(request.capacity for request in requests), len(jobs))
            return [answer for _, answer in sorted(batch.answers(jobs), key=lambda found: found[0])]

    def _batch(self, capacity: int, jobs: int) -> Batch:
        """A wide cache for so many jobs, within the bound that holds for one answer; what one answer had is freed."""
        self._decoder = self._resident = None
        return Batch(
            self._backend,
            self.bundle,
            rows=max(1, min(jobs, self._backend.max_batch, self.max_capacity // capacity)),
            capacity=capacity,
            prefill=self._prefill,
            reply=partial(Reply, self),
        )

    def request(self, prompt: str, options: Options, images: int) -> Request:
        """Check a question about so many images; see `gmrt.runtime.request.make_request`."""
        return make_request(prompt, options, bundle=self.bundle, images=images, max_capacity=self.max_capacity)

    def _look(
        self,
        sources: Sequence[Source],
        bands: str | Sequence[int | str] | None = None,
        composite: str | None = None,
    ) -> View:
        # Making the tower's session takes as long as reading a picture, and does not hold the interpreter.
        tower = threading.Thread(target=self._prepare_vision, name="gmrt-tower")
        tower.start()
        try:
            seen = self._see(sources, bands, composite)
        finally:
            tower.join()
        with self._working():
            return self._view(seen)

    def _prepare_vision(self) -> None:
        """Load the tower if that can be done; what keeps it from being loaded is raised where it is needed."""
        started = perf_counter()
        with suppress(GmrtError):
            self._backend.prepare_vision()
        self.load_ms += _since(started)

    def _see(self, sources: Sequence[Source], bands: str | Sequence[int | str] | None, composite: str | None) -> _Seen:
        """Read and prepare images; touches nothing of the model that changes, so that a thread may call it."""
        started = perf_counter()
        if (bands or composite) is not None and any(isinstance(source, Scene) for source in sources):
            raise SceneError("bands are chosen when a file is read, and this is a scene: give bands to read_scene")
        scenes = tuple(s if isinstance(s, Scene) else read_scene(s, bands=bands, composite=composite) for s in sources)
        pixels = np.stack([prepare(scene.rgb, self.bundle.manifest.image, scene.valid) for scene in scenes])
        return _Seen(scenes, pixels, tuple(map(scene_hash, scenes)), _since(started))

    def _view(self, seen: _Seen) -> View:
        """Encode what was read."""
        self._prepare_vision()
        started = perf_counter()
        encoded = self._backend.encode(seen.pixels)
        timings = {"read": seen.read_ms, "vision": _since(started)}
        familiar = self.bundle.familiar
        strangeness = None if familiar is None else max(map(familiar.strangeness, encoded.embeds, seen.pixels))
        return View(self, seen.scenes, encoded, timings, strangeness, seen.hashes)

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
            decoder = self._decoder_for(request.capacity)
            key = self._prefiller.key(view.hashes, request.prompt)
            if self._resident != key:
                self._resident = None
                decoder.cache.truncate(0)
            try:
                prefilled = self._prefill(decoder, view, request)
                self._resident = key
                yield from self._events(decoder, view, request, prefilled)
            finally:
                decoder.cache.truncate(request.prompt.prefix)

    def _prefill(self, decoder: Decoder, view: View, request: Request) -> Prefilled:
        return self._prefiller.prefill(decoder, request.prompt, view.hashes, view.encoded.embeds)

    def _events(self, decoder: Decoder, view: View, request: Request, prefilled: Prefilled) -> Iterator[Event]:
        """Decode the answer to a prompt that the cache holds."""
        reply = Reply(self, view, request, prefilled)
        tokens = decode_tokens(
            decoder,
            self.bundle.table,
            prefilled.logits,
            sampler=request.sampler,
            constraint=request.constraint,
            eos=self._eos,
            max_tokens=request.max_tokens,
            rewind_to=request.prompt.prefix,
            vocabulary=self.bundle.vocabulary,
        )
        decode_ms, started, last_id = 0.0, perf_counter(), 0
        with closing(tokens):
            for token in tokens:
                last_id = token.id
                piece = reply.take(token)
                if piece:
                    decode_ms += _since(started)
                    yield TextEvent(piece, last_id)
                    started = perf_counter()
                if reply.ended:
                    break
        rest = reply.finish()
        decode_ms += _since(started)
        if rest:
            yield TextEvent(rest, last_id)
        yield Finished(reply.answer(decode_ms))

    def measure(self, hidden: FloatArray) -> FloatArray:
        """Run the bundle's regression head on hidden states float32 [n, D]: values [n, K] in their units."""
        return self._backend.measure(hidden)

    def _decoder_for(self, capacity: int) -> Decoder:
        """Return a decoder whose cache holds ``capacity`` tokens, a new and larger one when need be."""
        if self._decoder is None or self._decoder.cache.capacity < capacity:
            self._decoder = self._resident = None  # the old buffers go before the new ones come
            self._decoder = self._backend.bind(self._backend.new_cache(capacity))
        return self._decoder


class _Seen(NamedTuple):
    """Images that were read and prepared: ``pixels`` float32 [N, 3, H, W] for the tower, and hashes of the scenes."""

    scenes: tuple[Scene, ...]
    pixels: FloatArray
    hashes: tuple[str, ...]
    read_ms: float


_Read = tuple[Source, _Seen | GmrtError]
"""An image of many, as it was given and as it was read, or why it could not be."""


def _since(started: float) -> float:
    """Milliseconds since a reading of `perf_counter`."""
    return (perf_counter() - started) * 1e3
