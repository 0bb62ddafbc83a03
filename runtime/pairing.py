"""Two images of one place: whether they lie over each other, and the second one brought onto the first.

Importing this module imports rasterio: import it lazily.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from gmrt.runtime.area import pixel_window
from gmrt.runtime.errors import SceneError
from gmrt.runtime.geography import to_lonlat, to_pixels
from gmrt.runtime.places import Frame, Window, frame_of
from gmrt.runtime.raster import quiet
from gmrt.runtime.scene import Scene

FloatArray = npt.NDArray[np.float64]

LEAST = 0.1
"""Two images are not compared when the second covers less than this share of the first."""
COARSER = 4.0
"""Nor when the pixels of one are more than so many times as large as those of the other."""
_SAME = 0.05  # pixels: corners that lie no further apart are on one grid
_MARGIN = 4  # pixels
_SAMPLES = 64  # points a side at which the overlap is measured


def align(before: Scene, after: Scene) -> tuple[Scene, Scene]:
    """Bring ``after`` onto the grid of ``before``; both come back as they are when they lie on one grid already.

    Where the second covers only part of the first, both are cut to the window that it covers. Without a georeference of
    both, images of the same size are taken pixel by pixel, and a note says so.

    Raises `SceneError` for images that overlap by less than `LEAST`, whose pixels differ in size by more than
    `COARSER`, or of which one has no georeference and another size.
    """
    if before.crs is None or after.crs is None or before.placement is None or after.placement is None:
        return _unplaced(before, after)
    if _on_one_grid(before, after):
        return before, after
    if before.transform is None or after.transform is None:
        raise SceneError(
            f"{_name(before)} and {_name(after)} lie on different grids, and one is placed by control points or "
            "polynomials: warp it to a map first, for example with gdalwarp"
        )
    if before.gsd and after.gsd and not 1 / COARSER <= before.gsd / after.gsd <= COARSER:
        raise SceneError(
            f"{_name(before)} has pixels of {before.gsd:.3g} m and {_name(after)} of {after.gsd:.3g} m: "
            f"images are compared up to a factor of {COARSER:g}"
        )
    covered = _covered(before, after)
    share = float(covered.mean())
    if share < LEAST:
        raise SceneError(
            f"{_name(after)} covers {share:.0%} of {_name(before)}, and a pair must overlap by {LEAST:.0%} at least: "
            "give two images of one place"
        )
    before = _cut(before, covered)
    return before, _onto(before, after, share)


def _unplaced(before: Scene, after: Scene) -> tuple[Scene, Scene]:
    if before.source_size != after.source_size or before.window != after.window:
        (a, b), (c, d) = before.source_size, after.source_size
        lacking = before if before.placement is None or before.crs is None else after
        raise SceneError(
            f"{_name(before)} has {a} × {b} pixels and {_name(after)} {c} × {d}, and {_name(lacking)} has no "
            "georeference to bring them together by: cut both to the same place"
        )
    note = "The pair is taken pixel by pixel, because not both of its images have a georeference."
    return before, replace(after, notes=(*after.notes, note))


def _name(scene: Scene) -> str:
    return scene.path or "the image"


def _on_one_grid(before: Scene, after: Scene) -> bool:
    """Whether both cover the same pixels of one map: same CRS and size, and corners that coincide."""
    first, second = frame_of(before), frame_of(after)
    if before.crs != after.crs or before.rgb.shape != after.rgb.shape:
        return False
    assert first.placement is not None  # the caller has seen to it
    assert second.placement is not None
    corners = first.placement.to_pixel(second.placement.to_map(second.outline()))
    return bool(np.abs(corners - first.outline()).max() <= _SAME)


def _covered(before: Scene, after: Scene) -> npt.NDArray[np.bool_]:
    """At which points of an even grid over ``before`` the other image has a pixel: bool [S, S], rows first."""
    assert before.placement is not None  # the caller has seen to it
    assert after.placement is not None
    height, width = before.valid.shape
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    x, y = np.meshgrid(steps * width, steps * height)
    places = before.placement.to_map(np.stack([x.ravel(), y.ravel()], axis=1))
    if before.crs != after.crs:
        with quiet():
            places = np.stack(transform(before.crs, after.crs, *places.T.tolist()), axis=1)
    pixels = after.placement.to_pixel(places)
    inside = np.isfinite(pixels).all(axis=1) & (pixels >= 0).all(axis=1)
    inside &= (pixels < after.valid.shape[::-1]).all(axis=1)
    return inside.reshape(_SAMPLES, _SAMPLES)


def _cut(scene: Scene, covered: npt.NDArray[np.bool_]) -> Scene:
    """The part of a scene round the covered points; all of it when they reach its borders or when it was reduced."""
    height, width = scene.valid.shape
    column, row, *size = frame_of(scene).window
    if size != [width, height]:
        return scene
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    top, left = int(rows[0]) * height // _SAMPLES, int(columns[0]) * width // _SAMPLES
    below, right = -(-(int(rows[-1]) + 1) * height // _SAMPLES), -(-(int(columns[-1]) + 1) * width // _SAMPLES)
    if (top, left, below, right) == (0, 0, height, width):
        return scene
    assert scene.placement is not None  # it is compared by it
    assert scene.transform is not None
    return replace(
        scene,
        rgb=scene.rgb[top:below, left:right].copy(),
        valid=scene.valid[top:below, left:right].copy(),
        transform=scene.transform * type(scene.transform).translation(left, top),
        placement=scene.placement.window(left, top),
        window=(column + left, row + top, right - left, below - top),
    )


def _onto(before: Scene, after: Scene, share: float) -> Scene:
    """``after`` resampled to the pixels of ``before``."""
    finer = before.gsd is not None and after.gsd is not None and after.gsd * 1.5 < before.gsd
    there = {"src_transform": after.transform, "src_crs": after.crs}
    here = {"dst_transform": before.transform, "dst_crs": before.crs}
    rgb = np.zeros((3, *before.valid.shape), np.uint8)
    seen = np.zeros(before.valid.shape, np.uint8)
    with quiet():
        pixels = np.ascontiguousarray(after.rgb.transpose(2, 0, 1))
        resampling = Resampling.average if finer else Resampling.bilinear
        reproject(pixels, rgb, **there, **here, resampling=resampling)
        reproject(after.valid.astype(np.uint8), seen, **there, **here, resampling=Resampling.nearest)
    valid = seen > 0
    if not valid.any():
        raise SceneError(f"{_name(after)} holds no data where {_name(before)} lies: give two images of one place")
    rgb[:, ~valid] = 0
    note = f"Reprojected onto {_name(before)}, of which it covers {share:.0%}."
    return replace(
        after,
        rgb=np.ascontiguousarray(rgb.transpose(1, 2, 0)),
        valid=valid,
        crs=before.crs,
        transform=before.transform,
        placement=before.placement,
        source_size=before.source_size,
        window=before.window,
        gsd=before.gsd,
        notes=(*after.notes, note),
    )


def counterpart(before: Frame, window: Window, after: Frame) -> Window:
    """The part of another image that a window of the first lies over, a little larger; without places, the same pixels.

    Raises `SceneError` where the other image does not reach.
    """
    asked = Frame(before.size, window, before.placement, before.gsd, before.source)
    if before.placement is None or after.placement is None or not (before.placement.crs and after.placement.crs):
        return pixel_window(after, window[0], window[1], window[0] + window[2], window[1] + window[3])
    pixels = to_pixels(after.placement, to_lonlat(before.placement, asked.outline()))
    (x0, y0), (x1, y1) = pixels.min(axis=0) - _MARGIN, pixels.max(axis=0) + _MARGIN
    return pixel_window(after, x0, y0, x1, y1)
