"""A folder of images, answered one by one as JSON lines; a run that was cut off goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gmrt.cli.output import json_line, say_notes, write_atomically
from gmrt.runtime.errors import GmrtError, PointsError, SceneError, SceneNotFoundError

if TYPE_CHECKING:
    from gmrt.runtime.model import Model

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


def holds_images(path: Path) -> bool:
    """Whether a path is a folder of images, each asked about by itself; one that is a product is one image."""
    from gmrt.runtime.products import find_product

    return path.is_dir() and find_product(str(path)) is None


def answer_folder(
    model: Model,
    folder: Path,
    prompts: Sequence[str],
    *,
    output: Path | None,
    drawing: Mapping[str, Any],
    decoding: Mapping[str, Any],
) -> None:
    """Ask ``prompts`` about every image of ``folder``, sorted by name, one JSON line for each answer.

    With ``output`` the lines are appended to that file, and what it already answers is not asked again. What fails on
    an image gets a line with an ``error``, is tried again by the next run, and makes the exit status 1. A folder in it
    that is a product is one image. ``drawing`` are ``bands`` and ``composite`` of `Model.look`.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES or _is_product(path))
    if not images:
        raise SceneNotFoundError(f"{folder}: no image in this folder; expected names ending in {', '.join(SUFFIXES)}")
    done = set() if output is None else resume(output, model)
    failed = False
    with ExitStack() as stack:
        write: Callable[[str], object] = partial(typer.echo, nl=False)
        if output is not None:
            write = stack.enter_context(output.open("a", encoding="utf-8", buffering=1)).write
        waiting = [image for image in images if any((str(image), prompt) not in done for prompt in prompts)]
        for record in _records(model, waiting, prompts, drawing, decoding):
            if (record["image"], record["prompt"]) not in done:
                failed |= "error" in record
                write(json_line(record))
    if failed:
        raise typer.Exit(1)


def _is_product(path: Path) -> bool:
    try:
        return path.is_dir() and not holds_images(path)
    except SceneError:  # one that cannot be used: its turn comes, and with it the sentence
        return True


def _records(
    model: Model,
    images: Sequence[Path],
    prompts: Sequence[str],
    drawing: Mapping[str, Any],
    decoding: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yield a record for each image and prompt; one with an ``error`` where this image or this answer is at fault."""
    with closing(model.ask_each(images, prompts, **drawing, **decoding)) as outcomes:
        for image, outcome in zip(images, outcomes, strict=True):
            if outcome.view is None:
                for prompt in prompts:
                    yield _failure(image, prompt, outcome.error)
                continue
            say_notes(f"{image}: {note}" for note in outcome.view.notes)
            for prompt, answer in zip(prompts, outcome.answers, strict=True):
                try:
                    yield answer.to_dict()
                except PointsError as error:
                    yield _failure(image, prompt, error)


def _failure(image: Path, prompt: str, error: GmrtError | None) -> dict[str, Any]:
    typer.echo(f"gmrt: {image}: {error}", err=True)
    return {"image": str(image), "prompt": prompt, "error": str(error)}


def resume(output: Path, model: Model) -> set[tuple[str, str]]:
    """Return the (image, prompt) pairs that ``output`` answers, after dropping failures and a torn last line.

    Refuses a file that holds something else than answers of this model, rather than append to it or overwrite it.
    """
    if not output.exists():
        return set()
    *lines, torn = output.read_text(encoding="utf-8").split("\n")  # nothing, or what a run that was cut off left
    kept: list[str] = []
    done: set[tuple[str, str]] = set()
    for line in lines:
        try:
            record = json.loads(line)
            key = record["image"], record["prompt"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise typer.BadParameter(f"{output} holds something else than answers: name another file") from None
        if "error" in record:
            continue
        if record.get("model", {}).get("id") != model.id:
            raise typer.BadParameter(f"{output} holds answers of another model: name another file")
        kept.append(line)
        done.add(key)
    if torn or len(kept) < len(lines):
        write_atomically(output, "".join(f"{line}\n" for line in kept))
    return done
