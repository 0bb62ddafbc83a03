"""Tiles: random crops of a labelled image at random scales, with the objects that are left in them.

For images whose objects are too small for a model's input, and to have more of few images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gmrt.georsmllm.data import Example
from gmrt.georsmllm.objects import FloatArray, SceneLabels, SceneObject
from gmrt.georsmllm.shapes import area, minimal_rotated_box
from gmrt.runtime.image import resize
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import decode_image

SCALES = (0.7, 1.4)
"""Pixels of a tile per pixel of the image, at least and at most."""
KEPT = 0.4
"""An object with less than this share of its area in the tile is left out: it can hardly be told what it is."""
UNSEEN = 0.02
"""Of an object left out, up to this share may be in the tile without anybody seeing that there is one."""


@dataclass(frozen=True)
class Window:
    """A part of an image in 0…1 of its width and height: left, top, right, bottom."""

    x0: float
    y0: float
    x1: float
    y1: float


def tiles(example: Example, size: int, per_image: int, rng: np.random.Generator) -> list[Example]:
    """Cut ``per_image`` tiles of ``size`` × ``size`` pixels out of an example with ``labels``.

    A tile keeps the objects and which categories are listed in full; captions, questions, class and measures are about
    the whole image and are left behind. An image smaller than a tile at the scale drawn gives its largest square.
    """
    rgb = decode_image(example.image).rgb
    height, width = rgb.shape[:2]
    made = []
    for number in range(per_image):
        side = min(round(size / np.exp(rng.uniform(*np.log(SCALES)))), height, width)
        left, top = (int(rng.integers(0, length - side + 1)) for length in (width, height))
        pixels = resize(rgb[top : top + side, left : left + side], size, size)
        window = Window(left / width, top / height, (left + side) / width, (top + side) / height)
        labels = crop_labels(example.labels or SceneLabels(), window)
        image = encode_png(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        made.append(Example(f"{example.name}@{left},{top}+{side}-{number}", image, labels=labels))
    return made


def crop_labels(labels: SceneLabels, window: Window) -> SceneLabels:
    """The objects in a window of the image, in 0…1 of the window.

    What is cut keeps the part inside when that is at least `KEPT` of it; otherwise it is left out, and its category is
    no longer listed in full.
    """
    objects, cut = [], set()
    for thing in labels.objects:
        inside = clipped(thing.points, window)
        share = area(inside) / thing.area if len(inside) and thing.area > 0 else 0.0
        if share >= KEPT:
            objects.append(_placed(thing, inside, window))
        elif share > UNSEEN:
            cut.add(thing.category)
    return SceneLabels(objects=tuple(objects), exhaustive=labels.exhaustive - cut)


def _placed(thing: SceneObject, inside: FloatArray, window: Window) -> SceneObject:
    if thing.exact == "obb" and len(inside) != 4:  # cut, and a rotated box has four corners
        inside = minimal_rotated_box(inside)
    shares = (inside - (window.x0, window.y0)) / (window.x1 - window.x0, window.y1 - window.y0)
    outline = tuple((float(x), float(y)) for x, y in np.clip(shares, 0.0, 1.0))
    # Small and large are meant among the things of the whole image.
    attributes = {kind: value for kind, value in thing.attributes.items() if kind != "size"}
    return replace(thing, outline=outline, attributes=attributes)


def clipped(outline: FloatArray, window: Window) -> FloatArray:
    """The part of an outline [N, 2] inside a window, [M, 2], empty when there is none (Sutherland and Hodgman 1974).

    The parts of an outline that the window cuts in two stay joined along its edge.
    """
    points = np.asarray(outline, dtype=np.float64)
    for axis, limit, sign in ((0, window.x0, 1), (0, window.x1, -1), (1, window.y0, 1), (1, window.y1, -1)):
        inside = sign * (points[:, axis] - limit)
        kept: list[FloatArray] = []
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if inside[i] >= 0:
                kept.append(points[i])
            if (inside[i] > 0 > inside[j]) or (inside[i] < 0 < inside[j]):
                kept.append(points[i] + (points[j] - points[i]) * inside[i] / (inside[i] - inside[j]))
        points = np.array(kept).reshape(-1, 2)
    return points
