"""What comes back from a question: the answer, and the events of an answer that is still being given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gmrt.runtime.errors import PointsError
from gmrt.runtime.files import write_whole
from gmrt.runtime.places import Frame, Place, places_in
from gmrt.runtime.points import NONE, Region, has_regions, parse_regions

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Answer:
    """One answer about one image, or about a pair; ``str(answer)`` is its text.

    ``image`` is the path, the paths of a pair in order, or None for pixels without a file. ``confidence`` in 0…1 is exp
    of the mean natural-log probability of the generated tokens under the model alone (temperature 1, without
    constraint, among the words that the bundle's head can give), put right by the bundle's table where it has one
    (`gmrt.runtime.confidence`). ``finish_reason`` is ``stop`` when the model ended, a stop string came or a constraint
    was met, ``length`` when ``max_tokens`` cut the answer off. ``tokens`` counts ``prompt`` (images included),
    ``reused`` (how many of these came from the cache) and ``generated`` (an end token included). ``timings`` in
    milliseconds: ``load`` of the bundle, ``read`` and ``vision`` of the images (spent once per view), ``prefill`` and
    ``decode`` of this answer. ``model`` holds ``id``, ``precision`` and ``provider``.
    ``strangeness`` is how unlike the calibration images the image is, above 1 for `unfamiliar` ones; None where the
    bundle cannot tell. ``value`` is the number of a scalar answer in its ``unit``, from the regression head, and None
    for an answer in words; there ``confidence`` is that of having understood what is measured. ``scene`` says what was
    drawn of the image (`gmrt.runtime.scene.Scene.summary`), of a pair one after the other.
    ``frame`` is what was asked about, in the file's pixels and on Earth, and None for pixels without a file's size.
    ``found`` are the places behind the answer with the score of each, where a locator gave them or tiles were put
    together; `places` are these, or those that the text spells. ``tiles`` accounts for a scene that was walked tile by
    tile (`gmrt.runtime.walk`).
    """

    image: str | tuple[str, ...] | None
    prompt: str
    text: str
    confidence: float
    finish_reason: FinishReason
    tokens: Mapping[str, int]
    timings: Mapping[str, float]
    model: Mapping[str, str]
    strangeness: float | None = None
    value: float | None = None
    unit: str = ""
    scene: Mapping[str, Any] | tuple[Mapping[str, Any], ...] | None = None
    frame: Frame | None = None
    found: tuple[Place, ...] | None = None
    tiles: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def unfamiliar(self) -> bool:
        """Whether the image is unlike anything that the model was calibrated on, so that the answer means little."""
        return self.strangeness is not None and self.strangeness > 1

    @property
    def is_location(self) -> bool:
        """Whether the text is a location: regions, or none."""
        return has_regions(self.text) or self.text.strip() == NONE

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """What the answer names or counted, in pixels of the file and with scores; raises `PointsError` as `points`.

        Unlike ``points`` these are not rounded to the grid of a scene that is larger than what the model saw at once.
        """
        if self.found is not None:
            return self.found
        if self.frame is None:
            return ()
        return places_in(self.frame, self.points, [self.confidence] * len(self.points))

    def to_geojson(self, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """The answer as a FeatureCollection of RFC 7946, also written to ``path`` where one is given.

        See `gmrt.runtime.features.features` for what it holds, with and without a georeference.
        """
        from gmrt.runtime.features import collection, to_text

        if path is not None:
            write_whole(Path(path), to_text([self]))
        return collection([self])

    @cached_property
    def points(self) -> tuple[Region, ...]:
        """The regions that the text names, on the 1000 × 1000 grid; empty when it is not a location.

        Raises `PointsError` for text that begins as a location and is not a whole one: half a place is not an answer.
        """
        if not has_regions(self.text):
            return ()
        try:
            return parse_regions(self.text)
        except PointsError as error:
            cut = "it was cut off, so raise max_tokens" if self.finish_reason == "length" else "ask in other words"
            raise PointsError(f"the answer begins as a location and is not a whole one ({error}): {cut}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``gmrt infer --format json`` prints; raises `PointsError` as `points` does."""
        return {
            "image": list(self.image) if isinstance(self.image, tuple) else self.image,
            "prompt": self.prompt,
            "text": self.text,
            "points": [{"kind": region.kind, "points": [list(p) for p in region.points]} for region in self.points],
            "places": [place.to_dict() for place in self.places],
            "value": self.value,
            "unit": None if self.value is None else self.unit,
            "confidence": self.confidence,
            "finish_reason": self.finish_reason,
            "tokens": dict(self.tokens),
            "timings_ms": dict(self.timings),
            "model": dict(self.model),
            "unfamiliar": self.unfamiliar,
            "strangeness": self.strangeness,
            "scene": list(self.scene) if isinstance(self.scene, tuple) else self.scene,
            **({} if self.tiles is None else {"tiles": dict(self.tiles)}),
        }


@dataclass(frozen=True)
class TextEvent:
    """A piece of the answer's text, final; ``token`` is the id of the last token in it."""

    text: str
    token: int


@dataclass(frozen=True)
class Finished:
    """The last event of a stream, with the whole answer."""

    answer: Answer


Event = TextEvent | Finished
