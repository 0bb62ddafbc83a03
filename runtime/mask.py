"""Places as a raster on the source's grid: 0 for nothing, 1 where the first answer's places are, 2 for the second's.

Importing this module imports rasterio: import it lazily.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from rasterio.windows import Window

from gmrt.runtime.answer import Answer
from gmrt.runtime.errors import SceneError
from gmrt.runtime.places import Frame, Place
from gmrt.runtime.raster import quiet

_STRIP = 512  # rows that are drawn and written at once
_CONTROL = 11  # control points a side, where the source has no affine

Shape = tuple[dict[str, Any], int]


def write_mask(answers: Sequence[Answer], path: Path) -> dict[int, Answer]:
    """Write ``path`` as a GeoTIFF of bytes, all of it or nothing, and return which value is whose.

    It has the size and the place of the whole scene. A place takes the pixels whose centre lies inside it, and at least
    the one that it lies on; where places overlap, a later answer wins. Raises `SceneError` when the answers are not
    about one image, or are more than 255.
    """
    frames = [answer.frame for answer in answers if answer.frame is not None]
    if not frames or any(frame.size != frames[0].size for frame in frames):
        raise SceneError("a mask is on the grid of one image: ask about one image or a pair")
    values = dict(enumerate((one for one in answers if one.places), 1))
    if len(values) > 255:
        raise SceneError(f"a mask of bytes holds 255 answers, and {len(values)} name places: ask in several runs")
    shapes = [(place, value) for value, answer in values.items() for place in answer.places]
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(part, frames[0], shapes, {str(value): answer.prompt for value, answer in values.items()})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return values


def _write(path: Path, frame: Frame, shapes: Sequence[tuple[Place, int]], tags: dict[str, str]) -> None:
    width, height = frame.size
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint8"}
    stored = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    with quiet(), rasterio.open(path, "w", **profile, **stored, **_georeference(frame)) as dataset:
        for top in range(0, height, _STRIP):
            rows = min(_STRIP, height - top)
            strip = _drawn(shapes, top, rows, width)
            dataset.write(strip, 1, window=Window(0, top, width, rows))
        dataset.update_tags(**{f"VALUE_{value}": prompt for value, prompt in tags.items()})


def _drawn(shapes: Sequence[tuple[Place, int]], top: int, rows: int, width: int) -> Any:
    """The rows from ``top`` on, as uint8 [rows, width]."""
    strip = np.zeros((rows, width), np.uint8)
    for place, value in shapes:
        _, y0, _, y1 = place.bounds
        if y1 < top or y0 > top + rows:
            continue
        corners = [(x, y - top) for x, y in place.corners]
        x, y = (float(each) for each in np.mean(corners, axis=0))
        column, row = min(max(int(x), 0), width - 1), int(np.floor(y))
        if 0 <= row < rows:
            strip[row, column] = value
        if len(corners) > 2:
            geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
            rasterize([(geometry, value)], out=strip)
    return strip


def _georeference(frame: Frame) -> dict[str, Any]:
    placement = frame.placement
    if placement is None:
        return {}
    if placement.affine is not None:
        return {"crs": placement.crs, "transform": placement.affine}
    width, height = frame.size
    x, y = np.meshgrid(np.linspace(0, width, _CONTROL), np.linspace(0, height, _CONTROL))
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    points = [
        GroundControlPoint(row=row, col=column, x=east, y=north)
        for (column, row), (east, north) in zip(pixels.tolist(), placement.to_map(pixels).tolist(), strict=True)
        if np.isfinite([east, north]).all()
    ]
    return {"crs": placement.crs, "gcps": points}
