"""Places in pixels: what an answer names, in full-scene coordinates and with its score.

The model answers on a grid of 1000 × 1000 cells over what it looked at (`gmrt.runtime.points`), which may be a window
of a larger scene. A `Frame` says which; a `Place` is the same location in pixels of the scene's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime.errors import PointsError
from gmrt.runtime.points import GRID, Kind, Region, format_regions, from_grid, has_regions, parse_regions, region

if TYPE_CHECKING:
    from gmrt.runtime.placement import Placement
    from gmrt.runtime.scene import Scene

FloatArray = npt.NDArray[np.float64]
Window = tuple[int, int, int, int]
"""Column, row, width and height in pixels of a file."""

_EXACT = 1024
_ASKED = re.compile(
    r"^(?:please )?(?:locate|find|detect|outline|mark|show(?: me)?|segment|count|how many|where (?:is|are)|"
    r"point (?:to|at)|which|is there|are there)\s+(?:all |every |each |any )?(?:of )?(?:the |an |a )?",
    re.IGNORECASE,
)
_FORM = re.compile(
    r"\s+(?:(?:as|with) (?:an? )?(?:points?|boxe?s?|(?:rotated|oriented) box(?:es)?|polygons?)"
    r"|(?:are|is) there|are visible|(?:can you see|are)? ?in the image|does the image show|can you see)\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """One location of an answer: its ``kind`` and the corners (x, y) in pixels of the scene's file.

    Corners of pixels lie at whole numbers. A point has one corner, everything else the outline without repeating the
    first. ``confidence`` in 0…1 is the locator's score of this place, or that of the whole answer where the model
    spells its places; ``tile`` the window that it was found in, None when the whole scene was asked about.
    """

    kind: Kind
    corners: tuple[tuple[float, float], ...]
    confidence: float
    tile: Window | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The enclosing box (x0, y0, x1, y1) in pixels."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``places`` of an answer's JSON lists; pixels to a hundredth."""
        pixels = [[round(x, 2), round(y, 2)] for x, y in self.corners]
        return {"kind": self.kind, "pixels": pixels, "confidence": self.confidence}


@dataclass(frozen=True)
class Frame:
    """What the grid of an answer lies over: a ``window`` of a file of ``size`` (width, height) pixels.

    ``placement`` takes the file's pixels to a map, None without a georeference; ``gsd`` are metres on the ground per
    pixel, ``source`` is the file.
    """

    size: tuple[int, int]
    window: Window
    placement: Placement | None = None
    gsd: float | None = None
    source: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the window is the whole scene."""
        return self.window == (0, 0, *self.size)

    def place(self, found: Region, confidence: float) -> Place:
        """A region on the window's grid as a place in the file's pixels."""
        column, row, width, height = self.window
        cells = np.array([(from_grid(x), from_grid(y)) for x, y in found.points])
        # Halves of halves are exact, so that a place does not depend on where its window lies, not by the last bit.
        corners = np.round(cells * [width, height] * _EXACT) / _EXACT + [column, row]
        if found.kind != "point":
            corners = _outline(corners, found, max(width // GRID, 1) / 2, max(height // GRID, 1) / 2)
        tile = None if self.whole else self.window
        return Place(found.kind, tuple((float(x), float(y)) for x, y in corners), confidence, tile)

    def on_grid(self, place: Place) -> Region:
        """A place as a region on the grid of the whole scene; outside of it, the nearest cell."""
        corners = [(x / self.size[0], y / self.size[1]) for x, y in place.corners]
        if place.kind == "box":
            corners = [corners[0], corners[2]]
        return region(place.kind, corners)

    def on_window(self, place: Place) -> Region:
        """A place as a region on the grid of the window."""
        column, row, width, height = self.window
        moved = tuple((x - column, y - row) for x, y in place.corners)
        return Frame((width, height), (0, 0, width, height)).on_grid(replace(place, corners=moved))

    def outline(self) -> FloatArray:
        """The window's corners [4, 2] in the file's pixels, clockwise from the top left."""
        column, row, width, height = self.window
        right, below = column + width, row + height
        return np.array([(column, row), (right, row), (right, below), (column, below)], np.float64)


def frame_of(scene: Scene) -> Frame:
    """The frame of a scene that was read whole, or of a window of one."""
    window = scene.window or (0, 0, *scene.source_size)
    placement = scene.placement
    if placement is not None:  # of the array's pixels; of the file's, one array pixel is so many of them
        rows, columns = scene.valid.shape
        across, down = columns / window[2], rows / window[3]
        placement = placement.window(-window[0] * across, -window[1] * down, across, down)
    return Frame(scene.source_size, window, placement, scene.gsd, scene.path)


def label_of(prompt: str) -> str:
    """What a prompt asks for, without the words that ask: of "locate the ships as points" it is "ships"."""
    text = prompt.strip().rstrip("?.! ")
    return _FORM.sub("", _ASKED.sub("", text)).strip() or text


def restated(
    frame: Frame, text: str, confidence: float, places: tuple[Place, ...] | None
) -> tuple[str, tuple[Place, ...] | None]:
    """A location answer spelt on the grid of a window, on that of the whole scene, and its places in pixels.

    Any other text, and one about the whole scene or with ``places`` already, comes back as it is; so does half a
    location.
    """
    if places is not None or frame.whole or not has_regions(text):
        return text, places
    try:
        regions = parse_regions(text)
    except PointsError:
        return text, None
    spelt = places_in(frame, regions, [confidence] * len(regions))
    return format_regions(map(frame.on_grid, spelt)), spelt


def places_in(frame: Frame, regions: Iterable[Region], scores: Iterable[float]) -> tuple[Place, ...]:
    """Regions on a frame's grid, with the score of each, as places."""
    return tuple(frame.place(found, score) for found, score in zip(regions, scores, strict=True))


def _outline(corners: FloatArray, found: Region, half_width: float, half_height: float) -> FloatArray:
    """The corners of what encloses something; what has no width or height is as large as the cells that it names."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    flat = found.bounds[0] == found.bounds[2] or found.bounds[1] == found.bounds[3]
    if found.kind != "box" and not flat and _doubled_area(corners) != 0:
        return corners
    if flat or found.kind != "box":
        line, half = low == high, np.array([half_width, half_height])
        low, high = np.where(line, low - half, low), np.where(line, high + half, high)
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _doubled_area(corners: FloatArray) -> float:
    x, y = (corners - corners[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)))
