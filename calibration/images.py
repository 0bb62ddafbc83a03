"""Where calibration images come from: a folder, a parquet file, one raster, or scenes that are generated.

Pictures are opened when they are needed and through the reader of the field, so a set of any size costs the memory of
one, and the ranges are measured on what the model will be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.data import read_parquet
from gmrt.georsmllm.scenes import KINDS, generate
from gmrt.runtime.errors import SceneError
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.scene import Scene, decode_image, read_scene, scene_from_array

FloatArray = npt.NDArray[np.float32]

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt")
MINIMUM = 8
"""Fewer images say too little about a range; the export needs some for its gate besides."""

_CALIBRATE, _GATE = 64, 16
_GENERATED = 40
_MIN_SIDE = 64
_MAX_SIDE = 4096
_VALID = 0.5


@dataclass(frozen=True)
class ImageSet:
    """``source`` in words, and one function per picture that opens it."""

    source: str
    pictures: tuple[Callable[[], Scene], ...]

    def split(self, seed: int) -> tuple[ImageSet, ImageSet]:
        """Draw two sets with no picture in common: up to 64 to calibrate on, and two fifths, up to 16, for the gate."""
        order = np.random.default_rng(seed).permutation(len(self.pictures))
        held = min(_GATE, len(order) * 2 // 5)
        return self._pick(order[held : held + _CALIBRATE]), self._pick(order[:held])

    def spread(self, count: int) -> ImageSet:
        """At most ``count`` pictures, evenly spread over the set, in its order."""
        return self._pick(np.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures))).astype(int))

    def pixels(self, spec: ImageSpec) -> Iterator[FloatArray]:
        """Yield the pictures as the tower takes them, float32 [3, H, W], one in memory at a time."""
        for open_picture in self.pictures:
            scene = open_picture()
            yield prepare(scene.rgb, spec, scene.valid)

    def _pick(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> ImageSet:
        return ImageSet(self.source, tuple(self.pictures[int(i)] for i in indices))


def open_images(path: Path | str, spec: ImageSpec) -> ImageSet:
    """Find the pictures of a folder (and its sub-folders), a parquet file, or a raster, which is cut into tiles.

    Raises `SceneError` when there is nothing there or fewer than 8 pictures; a picture that cannot be read raises
    when it is opened, with its name.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        pictures: list[Callable[[], Scene]] = [partial(read_scene, f, max_side=_MAX_SIDE) for f in files]
        what = f"images ({', '.join(SUFFIXES)})"
    elif path.suffix.lower() == ".parquet":
        pictures = [partial(decode_image, example.image) for example in read_parquet(path)]
        what = "images"
    else:
        pictures, what = _tiles(read_scene(path, max_side=_MAX_SIDE), spec), "tiles with data in them"
    if len(pictures) < MINIMUM:
        raise SceneError(
            f"{path}: holds {len(pictures)} {what} and calibration needs {MINIMUM} or more: give it others"
        )
    return ImageSet(path.name, tuple(pictures))


def generated_images(seed: int = 0) -> ImageSet:
    """The set that is used when none is given: generated scenes of every kind, the same for the same seed."""
    return ImageSet(
        f"generated scenes ({', '.join(KINDS)})",
        tuple(partial(_generate, KINDS[i % len(KINDS)], seed + i) for i in range(_GENERATED)),
    )


@lru_cache(maxsize=_GENERATED)
def _generate(kind: str, seed: int) -> Scene:
    scene = generate(seed, kind=kind)
    return scene_from_array(scene.image, scene.valid)


def _tiles(scene: Scene, spec: ImageSpec) -> list[Callable[[], Scene]]:
    """Half-overlapping tiles, more than half full, of the model's size or of a quarter of a small raster."""
    rows, columns = scene.valid.shape
    height = max(_MIN_SIDE, min(spec.height, rows // 2))
    width = max(_MIN_SIDE, min(spec.width, columns // 2))
    corners = [
        (y, x)
        for y in range(0, rows - height + 1, max(1, height // 2))
        for x in range(0, columns - width + 1, max(1, width // 2))
        if scene.valid[y : y + height, x : x + width].mean() > _VALID
    ]
    return [partial(_cut, scene, y, x, height, width) for y, x in corners]


def _cut(scene: Scene, y: int, x: int, height: int, width: int) -> Scene:
    window = (slice(y, y + height), slice(x, x + width))
    return scene_from_array(scene.rgb[window], scene.valid[window])
