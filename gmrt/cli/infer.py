"""``gmrt infer``: ask about an image, a pair of images, or every image of a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmrt.cli.folder import answer_folder, holds_images
from gmrt.cli.options import (
    BundleOption,
    CompositeOption,
    FormatOption,
    OutputOption,
    OverlayOption,
    Points,
    ProviderOption,
    SeedOption,
)
from gmrt.cli.output import json_line, say_notes, write_atomically
from gmrt.runtime.errors import PromptError, SceneError

if TYPE_CHECKING:
    from gmrt.runtime.model import Answer, Model, View


def infer(
    words: Annotated[
        list[str], typer.Argument(metavar="IMAGE... PROMPT", help="An image, a pair or a folder; then what to ask.")
    ],
    ask: Annotated[list[str] | None, typer.Option(metavar="PROMPT", help="Ask this too, about the same image.")] = None,
    bundle: BundleOption = None,
    output_format: FormatOption = "text",
    output: OutputOption = None,
    overlay: OverlayOption = None,
    bands: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B", help="What to see as red, green and blue: names, numbers, or red=4,green=3,blue=2,nir=8."
        ),
    ] = None,
    composite: CompositeOption = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="End an answer after this many tokens, 256 if there is room.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the likeliest token; above it, tokens are sampled.")
    ] = 0.0,
    seed: SeedOption = 0,
    choices: Annotated[str | None, typer.Option(metavar="A,B,C", help="Answer with one of these.")] = None,
    yes_no: Annotated[bool, typer.Option("--yes-no", help="Answer with yes or no.")] = False,
    number: Annotated[bool, typer.Option("--number", help="Answer with a whole number from 0 to 999.")] = False,
    points: Annotated[Points | None, typer.Option(help="Answer with places, of any kind or of this one.")] = None,
    max_regions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --points: at most this many places.")
    ] = None,
    provider: ProviderOption = "cpu",
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse a bundle that would need more, for example 2GiB.")
    ] = None,
) -> None:
    """Ask about an image. Two images are a pair; a folder is answered image by image, as JSON lines."""
    images, prompt = split(words)
    prompts = (prompt, *(ask or ()))
    if overlay is not None:
        _check_overlay(overlay, images)
    decoding: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "choices": comma_separated(choices),
        "yes_no": yes_no,
        "number": number,
        "points": True if points == "any" else points or False,
        "max_regions": max_regions,
    }
    from gmrt.runtime.model import load

    model = load(bundle, provider=provider, max_memory=max_memory)
    say_notes(model.notes)
    drawing = {"bands": bands, "composite": composite}
    if holds_images(images[0]):
        answer_folder(model, images[0], prompts, output=output, drawing=drawing, decoding=decoding)
        return
    view = model.look(images[0], **drawing) if len(images) == 1 else _pair(model, images, drawing)
    say_notes(view.notes)
    if output is None and output_format == "text" and sys.stdout.isatty():
        streamed = [_stream(view, question, decoding) for question in prompts]
        if overlay is not None:
            _draw(view, streamed, overlay)
        return
    answers = [view.ask(question, **decoding) for question in prompts]
    if output_format == "json":
        text = "".join(json_line(answer.to_dict()) for answer in answers)
    else:
        text = "".join(f"{answer}\n" for answer in answers)
        for answer in answers:
            _say_when_cut(answer)
    if overlay is not None:
        _draw(view, answers, overlay)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text)


def split(words: Sequence[str]) -> tuple[list[Path], str]:
    """Part the positional arguments into images and the prompt, the last one; refuse when either is missing."""
    *images, prompt = words
    # An empty prompt names the current directory to pathlib; it gets its own sentence where prompts are checked.
    if prompt.strip() and Path(prompt).exists():
        raise PromptError(f'no prompt given: {prompt} is a file; add what to ask behind it, for example "describe"')
    if not images:
        raise SceneError(f'no image given: put the path of an image before "{prompt}"')
    paths = [Path(image) for image in images]
    if len(paths) > 1 and any(holds_images(path) for path in paths):
        raise SceneError("a folder is answered image by image: give it alone, or give the images of a pair by name")
    if len(paths) > 2:
        raise SceneError(f"{len(paths)} images given: ask about one, about two as a pair, or about a folder")
    return paths, prompt


def comma_separated(text: str | None) -> tuple[str, ...] | None:
    """The parts of ``a, b, c`` without the blanks around them; None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _pair(model: Model, images: Sequence[Path], drawing: Mapping[str, Any]) -> View:
    before, after = images
    if not any(drawing.values()):
        return model.compare(before, after)
    from gmrt.runtime.scene import read_scene

    return model.compare(read_scene(before, **drawing), read_scene(after, **drawing))


def _check_overlay(overlay: Path, images: Sequence[Path]) -> None:
    if holds_images(images[0]):
        raise SceneError("--overlay draws over one image: give one of the folder's images by name")
    if any(overlay.exists() and image.exists() and overlay.samefile(image) for image in images):
        raise SceneError(f"--overlay {overlay} is the image that is asked about: name another file")


def _draw(view: View, answers: Iterable[Answer], overlay: Path) -> None:
    """Draw the places of the answers over the image, of a pair over the second; say on stderr which colour is whose."""
    from gmrt.runtime.overlay import annotate, colour_name
    from gmrt.runtime.raster import encode_png

    placed = [answer for answer in answers if answer.points]
    picture = annotate(view.scenes[-1].rgb, [answer.points for answer in placed])
    write_atomically(overlay, encode_png(picture))
    for group, answer in enumerate(placed):
        typer.echo(f"gmrt: {overlay}: {colour_name(group)}: {answer.prompt} ({len(answer.points)})", err=True)
    if not placed:
        say_notes([f"no answer names a place, so nothing is drawn in {overlay}"])


def _stream(view: View, prompt: str, decoding: dict[str, Any]) -> Answer:
    """Print an answer on a terminal as it grows."""
    from gmrt.runtime.model import TextEvent

    for event in view.stream(prompt, **decoding):
        if isinstance(event, TextEvent):
            typer.echo(event.text, nl=False)
        else:
            answer = event.answer
    typer.echo()
    _say_when_cut(answer)
    return answer


def _say_when_cut(answer: Answer) -> None:
    if answer.finish_reason == "length":
        say_notes(["the answer was cut off at --max-tokens"])
