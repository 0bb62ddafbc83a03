"""Answers in the form that was asked for: text, JSON lines, GeoJSON, GeoPackage, CSV; a picture and a mask beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from gmrt.cli.output import json_line, say_notes, write_atomically

if TYPE_CHECKING:
    from gmrt.runtime.answer import Answer
    from gmrt.runtime.scene import Scene

Form = Literal["text", "json", "geojson", "gpkg", "csv"]

_BY_SUFFIX: dict[str, Form] = {".geojson": "geojson", ".gpkg": "gpkg", ".csv": "csv"}
_FOREIGN = (".shp", ".kml", ".kmz", ".gml", ".fgb", ".parquet", ".dxf", ".tif", ".tiff", ".png", ".jpg")
"""Names that promise something else than text."""
GEOGRAPHIC: tuple[Form, ...] = ("geojson", "gpkg", "csv")
"""Forms that hold places."""


def form_of(output_format: Literal["text", "json", "geojson"], output: Path | None) -> Form:
    """What to write: by the output's name where it says so, by ``--format`` otherwise; refuse when they disagree."""
    suffix = "" if output is None else output.suffix.lower()
    if suffix in _FOREIGN:
        raise typer.BadParameter(
            f"{output}: answers are not written as {suffix}: name it .geojson, .gpkg, .csv or .txt"
        )
    if suffix in (".json", ".jsonl") and output_format == "text":  # GeoJSON is JSON, too, and stays what it is
        return "json"
    named = _BY_SUFFIX.get(suffix)
    if named is None:
        return output_format
    if output_format not in ("text", named):
        raise typer.BadParameter(f"{output} is {named} by its name and {output_format} by --format: leave one out")
    return named


def render(answers: Sequence[Answer], form: Form, *, series: bool = False) -> str | bytes:
    """Answers as the content of a file or of stdout; what they lack is said on stderr.

    Of a ``series`` each line of text begins with the pair of images that it is about.
    """
    for answer in answers if form != "json" else ():
        say_when_cut(answer)
    if form == "json":
        return "".join(json_line(answer.to_dict()) for answer in answers)
    if form == "text":
        return "".join(f"{line}\n" for answer in answers for line in _lines(answer, series))
    from gmrt.runtime import vector
    from gmrt.runtime.features import features, missing, to_text

    if form == "geojson":
        content: str | bytes = to_text(answers)
        found = features(answers)
    else:
        found = features(answers)
        content = vector.to_csv(found) if form == "csv" else vector.to_gpkg(found)
    note = missing(answers, found)
    if note is not None:
        say_notes([note])
    return content


def say_when_cut(answer: Answer) -> None:
    """Say on stderr when an answer was cut off; JSON says it itself."""
    if answer.finish_reason == "length":
        say_notes(["the answer was cut off at --max-tokens"])


def _lines(answer: Answer, series: bool) -> list[str]:
    """An answer as text: of tiles, a line for the whole and one for each, with its column, row, width and height."""
    table = () if answer.tiles is None else answer.tiles.get("table", ())
    pair = " → ".join(answer.image) + ": " if series and isinstance(answer.image, tuple) else ""
    return [f"{pair}{answer}", *(f"{','.join(map(str, row['tile']))}: {row['text']}" for row in table)]


def emit(content: str | bytes, output: Path | None) -> None:
    """Write a result to its file, whole or not at all, or to stdout."""
    if output is not None:
        write_atomically(output, content)
    else:
        typer.echo(content, nl=False)


def check_beside(file: Path | None, images: Sequence[Path], option: str) -> None:
    """Refuse to draw several images in one file, or over an image that is asked about."""
    from gmrt.cli.folder import holds_images
    from gmrt.runtime.errors import SceneError

    if file is None:
        return
    if holds_images(images[0]):
        raise SceneError(f"{option} is of one image: give one of the folder's images by name")
    if any(file.exists() and image.exists() and file.samefile(image) for image in images):
        raise SceneError(f"{option} {file} is the image that is asked about: name another file")


def draw(scene: Scene, answers: Sequence[Answer], overlay: Path) -> None:
    """Draw the places of answers over a picture of what was asked about; say on stderr which colour is whose."""
    from gmrt.runtime.overlay import annotate, colour_name
    from gmrt.runtime.places import frame_of
    from gmrt.runtime.raster import encode_png

    placed = [answer for answer in answers if answer.places]
    frame = frame_of(scene)
    picture = annotate(scene.rgb, [[frame.on_window(place) for place in answer.places] for answer in placed])
    write_atomically(overlay, encode_png(picture))
    for group, answer in enumerate(placed):
        typer.echo(f"gmrt: {overlay}: {colour_name(group)}: {answer.prompt} ({len(answer.places)})", err=True)
    if not placed:
        say_notes([f"no answer names a place, so nothing is drawn in {overlay}"])


def write_mask(answers: Sequence[Answer], mask: Path) -> None:
    """Write the places of answers as a mask on the source's grid; say on stderr which value is whose."""
    from gmrt.runtime.mask import write_mask as write

    values = write(answers, mask)
    for value, answer in values.items():
        typer.echo(f"gmrt: {mask}: {value}: {answer.prompt} ({len(answer.places)})", err=True)
    if not values:
        say_notes([f"no answer names a place, so {mask} is 0 everywhere"])
