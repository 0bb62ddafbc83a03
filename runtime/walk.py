"""A scene of any size, tile by tile: ask each window, account for all of them, and put the answers together.

Memory stays bounded: one tile's pixels and the places found so far. Every tile ends as done, empty (no valid pixel) or
failed (it cannot be read, or its answer is no whole location). A tile with the pixels of an earlier one, such as the
next stretch of open water in a mosaic, is not asked again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gmrt.runtime.answer import Answer
from gmrt.runtime.errors import NoDataError, PointsError, SceneReadError
from gmrt.runtime.places import Frame, Place, Window
from gmrt.runtime.points import format_regions
from gmrt.runtime.scene import Scene, scene_hash
from gmrt.runtime.tiling import merge, plan

if TYPE_CHECKING:
    from gmrt.runtime.model import Model
    from gmrt.runtime.reader import SceneReader

OVERVIEW_SIDE = 1024
"""Pixels on the longer side of the reduced scene that the overview answer is about."""
_REMEMBERED = 512  # answers of tiles that are kept for others with the same pixels

State = Literal["done", "empty", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How one tile ended: its ``answers``, one a prompt, when done; the ``error`` when failed.

    ``repeated`` says that its pixels were those of an earlier tile.
    """

    tile: Window
    state: State
    answers: tuple[Answer, ...] = ()
    error: str | None = None
    repeated: bool = False


@dataclass(frozen=True)
class Walk:
    """What a walk will do: ``prompts`` over the ``tiles`` of a ``frame``, with ``overviews`` where the scene has them.

    The frame's window is what is walked; an overview is the answer about all of it at once, reduced. ``model`` is what
    answers say of their model.
    """

    frame: Frame
    model: Mapping[str, str]
    size: int
    overlap: int
    tiles: tuple[Window, ...]
    prompts: tuple[str, ...]
    decoding: Mapping[str, Any]
    overviews: tuple[Answer, ...]


def prepare_walk(
    model: Model,
    reader: SceneReader,
    prompts: Sequence[str],
    decoding: Mapping[str, Any],
    *,
    size: int | None = None,
    window: Window | None = None,
) -> tuple[Walk, tuple[str, ...]]:
    """Plan a walk over a scene, or a window of it, in tiles of ``size`` pixels, the model's input by default.

    The overview decides how: where an answer is places or a count, tiles overlap by half, so that whatever is no larger
    lies whole in one of them; where all are words, they do not overlap. The second value is a sentence for each thing
    to be known. Raises `NoDataError` for a window without any valid pixel.
    """
    window = window or (0, 0, *reader.size)
    side = size or model.bundle.manifest.image.width
    reduced = min(1.0, OVERVIEW_SIDE / max(window[2:]))
    shape = max(1, round(window[3] * reduced)), max(1, round(window[2] * reduced))
    overviews: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()
    try:
        overviews = ask(model, reader.read(window, shape), prompts, decoding)
    except SceneReadError as error:
        notes = (f"there is no answer about the whole scene, because a part of it cannot be read ({error})",)
    words = bool(overviews) and not any(map(_names_places, overviews))
    overlap = 0 if words else side // 2
    tiles = tuple(plan(window, side, overlap))
    frame = Frame(reader.size, window, reader.placement, reader.gsd, reader.path)
    named = {"id": model.id, "precision": model.precision, "provider": model.provider}
    return Walk(frame, named, side, overlap, tiles, tuple(prompts), decoding, overviews), notes


def ask(model: Model, scene: Scene, prompts: Sequence[str], decoding: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The answers about one tile; the one place where tiles meet the model."""
    view = model.look(scene)
    answers = tuple(view.ask(prompt, **decoding) for prompt in prompts)
    for answer in answers:
        _ = answer.places  # half a location is found out here, where it costs one tile
    return answers


def walk(model: Model, reader: SceneReader, planned: Walk, tiles: Iterable[Window]) -> Iterator[Outcome]:
    """Ask the prompts on each of ``tiles``, in their order; see the module's text for how a tile ends."""
    known: OrderedDict[str, tuple[Window, tuple[Answer, ...]]] = OrderedDict()
    for tile in tiles:
        try:
            scene = reader.read(tile)
            key = scene_hash(scene)
            repeated = key in known
            if repeated:
                at, answers = known[key]
                answers = tuple(_moved(answer, at, tile) for answer in answers)
            else:
                answers = ask(model, scene, planned.prompts, planned.decoding)
        except NoDataError:
            yield Outcome(tile, "empty")
            continue
        except (SceneReadError, PointsError) as error:
            yield Outcome(tile, "failed", error=str(error))
            continue
        known[key] = tile, answers
        known.move_to_end(key)
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        yield Outcome(tile, "done", answers, repeated=repeated)


def combine(planned: Walk, outcomes: Sequence[Outcome]) -> tuple[Answer, ...]:
    """One answer a prompt from those of all tiles; none when no tile has one and there is no overview.

    Places are merged across seams (`gmrt.runtime.tiling.merge`) and a count is how many are left; words are those of
    the overview, with those of each tile in a table. ``tiles`` of each answer accounts for the walk.
    """
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    account = {
        "size": planned.size,
        "overlap": planned.overlap,
        "planned": len(planned.tiles),
        "done": len(done),
        "empty": sum(outcome.state == "empty" for outcome in outcomes),
        "failed": [
            {"tile": list(outcome.tile), "error": outcome.error} for outcome in outcomes if outcome.state == "failed"
        ],
        "repeated": sum(outcome.repeated for outcome in done),
    }
    answers = []
    for number in range(len(planned.prompts)):
        overview = planned.overviews[number] if planned.overviews else None
        parts = [(outcome.tile, outcome.answers[number]) for outcome in done]
        if not parts and overview is None:
            continue
        first = overview or replace(parts[0][1], scene=None)
        located = [_names_places(answer) for _, answer in parts]
        if sum(located) * 2 > len(parts) or (overview is not None and not parts and _names_places(overview)):
            answers.append(_of_places(planned, first, parts, account))
        else:
            answers.append(_of_words(planned, first, parts, account))
    return tuple(answers)


def to_record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a line of a journal; what `from_record` reads."""
    return {
        "tile": list(outcome.tile),
        "state": outcome.state,
        "error": outcome.error,
        "repeated": outcome.repeated,
        "answers": [_answer_record(answer) for answer in outcome.answers],
    }


def from_record(record: Mapping[str, Any], planned: Walk) -> Outcome:
    """An outcome from a line of a journal of the same walk.

    Raises KeyError, TypeError or ValueError for a record of something else.
    """
    tile: Window = tuple(int(value) for value in record["tile"])  # type: ignore[assignment]
    if len(tile) != 4 or record["state"] not in ("done", "empty", "failed"):
        raise ValueError(f"not a tile: {record}")
    frame = replace(planned.frame, window=tile)
    within = None if frame.whole else tile
    prompts = planned.prompts if record["state"] == "done" else ()
    answers = tuple(
        Answer(image=frame.source, prompt=prompt, model=planned.model, frame=frame, **_answer_fields(held, within))
        for prompt, held in zip(prompts, record["answers"], strict=True)
    )
    return Outcome(tile, record["state"], answers, record["error"], bool(record["repeated"]))


def _names_places(answer: Answer) -> bool:
    """Whether an answer is places, or a count of them."""
    return answer.is_location or answer.found is not None


def _moved(answer: Answer, at: Window, to: Window) -> Answer:
    """The answer of one tile as that of another with the same pixels, which took no time."""
    x, y = to[0] - at[0], to[1] - at[1]
    assert answer.frame is not None  # a tile is a window of a file
    frame = replace(answer.frame, window=to)
    places = tuple(
        replace(place, corners=tuple((a + x, b + y) for a, b in place.corners), tile=to) for place in answer.places
    )
    text = format_regions(map(frame.on_grid, places)) if answer.is_location else answer.text
    found = places if _names_places(answer) else None
    idle = {name: 0.0 if name != "load" else value for name, value in answer.timings.items()}
    nothing = dict.fromkeys(answer.tokens, 0)
    return replace(answer, frame=frame, text=text, found=found, timings=idle, tokens=nothing)


def _of_places(
    planned: Walk, first: Answer, parts: Sequence[tuple[Window, Answer]], account: Mapping[str, Any]
) -> Answer:
    merged = merge([(tile, answer.places) for tile, answer in parts], planned.frame.window)
    # A scene without one place is no less sure for being large: the mean is over tiles then, and over places otherwise.
    sure = [place.confidence for place in merged.places] or [answer.confidence for _, answer in parts]
    counts = any(answer.value is not None for _, answer in parts)
    text = str(len(merged.places)) if counts else format_regions(map(planned.frame.on_grid, merged.places))
    return replace(
        first,
        text=text,
        value=float(len(merged.places)) if counts else None,
        unit="",
        confidence=float(np.mean(sure)) if sure else first.confidence,
        frame=planned.frame,
        found=merged.places,
        tiles={**account, "merged": merged.dropped},
        **_sums(first, parts),
    )


def _of_words(
    planned: Walk, first: Answer, parts: Sequence[tuple[Window, Answer]], account: Mapping[str, Any]
) -> Answer:
    table = [
        {"tile": list(tile), "text": answer.text, "value": answer.value, "confidence": round(answer.confidence, 4)}
        for tile, answer in parts
    ]
    overview = first if planned.overviews else replace(first, text="", value=None, unit="", confidence=0.0)
    tiles = {**account, "table": table}
    return replace(overview, frame=planned.frame, tiles=tiles, **_sums(first, parts))


def _sums(first: Answer, parts: Sequence[tuple[Window, Answer]]) -> dict[str, Any]:
    """Tokens and times of all tiles together, and whether any answer was cut off or any tile strange."""
    answers = [answer for _, answer in parts] or [first]
    tokens = {name: sum(answer.tokens[name] for answer in answers) for name in first.tokens}
    timings = {
        name: max(answer.timings[name] for answer in answers)
        if name == "load"
        else sum(answer.timings[name] for answer in answers)
        for name in first.timings
    }
    strange = [answer.strangeness for answer in answers if answer.strangeness is not None]
    cut = any(answer.finish_reason == "length" for answer in answers)
    return {
        "tokens": tokens,
        "timings": timings,
        "finish_reason": "length" if cut else "stop",
        "strangeness": float(np.median(strange)) if strange else None,
    }


_PLAIN = ("text", "confidence", "finish_reason", "tokens", "timings", "value", "unit", "strangeness")


def _answer_record(answer: Answer) -> dict[str, Any]:
    found = None if answer.found is None else [[place.kind, place.corners, place.confidence] for place in answer.found]
    return {name: getattr(answer, name) for name in _PLAIN} | {"found": found}


def _answer_fields(held: Mapping[str, Any], tile: Window | None) -> dict[str, Any]:
    found = held["found"]
    places = None
    if found is not None:
        places = tuple(Place(kind, tuple((x, y) for x, y in corners), score, tile) for kind, corners, score in found)
    return {name: held[name] for name in _PLAIN} | {"found": places}
