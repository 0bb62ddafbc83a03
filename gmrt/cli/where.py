"""Which part of an image a question is about: ``--region``, ``--bbox``, ``--aoi`` or ``--at``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gmrt.runtime.answer import Answer
    from gmrt.runtime.places import Frame, Window

RegionOption = Annotated[
    str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Ask about this part of the image: two corners, in pixels.")
]
BboxOption = Annotated[
    str | None, typer.Option(metavar="W,S,E,N", help="Ask about this box of longitude and latitude.")
]
AoiOption = Annotated[Path | None, typer.Option(metavar="FILE.geojson", help="Ask about the polygons of this file.")]
AtOption = Annotated[
    str | None,
    typer.Option(metavar="LON,LAT", help="Ask about the surroundings of this spot, as many pixels as the model sees."),
]


@dataclass(frozen=True)
class Where:
    """A part of an image as it was asked for: at most one of four ways of naming it."""

    region: tuple[float, ...] | None = None
    bbox: tuple[float, ...] | None = None
    aoi: Path | None = None
    at: tuple[float, ...] | None = None

    def __bool__(self) -> bool:
        return any(way is not None for way in (self.region, self.bbox, self.aoi, self.at))

    def find(self, frame: Frame, side: int) -> tuple[Window, Sequence[Any]]:
        """The window in pixels of a scene, and the outlines that places must lie in, if any; raises `SceneError`.

        ``side`` are the pixels round a spot.
        """
        from gmrt.runtime import area

        if self.region is not None:
            x0, y0, x1, y1 = self.region
            return area.pixel_window(frame, x0, y0, x1, y1), ()
        if self.at is not None:
            longitude, latitude = self.at
            return area.spot_window(frame, longitude, latitude, side), ()
        if self.bbox is not None:
            west, south, east, north = self.bbox
            rings = [area.bbox_ring(west, south, east, north)]
        else:
            assert self.aoi is not None  # one way was given
            rings = area.read_rings(self.aoi)
        outlines = area.outlines_of(frame, rings)
        return area.outline_window(frame, outlines), outlines


def where_of(region: str | None, bbox: str | None, aoi: Path | None, at: str | None) -> Where:
    """Read the four options; refuse numbers that are none, and two places at once."""
    given = [
        name for name, way in (("--region", region), ("--bbox", bbox), ("--aoi", aoi), ("--at", at)) if way is not None
    ]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} name two places: give one of them")
    return Where(_numbers("--region", region, 4), _numbers("--bbox", bbox, 4), aoi, _numbers("--at", at, 2))


def _numbers(option: str, text: str | None, count: int) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        example = "--region 0,0,512,512" if option == "--region" else "--bbox 4.8,52.3,4.9,52.4"
        wanted = "--at 4.85,52.35" if count == 2 else example
        raise typer.BadParameter(f'{option} takes {count} numbers with commas between them, got "{text}": {wanted}')
    return numbers


def kept_within(answers: Sequence[Answer], outlines: Sequence[Any]) -> list[Answer]:
    """Answers without the places outside of the outlines that were asked about."""
    if not outlines:
        return list(answers)
    from gmrt.runtime.area import within

    return [within(answer, outlines) for answer in answers]
