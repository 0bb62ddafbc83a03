"""One answer while it is being given: tokens in, pieces of text out, and at the end the whole `Answer`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gmrt.runtime.answer import Answer, FinishReason
from gmrt.runtime.confidence import apply_knots
from gmrt.runtime.errors import BundleError
from gmrt.runtime.generate import Token
from gmrt.runtime.image import FloatArray
from gmrt.runtime.places import Place, places_in, restated
from gmrt.runtime.points import format_regions
from gmrt.runtime.prefixes import Prefilled
from gmrt.runtime.scalar import format_value

if TYPE_CHECKING:
    from gmrt.runtime.model import Model, View
    from gmrt.runtime.request import Request


class Reply:
    """The text of one answer. ``ended`` turns True with an end token or a stop string, after which nothing is shown."""

    def __init__(self, model: Model, view: View, request: Request, prefilled: Prefilled) -> None:
        self._model, self._view, self._request, self._prefilled = model, view, request, prefilled
        self._eos = frozenset(model.bundle.manifest.prompt.eos_token_ids)
        self._shown: list[str] = []
        self._count, self._logprob = 0, 0.0
        self.ended = False

    def take(self, token: Token) -> str:
        """Add a token; returns the text that can be shown now, which may be empty."""
        request = self._request
        self._count += 1
        self._logprob += token.logprob
        self.ended = token.id in self._eos
        # A choice is shown in one piece, as it was given, once it is made; a scalar as its number; a place as the
        # locator finds it.
        silent = self.ended or request.choice or (request.scalar is not None and request.scalar.hides(token.id))
        silent = silent or (request.locator is not None and request.locator.hides(token.id))
        piece = "" if silent else request.text.push(token.id)
        if piece:
            self._shown.append(piece)
        self.ended = self.ended or request.text.stopped
        return piece

    def finish(self) -> str:
        """Work out and return the rest of the text, when no more tokens come."""
        request, hidden = self._request, self._prefilled.hidden
        rest = request.text.finish() if request.choice is None else request.choice.chosen or ""
        self._confidence = float(np.exp(self._logprob / self._count))
        self._value, self._unit = None, ""
        self._places: tuple[Place, ...] | None = None
        frame = self._view.frame
        if request.locator is not None and request.locator.kind is not None and hidden is not None:
            found = self._view.find(hidden[0], request.locator.kind, request.max_regions)
            self._places = places_in(frame, found.regions, found.scores)
            rest = format_regions(found.regions if frame.whole else map(frame.on_grid, self._places))
            self._confidence *= found.confidence
        scalar = request.scalar
        if scalar is not None and scalar.counts and hidden is not None:
            found = self._view.count(hidden[0])
            self._places = places_in(frame, found.regions, found.scores)
            self._value, rest = float(len(self._places)), str(len(self._places))
            self._confidence *= found.confidence
        elif scalar is not None and scalar.index is not None and hidden is not None:
            self._value, self._unit = self._measured(hidden, scalar.index)
            rest = format_value(self._value, self._unit)
        if rest:
            self._shown.append(rest)
        return rest

    def answer(self, decode_ms: float) -> Answer:
        """The whole answer, behind `finish`."""
        model, view, request = self._model, self._view, self._request
        held = request.constraint
        complete = self.ended or (held is not None and held.finished)
        reason: FinishReason = "stop" if complete and not (held is not None and held.cut) else "length"
        text, places = restated(view.frame, "".join(self._shown), self._confidence, self._places)
        prompt, reused, prefill_ms = len(request.prompt.ids), self._prefilled.reused, self._prefilled.ms
        return Answer(
            image=view.image,
            prompt=request.question,
            text=text,
            confidence=apply_knots(self._confidence, model.bundle.manifest.confidence),
            finish_reason=reason,
            tokens={"prompt": prompt, "reused": reused, "generated": self._count},
            timings={"load": model.load_ms, **view.timings, "prefill": prefill_ms, "decode": decode_ms},
            model={"id": model.id, "precision": model.precision, "provider": model.provider},
            strangeness=view.strangeness,
            value=self._value,
            unit=self._unit,
            scene=view.scene,
            frame=view.frame,
            found=places,
        )

    def _measured(self, hidden: FloatArray, index: int) -> tuple[float, str]:
        """One of the bundle's measures and its unit, from the last hidden state [1, D] of the prompt."""
        heads = self._model.bundle.manifest.heads
        assert heads is not None  # a guard over scalars comes with a head
        value = float(self._model.measure(hidden)[0, index])
        if not math.isfinite(value):
            raise BundleError(f"{heads.file}: returned a number that is not finite: export at another precision")
        return value, heads.measures[index].unit
