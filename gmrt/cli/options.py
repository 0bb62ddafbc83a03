"""What several sub-commands share: options of the same name and meaning, and the sentence for a missing extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from gmrt.runtime.errors import MissingExtraError

Format = Literal["text", "json"]
Provider = Literal["cpu", "cuda", "tensorrt"]
Target = Literal["cpu", "cuda", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
Composite = Literal["true-color", "false-color", "swir", "ndvi", "sar"]
Cache = Literal["float", "int8"]
Points = Literal["any", "point", "box", "obb", "poly"]

FormatOption = Annotated[Format, typer.Option("--format", help="Text for people, or one JSON object per line.")]
ResultFormatOption = Annotated[
    Literal["text", "json", "geojson"],
    typer.Option(
        "--format",
        help="Text for people, one JSON object per line, or places on Earth; an output named .geojson, .gpkg or .csv "
        "says it by its name.",
    ),
]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="The model to use; the shipped one by default.")
]


def _in_a_folder(path: Path | None) -> Path | None:
    """Refuse an output path before the work rather than after it."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent} to write into: make it first")
    return path


OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", callback=_in_a_folder, help="Write the result here instead of to stdout."
    ),
]


def _png_in_a_folder(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} does not end in .png, and a picture is written as one")
    return _in_a_folder(path)


OverlayOption = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.png", callback=_png_in_a_folder, help="Draw the places of the answers over the image, here."
    ),
]
CompositeOption = Annotated[
    Composite | None,
    typer.Option(
        help="What to draw of the bands; without it true colour, or what there is, and the answer says which."
    ),
]


def _tif_in_a_folder(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".tif", ".tiff"):
        raise typer.BadParameter(f"{path} does not end in .tif, and a mask is written as a GeoTIFF")
    return _in_a_folder(path)


MaskOption = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.tif",
        callback=_tif_in_a_folder,
        help="Write the places of the answers as a mask on the image's grid.",
    ),
]
ProviderOption = Annotated[Provider, typer.Option(help="What computes.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turn the failed import of an optional dependency into a `MissingExtraError` that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "gmrt"):
            raise
        raise MissingExtraError(
            f"this sub-command needs {missing}, which is not installed: "
            f"run pip install -c constraints.txt '.[{extra}]' in a checkout of gmrt"
        ) from None
