"""A plan under a look becomes signals: ground, shadows, walls, things, trees, in that order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.scenes.item import CANOPY, GROUND, THINGS, Item, Parts, Stripes, gather
from gmrt.georsmllm.scenes.look import Look, season_tint
from gmrt.georsmllm.scenes.materials import CODES, ECHO, HEAT, signals_of
from gmrt.georsmllm.scenes.noise import FAMILIES, Field, grain, values
from gmrt.georsmllm.scenes.plan import COVER_CODES, COVERS, Plan
from gmrt.georsmllm.scenes.raster import Edges, FloatArray, IntArray, Patch, Planes, coverage, edges_of, fill, swept

_DARK = np.array([0.66, 0.62, 0.54, 0.68, 0.12, 0.88])  # what a shadow takes away from each signal
_SHADING = np.array([1.0, 1.0, 1.0, 1.0, 0.35, 1.3])  # how much each depends on which way a face looks
_BOUNCE = 150.0  # radar: echo from the corner between a wall and the ground
# Grain of each land cover: share of brightness for the coarse and for the fine field.
_GRAIN: dict[str, tuple[float, float]] = {
    "grass": (0.07, 0.05),
    "bare soil": (0.06, 0.035),
    "sand": (0.03, 0.035),
    "crop": (0.05, 0.035),
    "tree": (0.07, 0.12),
    "water": (0.05, 0.02),
    "pavement": (0.02, 0.024),
    "building": (0.03, 0.03),
    "solar panel": (0.03, 0.02),
}
# The GNU C library hands the memory of each large array back and asks for it anew: a tenth of the time of a scene.
# Once it has seen a larger one come and go, it keeps what it has.
np.empty(16 << 20, np.uint8)
_COARSE, _FINE = np.array([_GRAIN[name] for name in COVERS], np.float32).T.copy()


@dataclass(frozen=True)
class Rendered:
    """What a plan sends out.

    ``signals`` float32 [C, H, W] in 0…255 for the channels asked for, ``cover`` uint8 [H, W] (index in `COVERS`),
    ``height`` float32 [H, W] in metres.
    """

    signals: Planes
    cover: npt.NDArray[np.uint8]
    height: Planes


class Canvas:
    """Where a plan is drawn: ``image`` float32 [C, H, W], ``cover`` uint8 [H, W], in pixels of ``gsd`` metres."""

    def __init__(
        self, image: Planes, cover: npt.NDArray[np.uint8], gsd: float, look: Look, channels: list[int]
    ) -> None:
        self.image, self.cover, self.gsd, self.look, self.channels = image, cover, gsd, look, channels
        self.rows, self.columns = cover.shape
        self._tint, self._strength = season_tint(look.season)
        self._light = np.array(look.sun) * math.cos(look.elevation)

    def inks(self, parts: Parts) -> FloatArray:
        """What each polygon sends to each channel, lit and in season: [P, C]."""
        strength = self._strength[parts.materials]
        colours = parts.colours * (1 - strength) + self._tint[parts.materials] * strength
        light = 1 + (parts.tilts @ self._light)[:, None] * _SHADING
        inks: FloatArray = np.clip(signals_of(colours, parts.materials) * np.maximum(light, 0.2), 0, 255)
        return inks[:, self.channels]

    def paint(self, edges: Edges, inks: FloatArray, opacity: FloatArray) -> None:
        """Blend a batch of polygons into the image; where some overlap, their colours mix."""
        weights = np.concatenate([opacity[:, None], inks * opacity[:, None]], axis=1)
        patch = fill(edges, weights, self.rows, self.columns)
        if patch.empty:
            return
        alpha, colour = patch.planes[0], patch.planes[1:]
        window = self.image[:, patch.rows, patch.columns]
        if float(alpha.max()) > 1.01:
            colour = colour / np.maximum(alpha, 1.0)
            alpha = np.minimum(alpha, 1.0)
        window *= 1 - alpha
        window += colour

    def parts(self, parts: Parts, lifts: FloatArray | None = None) -> None:
        """Draw polygons, level by level; ``lifts`` [P, 2] shifts them (metres)."""
        points = parts.points if lifts is None else parts.points + np.repeat(lifts, parts.sizes, axis=0)
        edges, inks = edges_of(points / self.gsd, parts.sizes), self.inks(parts)
        inside = self._inside(points / self.gsd, parts.sizes)
        for level in np.unique(parts.levels[inside]):
            chosen = (inside & (parts.levels == level))[edges.owner]
            self.paint(Edges(edges.ends[chosen], edges.owner[chosen]), inks, parts.opacity)

    def _inside(self, points: FloatArray, sizes: IntArray) -> npt.NDArray[np.bool_]:
        """Which polygons may touch the picture."""
        starts = np.cumsum(sizes) - sizes
        if not len(starts):
            return np.zeros(0, bool)
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        inside: npt.NDArray[np.bool_] = np.all((high > 0) & (low < (self.columns, self.rows)), axis=1)
        return inside

    def shade(self, items: list[Item]) -> None:
        """Let things throw their shadows on what is drawn so far, and (radar) send back what meets a wall's foot."""
        _, casts = gather(items)
        if not len(casts.sizes):
            return
        away = np.array(self.look.shadow) / self.gsd
        points, heights = casts.points / self.gsd, casts.heights[:, None]
        lifted = points + np.repeat(casts.bases[:, None] * away, casts.sizes, axis=0)
        one = np.ones((len(casts.sizes), 1))
        shadows = swept(lifted, casts.sizes, (heights - casts.bases[:, None]) * away)
        patch = fill(shadows, one, self.rows, self.columns)
        if not patch.empty:
            alpha = np.minimum(patch.planes[0], 1)
            window = self.image[:, patch.rows, patch.columns]
            window *= 1 - _DARK[self.channels].astype(np.float32)[:, None, None] * alpha
        if ECHO in self.channels:
            foot = swept(points, casts.sizes, np.minimum(heights, 8.0) * 0.3 / self.gsd * np.array(self.look.sun))
            patch = fill(foot, one, self.rows, self.columns)
            if not patch.empty:
                window = self.image[self.channels.index(ECHO), patch.rows, patch.columns]
                window += np.minimum(patch.planes[0], 1) * np.float32(_BOUNCE)

    def mark(self, items: list[Item], height: Planes | None = None) -> None:
        """Write down the land cover of items, and how high they are."""
        names = list(dict.fromkeys(item.cover for item in items if item.cover))
        group = [item for item in items if item.cover or (height is not None and item.height > 0)]
        if not group:
            return
        weights = np.zeros((len(group), len(names) + 2))
        for index, item in enumerate(group):
            if item.cover:
                weights[index, names.index(item.cover)] = 1.0
            if item.height > 0:
                weights[index, -2:] = 1.0, item.height
        sizes = np.array([len(item.shape) for item in group])
        edges = edges_of(np.concatenate([item.outline for item in group]) / self.gsd, sizes)
        patch = fill(edges, weights if height is not None else weights[:, :-2], self.rows, self.columns)
        if patch.empty:
            return
        cover = self.cover[patch.rows, patch.columns]
        for name, share in zip(names, patch.planes, strict=False):
            cover[share >= 0.5] = COVER_CODES[name]
        if height is not None:
            metres, (share, rise) = height[patch.rows, patch.columns], patch.planes[-2:]
            metres *= 1 - np.minimum(share, 1.0)
            metres += rise / np.maximum(share, 1.0)


def render(plan: Plan, look: Look, channels: list[int]) -> Rendered:
    """Draw a plan as the look's sun and season show it; ``channels`` are indices of signals (see `materials`)."""
    rng = np.random.default_rng(plan.texture)
    image, cover = _bare(plan, look, channels, rng)
    canvas = Canvas(image, cover, plan.gsd, look, channels)
    for group in _together([item for item in plan.items if item.stage == GROUND]):
        _lay(canvas, group, rng)
    _grain(canvas, rng)
    height = np.zeros((plan.size, plan.size), np.float32)
    for stage in (THINGS, CANOPY):
        raise_items(canvas, [item for item in plan.items if item.stage == stage], plan.lean, height)
    np.clip(image, 0, 255, out=image)
    return Rendered(image, cover, height)


def raise_items(canvas: Canvas, items: list[Item], lean: tuple[float, float], height: Planes | None = None) -> None:
    """Draw what stands on the ground: shadows first, then walls, then roofs."""
    if not items:
        return
    canvas.shade(items)
    parts, _ = gather(items)
    lifts = None
    walled = [item for item in items if item.wall is not None]
    if walled and lean != (0.0, 0.0):
        rise = np.array([item.height if item.wall is not None else 0.0 for item in items])
        lifts = np.repeat(rise, [len(item.parts.sizes) for item in items])[:, None] * np.array(lean)
        shifts = np.array([[item.height] for item in walled]) * np.array(lean) / canvas.gsd
        outlines = np.concatenate([item.outline for item in walled]) / canvas.gsd
        edges = swept(outlines, np.array([len(item.outline) for item in walled]), shifts)
        colours = np.array([item.wall for item in walled])
        inks = signals_of(colours, np.full(len(walled), CODES["wall"]))[:, canvas.channels]
        canvas.paint(edges, inks, np.ones(len(walled)))
    canvas.parts(parts, lifts)
    canvas.mark(items, height)


def _together(items: list[Item]) -> Iterator[list[Item]]:
    """Ground items that can be drawn at once: neighbours in order, of one cover, without stripes."""
    for key, group in groupby(enumerate(items), lambda pair: (pair[1].cover, pair[0] if pair[1].stripes else -1)):
        del key
        yield [item for _, item in group]


def _lay(canvas: Canvas, items: list[Item], rng: np.random.Generator) -> None:
    """Draw flat things, and work their stripes into them."""
    parts, _ = gather(items)
    canvas.mark(items)
    canvas.parts(parts)
    for item in items:
        if item.stripes is None:
            continue
        patch = coverage(item.outline / canvas.gsd, canvas.rows, canvas.columns)
        if not patch.empty:
            window = canvas.image[:, patch.rows, patch.columns]
            window *= 1 + patch.planes[0] * _waves(item.stripes, patch, canvas.gsd, rng)


def _waves(stripes: Stripes, patch: Patch, gsd: float, rng: np.random.Generator) -> Field:
    """Dark and bright in turn, by how much they change brightness, over the pixels of a patch."""
    y = ((np.arange(patch.rows.start, patch.rows.stop) + 0.5) * gsd).astype(np.float32)[:, None]
    x = ((np.arange(patch.columns.start, patch.columns.stop) + 0.5) * gsd).astype(np.float32)[None]
    across = y * np.float32(math.cos(stripes.angle)) - x * np.float32(math.sin(stripes.angle))
    if stripes.wander:
        bend = values(rng, len(y), x.shape[1], max(8.0, max(across.shape) / 2))
        across = across + np.float32(stripes.wander) * bend
    phase = across / np.float32(stripes.period)
    phase -= np.floor(phase)
    dark = np.float32(stripes.share)
    edge = np.minimum(np.minimum(phase, 1 - phase), np.abs(phase - dark)) * np.float32(8)
    swing = np.where(phase < dark, np.float32(-1), dark / (1 - dark))
    waves: Field = np.float32(stripes.contrast) * swing * np.minimum(edge, np.float32(1))
    return waves


def _bare(
    plan: Plan, look: Look, channels: list[int], rng: np.random.Generator
) -> tuple[Planes, npt.NDArray[np.uint8]]:
    """The ground before anything is put on it, and its land cover."""
    size, ground, palette = plan.size, plan.ground, plan.style.palette
    names = plan.style.textures
    cell = max(ground.cell / plan.gsd, 6.0)
    mix = np.clip(0.5 + 0.3 * FAMILIES[names[0]](rng, size, size, cell), 0, 1)
    where = FAMILIES[names[1]](rng, size, size, cell * 1.5)
    tint, strength = season_tint(look.season)

    def mixed(cover: str) -> Iterator[Field]:
        """A cover's two colours mixed, band by band: a band stays in the cache."""
        pair = {
            "grass": palette.grass,
            "bare soil": palette.soil,
            "sand": palette.sand,
            "water": palette.water,
            "crop": (palette.crops["green"], palette.crops["yellow"]),
            "tree": palette.canopy[:2],
            "pavement": palette.asphalt[:2],
        }[cover]
        code = CODES[COVERS[cover]]
        colours = np.array(pair) * (1 - strength[code]) + tint[code] * strength[code]
        low, high = signals_of(colours, np.full(2, code))[:, channels].astype(np.float32)
        for first, last in zip(low, high, strict=True):
            band: Field = mix * (last - first)
            band += first
            yield band

    image = np.stack(list(mixed(ground.cover)))
    cover = np.full((size, size), COVER_CODES[ground.cover], np.uint8)
    if ground.share > 0:
        # The share of a standard normal field above this level is about ``share``.
        level = float(np.quantile(where[::8, ::8], 1 - ground.share))
        alpha = np.clip(0.5 + (where - level) * 1.6, 0, 1)
        for index, other in enumerate(mixed(ground.patches)):
            image[index] += (other - image[index]) * alpha
        cover[alpha >= 0.5] = COVER_CODES[ground.patches]
    return image, cover


def _grain(canvas: Canvas, rng: np.random.Generator) -> None:
    """Roughen the ground, each cover in its own measure; woods get crowns that catch the light."""
    rows, columns = canvas.rows, canvas.columns
    coarse = values(rng, rows, columns, 5.0)
    fine = grain(rng, rows, columns)
    fine[1:] += np.float32(0.6) * fine[:-1]
    fine[:, 1:] += np.float32(0.6) * fine[:, :-1]
    coarse *= _COARSE[canvas.cover]
    fine *= _FINE[canvas.cover]
    factor = 1 + coarse + fine
    woods = canvas.cover == COVER_CODES["tree"]
    if woods.any():
        cell = max(5.5 / canvas.gsd, 3.0)
        crowns = values(rng, rows, columns, cell) + np.float32(0.5) * values(rng, rows, columns, cell / 2)
        step = max(1, round(cell / 3))
        right, down = round(step * canvas.look.sun[0]), round(step * canvas.look.sun[1])
        lit = crowns - np.roll(crowns, (-down, -right), axis=(0, 1))
        factor += np.where(woods, np.float32(0.22) * lit + np.float32(0.12) * crowns, np.float32(0))
    np.maximum(factor, np.float32(0.3), out=factor)
    for index, channel in enumerate(canvas.channels):
        canvas.image[index] *= 1 + np.float32(0.25) * (factor - 1) if channel == HEAT else factor
