"""An image, or a pair, that a model has seen, and the ways to ask about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gmrt.runtime.answer import Answer, Event, Finished
from gmrt.runtime.backends import Encoded
from gmrt.runtime.familiar import WARNING
from gmrt.runtime.image import FloatArray
from gmrt.runtime.locator import Locator, Maps
from gmrt.runtime.peaks import Located
from gmrt.runtime.places import Frame, frame_of
from gmrt.runtime.points import Kind
from gmrt.runtime.request import Decoding, Options
from gmrt.runtime.scene import Scene

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from gmrt.runtime.model import Model


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
        strangeness: float | None,
        hashes: tuple[str, ...],
    ) -> None:
        self.model = model
        self.scenes = scenes
        self.encoded = encoded
        self.timings = timings
        self.strangeness = strangeness
        self.hashes = hashes

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
        schema: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask, and wait for the whole answer; the last event of `stream`, which see."""
        options = Options(
            max_tokens, temperature, top_k, top_p, seed, stop, choices, yes_no, number, points, max_regions, schema
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
        schema: Mapping[str, Any] | None = None,
    ) -> Iterator[Event]:
        """Ask, and get the answer piece by piece: `TextEvent` after `TextEvent`, then one `Finished`.

        ``max_tokens`` cuts the answer off; without it that is `gmrt.runtime.request.MAX_TOKENS`, or less where the
        model has no room for them. A ``temperature`` of 0 takes the likeliest token; above it tokens are drawn
        with ``top_k``, ``top_p`` and ``seed`` as in `gmrt.runtime.sampling`. The answer ends before the first of the
        strings in ``stop``. ``choices`` holds it to one of these texts, ``yes_no`` to "yes" or "no", ``number`` to a
        whole number from 0 to 999, ``points`` to a set of regions (or of one kind: "point", "box", "obb", "poly"), at
        most ``max_regions`` of them. An answer that opens with a region without being asked to is a whole location
        too: regions for which there is no room are left out, and ``finish_reason`` is ``length``. A JSON ``schema``
        makes the text compact JSON that conforms to it (docs/structured-answers.md), or raises `TruncatedError`.

        Raises at once `PromptError` for a prompt that is empty or too long, `ConstraintError` for options that cannot
        be met together, `CacheFullError` when prompt and ``max_tokens`` exceed what the model holds; and `BusyError`
        at the first event.
        """
        options = Options(
            max_tokens, temperature, top_k, top_p, seed, stop, choices, yes_no, number, points, max_regions, schema
        )
        return self._run(prompt, options)

    def ask_many(self, prompts: Sequence[str], **options: Unpack[Decoding]) -> list[Answer]:
        """Ask many things about this image at once: an answer to each prompt, in order.

        They are decoded together, which takes less time than one after the other, and equal the answers of `ask` as
        `gmrt.runtime.batch` says. ``options`` are those of `stream`, for all prompts; raises as it does, and
        `BusyError`.
        """
        return self.model.ask_many(self, prompts, Options(**options))

    def _run(self, prompt: str, options: Options) -> Iterator[Event]:
        return self.model.run(self, self.model.request(prompt, options, len(self.scenes)))
