"""``gmrt sample``: write a small generated scene, so that there is something to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmrt.cli.options import SeedOption


def sample(
    out: Annotated[Path, typer.Argument(metavar="OUT.tif", help="The file to write: .tif, georeferenced, or .png.")],
    seed: SeedOption = 0,
    kind: Annotated[
        str, typer.Option(help="What to draw; an unknown word is answered with the list.")
    ] = "storagetanks",
    size: Annotated[int, typer.Option(help="Width and height in pixels of 0.3 m.")] = 512,
) -> None:
    """Draw a georeferenced scene and write it as a GeoTIFF; print its path."""
    from gmrt.runtime.sample import write_sample

    write_sample(out, seed=seed, kind=kind, size=size)
    typer.echo(out)
