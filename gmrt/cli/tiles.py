"""``gmrt infer --tiles``: a large scene window by window, with a journal beside the output to go on from."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from gmrt.cli.output import say_notes, write_atomically
from gmrt.cli.progress import progress_bar

if TYPE_CHECKING:
    from gmrt.runtime.answer import Answer
    from gmrt.runtime.model import Model
    from gmrt.runtime.places import Window
    from gmrt.runtime.reader import SceneReader
    from gmrt.runtime.scene import Scene
    from gmrt.runtime.walk import Outcome, Walk

_PICTURE = 2048  # pixels on the longer side of the picture that places are drawn on
_SAY_EVERY = 30  # seconds between two lines of progress where there is no terminal to draw a bar on


def answer_tiles(
    model: Model,
    reader: SceneReader,
    prompts: Sequence[str],
    decoding: Mapping[str, Any],
    *,
    size: int | None,
    window: Window | None,
    output: Path | None,
) -> tuple[tuple[Answer, ...], int]:
    """Walk a scene and return one answer a prompt, and how many tiles failed; those are listed on stderr.

    With ``output`` every tile is written down in a journal beside it, and a run that was cut off goes on from there;
    the result is the same. `finish` removes the journal once the result is written. Tiles that failed are tried again.
    """
    from gmrt.runtime import walk

    planned, notes = walk.prepare_walk(model, reader, prompts, decoding, size=size, window=window)
    say_notes(notes)
    held: dict[Window, Outcome] = {}
    with _journal(output, model, reader, planned) as (journal, records):
        for record in records:
            outcome = _restored(record, planned, output)
            held[outcome.tile] = outcome
        if held:
            say_notes(
                [f"{len(held)} of {len(planned.tiles)} tiles are in {journal_of(output)} and are not asked again"]
            )
        left = [tile for tile in planned.tiles if tile not in held]
        with _said("tiles", len(planned.tiles), len(held)) as step:
            for outcome in walk.walk(model, reader, planned, left):
                held[outcome.tile] = outcome
                if journal is not None and outcome.state != "failed":
                    journal.write(json.dumps(walk.to_record(outcome)) + "\n")
                step()
    outcomes = [held[tile] for tile in planned.tiles]
    for outcome in outcomes:
        if outcome.state == "failed":
            typer.echo(f"gmrt: tile {','.join(map(str, outcome.tile))} failed: {outcome.error}", err=True)
    answers = walk.combine(planned, outcomes)
    for answer in answers[:1]:
        _account(answer.tiles or {})
    for answer in answers:
        merged = (answer.tiles or {}).get("merged")
        if merged is not None:
            say_notes([f"{answer.prompt}: {len(answer.places)} places; {merged} more were the same across a seam"])
    return answers, sum(outcome.state == "failed" for outcome in outcomes)


def overview(reader: SceneReader, window: Window) -> Scene:
    """The window that was walked, reduced to a picture to draw on."""
    factor = min(1.0, _PICTURE / max(window[2:]))
    return reader.read(window, (max(1, round(window[3] * factor)), max(1, round(window[2] * factor))))


def journal_of(output: Path | None) -> Path | None:
    """Where the tiles of a result are written down until it is complete."""
    return None if output is None else output.with_name(f"{output.name}.tiles.jsonl")


def finish(output: Path | None) -> None:
    """Remove the journal of a result that is written and whole."""
    journal = journal_of(output)
    if journal is not None:
        journal.unlink(missing_ok=True)


def _account(tiles: Mapping[str, Any]) -> None:
    failed = len(tiles["failed"])
    repeated = f" ({tiles['repeated']} with the pixels of an earlier one)" if tiles["repeated"] else ""
    done = f"{tiles['done']} done{repeated}, {tiles['empty']} empty, {failed} failed"
    say_notes([f"{tiles['planned']} tiles of {tiles['size']} pixels: {done}"])


@contextmanager
def _journal(
    output: Path | None, model: Model, reader: SceneReader, planned: Walk
) -> Iterator[tuple[IO[str] | None, list[dict[str, Any]]]]:
    """The journal, open for appending, and what it holds already; refuses one of another run."""
    path = journal_of(output)
    if path is None:
        yield None, []
        return
    head = _head(model, reader, planned)
    records: list[dict[str, Any]] = []
    if path.exists():
        records = _read(path, head)
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in (head, *records)))  # without a torn last line
    with path.open("a", encoding="utf-8", buffering=1) as journal:
        yield journal, records


def _head(model: Model, reader: SceneReader, planned: Walk) -> dict[str, Any]:
    """What must be the same for tiles to belong to one run."""
    path = None if reader.path is None else Path(reader.path)
    stat = path.stat() if path is not None and path.is_file() else None
    return {
        "scene": reader.path,
        "bytes": None if stat is None else stat.st_size,
        "modified": None if stat is None else stat.st_mtime_ns,
        "drawn": [*reader.bands, reader.composite],
        "model": model.id,
        "provider": model.provider,
        "prompts": list(planned.prompts),
        "decoding": json.loads(json.dumps(dict(planned.decoding))),
        "window": list(planned.frame.window),
        "size": planned.size,
        "overlap": planned.overlap,
    }


def _read(path: Path, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # behind the last break: nothing, or a torn line
    try:
        first, *records = (json.loads(line) for line in lines)
    except ValueError:
        raise typer.BadParameter(f"{path} is not a journal of tiles: remove it or name another output") from None
    if first != head:
        other = ", ".join(name for name in head if not isinstance(first, dict) or first.get(name) != head[name])
        raise typer.BadParameter(
            f"{path} is the journal of another run (other: {other}): remove it to begin anew, or name another output"
        )
    return records


def _restored(record: Mapping[str, Any], planned: Walk, output: Path | None) -> Outcome:
    from gmrt.runtime.walk import from_record

    try:
        return from_record(record, planned)
    except (KeyError, TypeError, ValueError):
        where = journal_of(output)
        raise typer.BadParameter(f"{where} holds a line that is no tile: remove it to begin anew") from None


@contextmanager
def _said(what: str, total: int, done: int) -> Iterator[Any]:
    """Yield a callable for each step: a bar on a terminal, elsewhere a line now and then."""
    began = said = time.monotonic()
    first = done

    with progress_bar(what) as bar:

        def step() -> None:
            nonlocal done, said
            done += 1
            bar(done, total)
            now = time.monotonic()
            if not sys.stderr.isatty() and now - said >= _SAY_EVERY:
                said = now
                left = (now - began) / (done - first) * (total - done)
                typer.echo(f"gmrt: {what}: {done} of {total}, about {left / 60:.0f} min left", err=True)

        yield step
