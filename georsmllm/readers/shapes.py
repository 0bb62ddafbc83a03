"""Boxes, rotated boxes, polygons and masks of the datasets as `SceneObject`, in 0…1 of the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.objects import FloatArray, Outline, SceneObject
from gmrt.georsmllm.readers.record import UnusableError

Size = tuple[float, float]
"""Width and height in the units of the coordinates; (1, 1) for coordinates that are shares of the image already."""

UNIT: Size = (1.0, 1.0)
_MOST_PIXELS = 1 << 27  # a mask larger than any image of these sets is a fault, and would fill the memory
_FAR = 0.5  # a corner further outside than this share of the image is a mistake in the units, not a cut object


def numbers(values: Any, count: int) -> list[float]:
    """``count`` finite numbers. Raises `UnusableError`."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UnusableError(f"{count} coordinates are expected, not {values!r}")
    try:
        found = [float(value) for value in values]
    except (OverflowError, TypeError, ValueError):
        raise UnusableError(f"the coordinates are not all numbers: {values!r}") from None
    if len(found) != count or not all(map(math.isfinite, found)):
        raise UnusableError(f"{count} finite coordinates are expected: {values!r}")
    return found


def box(category: str, corners: Any, size: Size = UNIT) -> SceneObject:
    """An upright box from x0, y0, x1, y1, its corners in either order."""
    xa, ya, xb, yb = numbers(corners, 4)
    (x0, x1), (y0, y1) = sorted((xa, xb)), sorted((ya, yb))
    return polygon(category, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], size, exact="box")


def corners_box(category: str, values: Any, size: Size = UNIT) -> SceneObject:
    """A rotated box from x1, y1, … x4, y4 in order round it; an upright box when its sides are upright."""
    points = np.reshape(numbers(values, 8), (4, 2))
    sides = np.abs(np.roll(points, -1, axis=0) - points)
    upright = bool((sides.min(axis=1) <= 1e-6 * max(size)).all())
    return polygon(category, points, size, exact="box" if upright else "obb")


def turned_box(category: str, corners: Any, degrees: float, pixels: Size, size: Size) -> SceneObject:
    """A box x0, y0, x1, y1 turned counter-clockwise, as one sees it, round its centre in an image of ``pixels``."""
    scale = np.divide(pixels, size)
    x0, y0, x1, y1 = numbers(corners, 4)
    points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) * scale
    centre = points.mean(axis=0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return corners_box(category, ((points - centre) @ [[cosine, -sine], [sine, cosine]] + centre).ravel(), pixels)


def polygon(
    category: str, points: npt.ArrayLike | Sequence[Sequence[float]], size: Size, *, exact: Outline = "poly"
) -> SceneObject:
    """An object from its outline, clipped to the image.

    Raises `UnusableError` when it has no area there, or lies so far outside that its units must be others.
    """
    shares = np.asarray(points, dtype=np.float64) / np.asarray(size)
    if shares.ndim != 2 or shares.shape[1:] != (2,) or len(shares) < 3 or not np.isfinite(shares).all():
        raise UnusableError("an outline of at least three points is expected")
    if shares.min() < -_FAR or shares.max() > 1 + _FAR:
        raise UnusableError(f"the outline lies outside the image of {size[0]:g} × {size[1]:g}")
    clipped = np.clip(shares, 0.0, 1.0)
    made = SceneObject(category, tuple((float(x), float(y)) for x, y in clipped), exact)
    if made.area <= 0.0:
        raise UnusableError("the outline has no area inside the image")
    return made


def segmentation(category: str, value: Any, size: Size) -> SceneObject:
    """The largest part of a COCO segmentation: polygons ``[[x1, y1, …], …]``, a run-length mask, or a list of them."""
    parts = value if isinstance(value, list) and value else [value]
    if all(isinstance(part, dict) for part in parts):
        masks = [decode_mask(part) for part in parts]
        if len({mask.shape for mask in masks}) > 1:
            raise UnusableError("the parts of the mask differ in size")
        height, width = masks[0].shape
        return polygon(category, simplify(mask_outline(np.maximum.reduce(masks))), (width, height))
    outlines = [np.reshape(numbers(part, len(part)), (-1, 2)) for part in parts]
    return max((polygon(category, outline, size) for outline in outlines), key=lambda made: made.area)


def decode_mask(mask: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A COCO run-length mask ``{"size": [h, w], "counts": …}`` as uint8 [h, w].

    Runs alternate between 0 and 1 down the columns. As text, a count is a little-endian chain of 6-bit characters (five
    bits and "more follows", offset 48), from the third on as the difference to the count two before
    (https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).
    """
    height, width = (int(side) for side in numbers(mask["size"], 2))
    if height < 1 or width < 1 or height * width > _MOST_PIXELS:
        raise UnusableError(f"a mask of {width} × {height} is not possible")
    counts = mask["counts"]
    runs = _decode_counts(counts) if isinstance(counts, (str, bytes)) else [int(run) for run in counts]
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise UnusableError(f"the runs of the mask do not add up to its {width} × {height} pixels")
    flat = np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs)
    return flat.reshape(width, height).T


def _decode_counts(text: str | bytes) -> list[int]:
    codes = text.encode("latin-1", "replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UnusableError("the counts of the mask hold a character that none may have, or a number without end")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise UnusableError("the counts of the mask end in the middle of a number")
    return runs


def mask_outline(mask: npt.NDArray[np.uint8]) -> FloatArray:
    """Outline [N, 2] in pixels of a mask's largest connected part, without its holes."""
    from rasterio.features import shapes

    rings = [np.asarray(shape["coordinates"][0][:-1]) for shape, _ in shapes(mask, mask=mask > 0)]
    if not rings:
        raise UnusableError("the mask is empty")
    return max(rings, key=lambda ring: SceneObject("", tuple(map(tuple, ring))).area)


def simplify(ring: FloatArray, tolerance: float = 1.0) -> FloatArray:
    """Leave out points of a closed outline [N, 2] that lie within ``tolerance`` of what remains (Douglas–Peucker)."""
    opposite = int(np.argmax(np.hypot(*(ring - ring[0]).T)))
    closed = np.vstack([ring, ring[:1]])
    keep = {0, opposite}
    spans = [(0, opposite), (opposite, len(ring))]
    while spans:
        first, last = spans.pop()
        along = closed[last] - closed[first]
        offsets = closed[first + 1 : last] - closed[first]
        length = np.hypot(*along)
        far = np.abs(offsets @ [-along[1], along[0]]) / length if length else np.hypot(*offsets.T)
        if far.size and far.max() > tolerance:
            middle = first + 1 + int(far.argmax())
            keep.add(middle)
            spans += [(first, middle), (middle, last)]
    kept = ring[sorted(keep)]
    return kept if len(kept) >= 3 else ring
