"""``gmrt infer``: ask about an image, a pair of images, or every image of a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gmrt.cli.asking import ask_series, import_ahead, look, opened
from gmrt.cli.folder import answer_folder, holds_images
from gmrt.cli.options import (
    BundleOption,
    CompositeOption,
    MaskOption,
    OutputOption,
    OverlayOption,
    Points,
    ProviderOption,
    ResultFormatOption,
    SeedOption,
)
from gmrt.cli.output import say_notes
from gmrt.cli.results import GEOGRAPHIC, Form, check_beside, draw, emit, form_of, render, say_when_cut, write_mask
from gmrt.cli.tiles import answer_tiles, finish, overview
from gmrt.cli.where import AoiOption, AtOption, BboxOption, RegionOption, Where, kept_within, where_of
from gmrt.runtime.errors import ConstraintError, PromptError, SceneError

if TYPE_CHECKING:
    from gmrt.runtime.model import Answer, View
    from gmrt.runtime.scene import Scene


def infer(
    words: Annotated[
        list[str], typer.Argument(metavar="IMAGE... PROMPT", help="An image, a pair or a folder; then what to ask.")
    ],
    ask: Annotated[list[str] | None, typer.Option(metavar="PROMPT", help="Ask this too, about the same image.")] = None,
    bundle: BundleOption = None,
    output_format: ResultFormatOption = "text",
    output: OutputOption = None,
    overlay: OverlayOption = None,
    mask: MaskOption = None,
    bands: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B", help="What to see as red, green and blue: names, numbers, or red=4,green=3,blue=2,nir=8."
        ),
    ] = None,
    composite: CompositeOption = None,
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="Ask window by window: a large scene. With -o a cut run goes on."),
    ] = False,
    tile_size: Annotated[
        int | None, typer.Option(min=16, metavar="N", help="With --tiles: pixels a side, the model's input without it.")
    ] = None,
    region: RegionOption = None,
    bbox: BboxOption = None,
    aoi: AoiOption = None,
    at: AtOption = None,
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
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Answer with compact JSON that conforms to this JSON schema."),
    ] = None,
    provider: ProviderOption = "cpu",
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse a bundle that would need more, for example 2GiB.")
    ] = None,
) -> None:
    """Ask about an image, a pair, or more dates in order; a folder is answered image by image, as JSON lines."""
    images, prompt = split(words)
    where = where_of(region, bbox, aoi, at)
    form = form_of(output_format, output)
    _check_walk(images, where, form, tiles=tiles, tile_size=tile_size)
    prompts = (prompt, *(ask or ()))
    check_beside(overlay, images, "--overlay")
    check_beside(mask, images, "--mask")
    if tiles and schema is not None:
        raise typer.BadParameter("--tiles puts answers together, and structures cannot be: ask with --region instead")
    decoding: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "choices": comma_separated(choices),
        "yes_no": yes_no,
        "number": number,
        "points": True if points == "any" else points or False,
        "max_regions": max_regions,
        "schema": None if schema is None else read_schema(schema),
    }
    import_ahead()
    from gmrt.runtime.model import load

    model = load(bundle, provider=provider, max_memory=max_memory)
    say_notes(model.notes)
    drawing = {"bands": bands, "composite": composite}
    if holds_images(images[0]):
        answer_folder(model, images[0], prompts, output=output, drawing=drawing, decoding=decoding)
        return
    failed, streamed = 0, False
    scene: Scene | None
    if tiles:
        with opened(images[0], drawing) as (reader, frame):
            say_notes(reader.notes)
            window, outlines = where.find(frame, model.bundle.manifest.image.width) if where else (frame.window, ())
            walked, failed = answer_tiles(
                model, reader, prompts, decoding, size=tile_size, window=window, output=output
            )
            answers = kept_within(walked, outlines)
            scene = overview(reader, window) if overlay is not None else None
    elif len(images) > 1:
        places = form in GEOGRAPHIC or overlay is not None or mask is not None
        answers, scene = ask_series(model, images, prompts, decoding, drawing=drawing, where=where, places=places)
    else:
        view, outlines = look(model, images, drawing, where)
        say_notes(view.notes)
        scene, streamed = view.scenes[-1], output is None and form == "text" and sys.stdout.isatty() and not where
        ask_one = _stream if streamed else _ask
        answers = kept_within([ask_one(view, question, decoding) for question in prompts], outlines)
    content = "" if streamed else render(answers, form, series=len(images) > 2)
    if overlay is not None and scene is not None:
        draw(scene, answers, overlay)
    if mask is not None:
        write_mask(answers, mask)
    if not streamed:
        emit(content, output)
    if failed:
        raise typer.Exit(1)
    if tiles:
        finish(output)


def _check_walk(images: Sequence[Path], where: Where, form: Form, *, tiles: bool, tile_size: int | None) -> None:
    """Refuse what can only be done with one image, before anything is loaded."""
    if tile_size is not None and not tiles:
        raise typer.BadParameter("--tile-size is the size of the windows of --tiles: give both")
    if tiles and (len(images) > 1 or holds_images(images[0])):
        raise SceneError("--tiles walks one image: give one of them by name")
    if where and holds_images(images[0]):
        raise SceneError("a region is a part of one image: give one of the folder's images by name")
    if form in GEOGRAPHIC and holds_images(images[0]):
        raise SceneError(f"a folder is answered as JSON lines, and {form} is of one image: give it by name")


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
    return paths, prompt


def read_schema(path: Path) -> dict[str, Any]:
    """Read a JSON schema; raises `ConstraintError` for a file that holds none, or one that cannot be enforced."""
    from gmrt.runtime.schema import bounded

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConstraintError(f"{path}: cannot be read ({error.strerror}): give a file with a JSON schema") from None
    except (ValueError, RecursionError) as error:
        raise ConstraintError(f"{path}: not JSON ({error}): give a file with a JSON schema") from None
    bounded(schema)
    return cast("dict[str, Any]", schema)


def comma_separated(text: str | None) -> tuple[str, ...] | None:
    """The parts of ``a, b, c`` without the blanks around them; None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _ask(view: View, prompt: str, decoding: dict[str, Any]) -> Answer:
    return view.ask(prompt, **decoding)


def _stream(view: View, prompt: str, decoding: dict[str, Any]) -> Answer:
    """Print an answer on a terminal as it grows."""
    from gmrt.runtime.model import TextEvent

    for event in view.stream(prompt, **decoding):
        if isinstance(event, TextEvent):
            typer.echo(event.text, nl=False)
        else:
            answer = event.answer
    typer.echo()
    say_when_cut(answer)
    return answer
