"""What ``gmrt infer`` looks at before it asks: a whole image, a part of one, a pair, a series of pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from gmrt.cli.output import say_notes
from gmrt.cli.where import Where, kept_within

if TYPE_CHECKING:
    from gmrt.runtime.answer import Answer
    from gmrt.runtime.model import Model, View
    from gmrt.runtime.places import Frame, Window
    from gmrt.runtime.reader import SceneReader
    from gmrt.runtime.scene import Scene

CHANGES = "outline the changes"
"""Asked of a pair as well, where places are wanted and the questions name none."""
_SIDE = 4096  # a part of an image is read with at most so many pixels a side, as a whole one is
_CACHE = 256 << 20  # bytes of a file's blocks that GDAL keeps; without a limit it takes a twentieth of the machine


def import_ahead() -> None:
    """Begin to import what reads images: loading a bundle leaves the interpreter free for much of its time."""
    # numpy's OpenBLAS makes its threads when it is imported, 50 ms of a start; no large matrices are multiplied here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    def work() -> None:
        with suppress(ImportError):  # said where it is needed
            import_module("gmrt.runtime.reader")

    Thread(target=work, name="gmrt-import", daemon=True).start()


@contextmanager
def opened(image: Path, drawing: Mapping[str, Any]) -> Iterator[tuple[SceneReader, Frame]]:
    """An image to be read window by window, and the frame of all of it."""
    import rasterio

    from gmrt.runtime.places import Frame
    from gmrt.runtime.scene import open_scene

    with rasterio.Env(GDAL_CACHEMAX=_CACHE), open_scene(image, **drawing) as reader:
        yield reader, Frame(reader.size, (0, 0, *reader.size), reader.placement, reader.gsd, reader.path)


def look(model: Model, images: Sequence[Path], drawing: Mapping[str, Any], where: Where) -> tuple[View, Sequence[Any]]:
    """Look at an image, at a pair, or at a part of either; and the outlines that places must lie in, if any."""
    if not where:
        if len(images) == 1:
            return model.look(images[0], **drawing), ()
        return model.compare(*_read(images, drawing)), ()
    with opened(images[0], drawing) as (reader, frame):
        window, outlines = where.find(frame, model.bundle.manifest.image.width)
        scenes = [_part(reader, window)]
    for image in images[1:]:
        from gmrt.runtime.pairing import counterpart

        with opened(image, drawing) as (reader, other):
            scenes.append(_part(reader, counterpart(frame, window, other)))
    view = model.look(scenes[0]) if len(scenes) == 1 else model.compare(scenes[0], scenes[1])
    return view, outlines


def ask_series(
    model: Model,
    images: Sequence[Path],
    prompts: Sequence[str],
    decoding: dict[str, Any],
    *,
    drawing: Mapping[str, Any],
    where: Where,
    places: bool,
) -> tuple[list[Answer], Scene]:
    """Ask about each two images that follow each other; the answers in order, and the last scene that was seen.

    With ``places`` wanted, the changes are outlined where no question names any.
    """
    answers: list[Answer] = []
    for pair in pairwise(images):
        view, outlines = look(model, pair, drawing, where)
        say_notes(view.notes)
        given = kept_within([view.ask(prompt, **decoding) for prompt in prompts], outlines)
        if places and not any(answer.is_location for answer in given):
            say_notes([f'asked as well, for the places: "{CHANGES}"'])
            given += kept_within([view.ask(CHANGES)], outlines)
        answers += given
        scene = view.scenes[-1]
    return answers, scene


def _read(images: Sequence[Path], drawing: Mapping[str, Any]) -> tuple[Scene, Scene]:
    from gmrt.runtime.scene import read_scene

    before, after = (read_scene(image, **drawing) for image in images)
    return before, after


def _part(reader: SceneReader, window: Window) -> Scene:
    factor = min(1.0, _SIDE / max(window[2:]))
    return reader.read(window, (max(1, round(window[3] * factor)), max(1, round(window[2] * factor))))
