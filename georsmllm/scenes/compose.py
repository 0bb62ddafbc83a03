"""Drawn objects on a real picture: boxes and outlines that are exact, over a background that nobody drew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.scenes.captions import captions
from gmrt.georsmllm.scenes.item import GROUND, THINGS, Parts, gather
from gmrt.georsmllm.scenes.labels import objects_of
from gmrt.georsmllm.scenes.layouts.site import LAND, PAVED, TAKEN, WATER, Site
from gmrt.georsmllm.scenes.look import Look, draw_look
from gmrt.georsmllm.scenes.noise import grain
from gmrt.georsmllm.scenes.plan import Plan
from gmrt.georsmllm.scenes.raster import FloatArray, Planes
from gmrt.georsmllm.scenes.render import Canvas, raise_items
from gmrt.georsmllm.scenes.scene import GeneratedScene, place, stream
from gmrt.georsmllm.scenes.sensors import BANDS, CHANNELS, ByteArray, blurred
from gmrt.georsmllm.scenes.styles import STYLES_TRAIN, Style
from gmrt.runtime.errors import SceneError

UNKNOWN_COVER = 255
"""What `GeneratedScene.cover` holds where nobody knows the land cover: everywhere on a real background."""


@dataclass(frozen=True)
class Planted:
    """How a category is put on a background.

    On what ground, how long (metres), in which colours, how many at most, and how far apart (lengths) when they stand
    in a row, which they do at times.
    """

    on: tuple[int, ...]
    length: tuple[float, float]
    colours: tuple[tuple[str, float], ...]
    most: int
    step: float


_PAINTS = (("white", 4.0), ("grey", 2.0), ("black", 1.0), ("red", 1.5), ("blue", 1.5), ("yellow", 0.7), ("green", 0.7))
_ROOFS = (("grey", 3.0), ("red", 2.0), ("brown", 2.0), ("white", 1.5), ("blue", 1.0))
_PLANTED: dict[str, Planted] = {
    "airplane": Planted(
        (PAVED, LAND), (9.0, 50.0), (("white", 5.0), ("grey", 2.0), ("blue", 1.0), ("red", 1.0)), 6, 1.4
    ),
    "car": Planted((PAVED, LAND), (4.2, 4.9), _PAINTS, 12, 0.65),
    "truck": Planted((PAVED, LAND), (7.0, 14.0), _PAINTS, 6, 0.5),
    "storage tank": Planted((PAVED, LAND), (8.0, 32.0), _PAINTS, 8, 1.5),
    "house": Planted((LAND, PAVED), (9.0, 18.0), _ROOFS, 8, 1.5),
    "building": Planted((PAVED, LAND), (20.0, 60.0), _ROOFS, 4, 1.3),
    "swimming pool": Planted((LAND,), (6.0, 11.0), (), 5, 2.0),
    "tree": Planted((LAND,), (4.0, 11.0), (), 12, 1.1),
    "boat": Planted((WATER,), (5.0, 16.0), _PAINTS, 8, 0.7),
    "ship": Planted((WATER,), (40.0, 160.0), _PAINTS, 3, 0.4),
}
_LONGEST = 0.45  # of the picture's side: nothing planted is longer


class _Matched(Canvas):
    """A canvas whose inks are brought to the brightness and colour of the picture that they go on."""

    def __init__(self, image: Planes, gsd: float, look: Look) -> None:
        unknown = np.full(image.shape[1:], UNKNOWN_COVER, np.uint8)
        super().__init__(image, unknown, gsd, look, CHANNELS["rgb"])
        low, high = np.quantile(image[:, ::4, ::4], (0.01, 0.99), axis=(1, 2))
        tone = np.clip(high / max(float(high.mean()), 1.0), 0.88, 1.12)
        self._low = np.clip(low, 4, 60)
        self._gain = (np.clip(float(high.mean()), 165, 245) * tone - self._low) / 240

    def inks(self, parts: Parts) -> FloatArray:
        """As `Canvas.inks`, matched."""
        matched: FloatArray = super().inks(parts) * self._gain + self._low
        return matched


def compose(
    background: ByteArray,
    seed: int,
    *,
    gsd: float = 0.3,
    style: Style | None = None,
    absent: frozenset[str] = frozenset(),
) -> GeneratedScene:
    """Put drawn objects on a real picture, uint8 [H, W, 3] of ``gsd`` metres per pixel.

    A picture that is not square is cut to the square in its middle. Objects stand where the picture is smooth; boats
    and ships where it looks like water. They bring their shadows, and take on the picture's brightness, colour cast,
    sharpness and grain. Only the objects put there are listed, so categories are exhaustive, and spoken of in
    captions, only when they are ``absent`` from the background, as the caller knows. The place on Earth is made up.
    Raises `SceneError` when the picture is not one of at least 64 × 64 pixels with three bands.
    """
    if (
        background.ndim != 3
        or background.shape[2] != 3
        or background.dtype != np.uint8
        or min(background.shape[:2]) < 64
    ):
        raise SceneError(
            f"a background is uint8 [H, W, 3] of at least 64 × 64 pixels, got {background.dtype} {background.shape}"
        )
    rng = stream(seed, style, use=2)
    size = min(background.shape[:2])
    top, left = (background.shape[0] - size) // 2, (background.shape[1] - size) // 2
    square = background[top : top + size, left : left + size]
    chosen = style or STYLES_TRAIN[rng.integers(len(STYLES_TRAIN))]
    slant, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.1)
    lean = reach * math.cos(slant), reach * math.sin(slant)
    site = Site(rng, chosen, size, gsd, np.zeros((0, 3)), lean)
    picture = np.ascontiguousarray(square.transpose(2, 0, 1)).astype(np.float32)
    site.survey(_ground(picture))
    _plant(site)
    look = replace(draw_look(rng), season="summer")
    plan = site.plan("composed", "")
    image = _blend(picture, plan, look)
    labels = SceneLabels("", (), objects_of(plan, "rgb"), absent)
    if any(one.category in absent for one in labels.objects):
        labels = replace(labels, captions=captions(labels, (), rng))
    crs, transform = place(plan, seed)
    everywhere = np.ones((size, size), bool)
    unknown = np.full((size, size), UNKNOWN_COVER, np.uint8)
    return GeneratedScene(
        image, BANDS["rgb"], everywhere, unknown, labels, gsd, crs, transform, "rgb", seed, "composed", chosen.name
    )


def _ground(picture: Planes) -> npt.NDArray[np.uint8]:
    """What each pixel may carry: rough ground nothing, smooth ground things by how green or dark and blue it is."""
    smooth = blurred(blurred(picture, 1.2), 1.2)
    red, green, blue = smooth
    light = smooth.mean(axis=0)
    rough = blurred(np.abs(picture.mean(axis=0) - light)[None], 1.3)[0]
    rough = blurred(rough[None], 1.3)[0]
    ground = np.full(light.shape, PAVED, np.uint8)
    ground[(green > red * 1.03) & (green > blue * 1.03)] = LAND
    bluish = (light < 110) & (np.maximum(blue, green) > red * 1.12) & (blue > green * 0.86)
    ground[(rough < 6) & (bluish | ((red < 42) & (light < 78)))] = WATER
    ground[rough > max(9.0, float(np.quantile(rough, 0.35)))] = TAKEN
    return ground


def _plant(site: Site) -> None:
    """Put down one to three categories, in rows or scattered."""
    fitting = [
        name for name, how in _PLANTED.items() if how.length[0] > 7 * site.gsd and how.length[0] < _LONGEST * site.side
    ]
    for index in site.rng.permutation(len(fitting))[: site.rng.integers(1, 5)]:
        category = fitting[index]
        how = _PLANTED[category]
        length = site.rng.uniform(how.length[0], max(how.length[0], min(how.length[1], _LONGEST * site.side)))
        wanted, row = int(site.rng.integers(1, how.most + 1)), site.chance(0.5)
        for _ in range(40):
            if site.count(category) >= wanted:
                break
            x, y = site.rng.uniform(0.05, 0.95, 2) * site.side
            angle = site.rng.uniform(0, 2 * math.pi)
            for step in range(wanted if row else 1):
                item = site.draw(category, *([site.colour(*how.colours)] if how.colours else []), length)
                aside = step * how.step * length
                if site.count(category) >= wanted or not site.put(
                    item.moved(x - aside * math.sin(angle), y + aside * math.cos(angle), angle), how.on, slack=0.03
                ):
                    break


def _blend(picture: Planes, plan: Plan, look: Look) -> ByteArray:
    """Draw the objects, soften what was drawn as the picture is soft, and give it the picture's grain."""
    rng = np.random.default_rng(look.seed)
    canvas = _Matched(picture.copy(), plan.gsd, look)
    flat = [item for item in plan.items if item.stage == GROUND]
    if flat:
        canvas.parts(gather(flat)[0])
    for stage in range(THINGS, THINGS + 2):
        raise_items(canvas, [item for item in plan.items if item.stage == stage], plan.lean)
    detail = picture - blurred(picture, 0.8)
    rough = 1.48 * float(np.median(np.abs(detail - np.median(detail))))
    change = blurred(canvas.image - picture, 0.65)
    touched = np.clip(np.abs(change).max(axis=0) / 12, 0, 1)
    change += touched * grain(rng, *picture.shape) * np.float32(min(rough, 6.0))
    image: ByteArray = np.clip(np.rint(picture + change), 1, 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))
