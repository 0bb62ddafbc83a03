"""``gmrt sample``: write a generated scene with what is true of it, so that there is something to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gmrt.cli.options import SeedOption
from gmrt.cli.output import write_atomically


def _tif(path: Path) -> Path:
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise typer.BadParameter(f"{path} does not end in .tif, and a sample is written as a GeoTIFF")
    return path


def sample(
    out: Annotated[Path, typer.Argument(metavar="OUT.tif", callback=_tif, help="The GeoTIFF to write.")],
    seed: SeedOption = 0,
    kind: Annotated[
        str | None, typer.Option(help="What to draw, chance decides without it; an unknown word lists the kinds.")
    ] = None,
    split: Annotated[
        Literal["train", "test"], typer.Option(help="In a style of training, or in one kept from it.")
    ] = "test",
    size: Annotated[int, typer.Option(help="Width and height in pixels, 64 to 2048.")] = 256,
) -> None:
    """Draw a georeferenced scene; print its path. What is true of it is written beside it, as OUT.json."""
    from gmrt.georsmllm.scenes import STYLES_TEST, generate, write_scene
    from gmrt.georsmllm.scenes.truth import truth_json

    style = STYLES_TEST[seed % len(STYLES_TEST)] if split == "test" else None
    scene = generate(seed, size=size, kind=kind, style=style)
    text = truth_json(scene)
    write_scene(scene, out)
    write_atomically(out.with_suffix(".json"), text)
    typer.echo(out)
