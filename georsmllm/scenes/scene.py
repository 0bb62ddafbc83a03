"""Generated scenes: a georeferenced picture from a seed, with labels that are exact because they come first."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.io import MemoryFile

from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.scenes.captions import captions
from gmrt.georsmllm.scenes.labels import labels_of, valid_mask
from gmrt.georsmllm.scenes.layouts import KINDS, LAYOUTS
from gmrt.georsmllm.scenes.layouts.site import Site
from gmrt.georsmllm.scenes.look import Look, Sensor, draw_look
from gmrt.georsmllm.scenes.plan import Plan
from gmrt.georsmllm.scenes.raster import FloatArray
from gmrt.georsmllm.scenes.render import render
from gmrt.georsmllm.scenes.sensors import BANDS, CHANNELS, ByteArray, expose
from gmrt.georsmllm.scenes.styles import STYLES_TRAIN, Style
from gmrt.runtime.errors import SceneError

_SPLITS = {"train": 1, "test": 2}


@dataclass(frozen=True)
class GeneratedScene:
    """A picture and everything that is true of it.

    ``image`` uint8 [H, W, C] with the bands named in ``bands``; ``valid`` bool [H, W]; ``cover`` uint8 [H, W], the
    index of each pixel's land cover in `plan.COVERS`; ``gsd`` metres per pixel; ``crs`` and ``transform`` place it on
    Earth (nothing in it is a real place).
    """

    image: ByteArray
    bands: tuple[str, ...]
    valid: npt.NDArray[np.bool_]
    cover: ByteArray
    labels: SceneLabels
    gsd: float
    crs: str
    transform: Affine
    sensor: Sensor
    seed: int
    kind: str
    style: str


def generate(
    seed: int, *, size: int = 256, kind: str | None = None, style: Style | None = None, sensor: Sensor = "rgb"
) -> GeneratedScene:
    """Make the scene of a seed: ``size`` × ``size`` pixels, of a ``kind`` (`KINDS`; chance decides when None).

    Without a ``style`` one of `STYLES_TRAIN` is taken. Styles for testing draw from seeds of their own, so no test
    scene shares its layout with a training scene. The same arguments give the same bytes. Raises `SceneError` when an
    argument does not fit.
    """
    rng = stream(seed, style)
    plan = make_plan(rng, size=size, kind=kind, style=style, sensor=sensor)
    return picture(plan, draw_look(rng), sensor, seed)


def stream(seed: int, style: Style | None, use: int = 0) -> np.random.Generator:
    """The chance behind a seed: apart for training and for testing, and for each ``use``."""
    if seed < 0:
        raise SceneError(f"the seed of a generated scene is a whole number from 0, got {seed}")
    return np.random.default_rng([_SPLITS[style.split if style else "train"], use, seed])


def make_plan(rng: np.random.Generator, *, size: int, kind: str | None, style: Style | None, sensor: Sensor) -> Plan:
    """Lay a scene out. Raises `SceneError` for an unknown kind or sensor, or a size that is not in 64…2048."""
    if kind is not None and kind not in LAYOUTS:
        raise SceneError(f"unknown kind of scene {kind!r}: choose one of {', '.join(KINDS)}")
    if sensor not in BANDS:
        raise SceneError(f"unknown sensor {sensor!r}: choose one of {', '.join(BANDS)}")
    if not 64 <= size <= 2048:
        raise SceneError(f"a generated scene is 64 to 2048 pixels wide, got {size}")
    chosen = style or STYLES_TRAIN[rng.integers(len(STYLES_TRAIN))]
    kind = kind or KINDS[rng.integers(len(KINDS))]
    layout = LAYOUTS[kind]
    low, high = np.log(layout.gsd)
    gsd = round(float(np.exp(rng.uniform(low, high))), 3)
    slant = rng.uniform(0, 2 * math.pi)
    reach = rng.uniform(0.02, 0.16) if rng.random() < 0.6 else 0.0
    site = Site(rng, chosen, size, gsd, _cut(rng, size), (reach * math.cos(slant), reach * math.sin(slant)))
    layout.lay_out(site)
    return site.plan(kind, layout.scene_class)


def _cut(rng: np.random.Generator, size: int) -> FloatArray:
    """At times the edge of the data runs through the picture: half-planes a·x + b·y ≤ c in pixels."""
    if rng.random() > 0.12:
        return np.zeros((0, 3))
    angle, depth = rng.uniform(0, 2 * math.pi), size * rng.uniform(0.22, 0.45)
    a, b = math.cos(angle), math.sin(angle)
    return np.array([[a, b, (a + b) * size / 2 + depth]])


def picture(plan: Plan, look: Look, sensor: Sensor, seed: int) -> GeneratedScene:
    """Render a plan under a look, and label it."""
    rendered = render(plan, look, CHANNELS[sensor])
    valid = valid_mask(plan)
    image = expose(rendered.signals, look, sensor)
    np.maximum(image, 1, out=image)  # 0 is nodata
    image[~valid] = 0
    labels = labels_of(plan, rendered, valid, sensor)
    labels = replace(labels, captions=captions(labels, plan.facts, np.random.default_rng([3, look.seed])))
    crs, transform = place(plan, seed)
    style = plan.style.name
    bands = BANDS[sensor]
    return GeneratedScene(
        image, bands, valid, rendered.cover, labels, plan.gsd, crs, transform, sensor, seed, plan.kind, style
    )


def place(plan: Plan, seed: int) -> tuple[str, Affine]:
    """A made-up place on Earth: a UTM zone and the affine of the pixels."""
    rng = np.random.default_rng([4, seed])
    zone = int(rng.integers(1, 61))
    east, north = float(rng.integers(300_000, 700_000)), float(rng.integers(3_000_000, 6_000_000))
    return f"EPSG:{32600 + zone}", Affine(plan.gsd, 0.0, east, 0.0, -plan.gsd, north)


def write_scene(scene: GeneratedScene, path: str | os.PathLike[str]) -> None:
    """Write the picture as a GeoTIFF with band names; nodata is 0 where some of it is not valid.

    The file appears under its name only when it is complete. Raises `SceneError` when it cannot be written.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise SceneError(f"{target}: there is no folder {target.parent} to write into: make it first")
    height, width, count = scene.image.shape
    known = {"crs": scene.crs, "transform": scene.transform, "nodata": None if scene.valid.all() else 0}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=count, dtype="uint8", compress="deflate", **known
        ) as dataset:
            dataset.write(scene.image.transpose(2, 0, 1))
            dataset.descriptions = scene.bands
            about = f"generated scene, {scene.kind}, {scene.sensor}, seed {scene.seed}: no real place"
            dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=about)
        data = bytes(memory.getbuffer())
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SceneError(f"{target}: cannot be written ({error.strerror}): choose another place") from None
