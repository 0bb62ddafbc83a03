"""Where calibration images come from: a folder, a parquet file, one raster, or scenes that are generated.

Pictures are opened when they are needed and through the reader of the field, so a set of any size costs the memory of
one, and what is measured is what the model will be shown. Large scenes are cut into tiles; tiles and files without data
are left out by their masks, before a pixel is read. Files are told apart by their sensor, as far as headers know it,
and every sensor has an equal share of a draw as long as it has pictures left.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmrt.georsmllm.data import ParquetRows
from gmrt.georsmllm.scenes import KINDS, generate
from gmrt.runtime.errors import SceneError, SceneReadError
from gmrt.runtime.image import ImageSpec, prepare
from gmrt.runtime.scene import Scene, decode_image, read_scene, scene_from_array

FloatArray = npt.NDArray[np.float32]
Window = tuple[int, int, int, int]

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt")
MINIMUM = 8
"""Fewer images say too little about a range; the export needs some for its gate besides."""

_CALIBRATE, _GATE = 64, 16
_GENERATED = 40
_MIN_SIDE = 64
_MAX_SIDE = 4096
_VALID = 0.5
_FILES = 2000  # files of a folder whose headers are read, evenly spread; a draw takes 80
_TILES = 32  # of one scene in a folder
_CELLS = 256  # a side of the small mask


@dataclass(frozen=True)
class Picture:
    """A picture that is read when called; ``sensor`` in words, ``questions`` returns what its dataset asks about it."""

    read: Callable[[], Scene]
    sensor: str = ""
    questions: Callable[[], tuple[str, ...]] = tuple

    def __call__(self) -> Scene:
        """Read it."""
        return self.read()


@dataclass(frozen=True)
class ImageSet:
    """``source`` in words, and its pictures in the order of their files."""

    source: str
    pictures: tuple[Picture, ...]

    @property
    def sensors(self) -> dict[str, int]:
        """How many pictures there are of each sensor."""
        return dict(sorted(Counter(picture.sensor for picture in self.pictures).items()))

    def of_sensor(self, name: str) -> ImageSet:
        """The pictures of one sensor."""
        return ImageSet(self.source, tuple(picture for picture in self.pictures if picture.sensor == name))

    def split(self, seed: int, calibrate: int = _CALIBRATE) -> tuple[ImageSet, ImageSet]:
        """Draw two sets with no picture in common: some to calibrate on, and two fifths, up to 16, for the gate.

        Both take as many of every sensor as there are, up to equal shares.
        """
        drawn = np.random.default_rng(seed).permutation(len(self.pictures))
        queues: dict[str, list[int]] = {}
        for index in drawn:
            queues.setdefault(self.pictures[index].sensor, []).append(int(index))
        for_gate = _take({s: q[: len(q) * 2 // 5] for s, q in queues.items()}, _GATE)
        taken = set(for_gate)
        rest = {sensor: [i for i in queue if i not in taken] for sensor, queue in queues.items()}
        return self._pick(sorted(_take(rest, calibrate))), self._pick(sorted(for_gate))

    def spread(self, count: int) -> ImageSet:
        """At most ``count`` pictures, evenly spread over the set, in its order."""
        return self._pick(_spread(len(self.pictures), count))

    def pixels(self, spec: ImageSpec) -> Iterator[FloatArray]:
        """Yield the pictures as the tower takes them, float32 [3, H, W], one in memory at a time."""
        for picture in self.pictures:
            scene = picture()
            yield prepare(scene.rgb, spec, scene.valid)

    def _pick(self, indices: Iterable[int]) -> ImageSet:
        return ImageSet(self.source, tuple(self.pictures[int(i)] for i in indices))


def _take(queues: Mapping[str, Sequence[int]], count: int) -> list[int]:
    """Take one from each queue in turn until there are ``count``, or none left."""
    places = sorted((place, name) for name, queue in queues.items() for place in range(len(queue)))
    return [queues[name][place] for place, name in places[:count]]


def _spread(length: int, count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, length - 1, min(count, length))]


def open_images(path: Path | str, spec: ImageSpec) -> ImageSet:
    """Find the pictures of a folder (and its sub-folders), a parquet file, or a raster, which is cut into tiles.

    Only headers and masks are read. Raises `SceneError` or `DatasetError` when there is nothing there, when fewer than
    8 pictures hold data, and, with its name, for a file that is no image or does not say which bands are red, green
    and blue; pixels that cannot be read raise when they are.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in (*SUFFIXES, ".parquet") and f.is_file())
        files = [files[i] for i in _spread(len(files), _FILES)] if files else []
        pictures = [picture for file in files for picture in _of_file(file, spec)]
        what = f"images with data in them ({', '.join(SUFFIXES)}, .parquet)"
    elif path.suffix.lower() == ".parquet":
        pictures, what = _of_file(path, spec), "images"
    else:
        pictures, what = _of_raster(path, spec, whole=False), "tiles with data in them"
    if len(pictures) < MINIMUM:
        raise SceneError(
            f"{path}: holds {len(pictures)} {what} and calibration needs {MINIMUM} or more: give it others"
        )
    return ImageSet(path.name, tuple(pictures))


def _of_file(file: Path, spec: ImageSpec) -> list[Picture]:
    if file.suffix.lower() != ".parquet":
        return _of_raster(file, spec, whole=True)
    rows = ParquetRows(file)
    return [Picture(partial(_decode, rows, i), file.stem, partial(_asked, rows, i)) for i in range(len(rows))]


def _decode(rows: ParquetRows, index: int) -> Scene:
    try:
        return decode_image(rows[index].image)
    except (SceneError, SceneReadError) as error:
        raise type(error)(f"{rows.path}, row {index}: {error}") from None


def _asked(rows: ParquetRows, index: int) -> tuple[str, ...]:
    return tuple(question.text for question in rows[index].questions)


def _of_raster(file: Path, spec: ImageSpec, *, whole: bool) -> list[Picture]:
    """Half-overlapping tiles, more than half full; a file of a folder (``whole``) is cut only where it is large."""
    shape, mask, sensor = _look(file)
    height, width = (
        max(_MIN_SIDE, min(side, n // 2)) for side, n in zip((spec.height, spec.width), shape, strict=True)
    )
    if whole and (shape[0] < 2 * spec.height or shape[1] < 2 * spec.width):
        return [Picture(partial(_scene, file), sensor)] if mask.mean() > _VALID else []
    corners = [
        (y, x)
        for y in range(0, shape[0] - height + 1, max(1, height // 2))
        for x in range(0, shape[1] - width + 1, max(1, width // 2))
        if _share(mask, shape, (y, x, height, width)) > _VALID
    ]
    if whole:
        corners = [corners[i] for i in _spread(len(corners), _TILES)] if corners else []
    return [Picture(partial(_cut, file, (y, x, height, width)), sensor) for y, x in corners]


def _share(mask: npt.NDArray[np.bool_], shape: tuple[int, int], window: Window) -> float:
    """Share of a window of the scene that has data, by its small mask."""
    y, x, height, width = window
    down, across = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
    rows = slice(int(y * down), max(int(y * down) + 1, math.ceil((y + height) * down)))
    columns = slice(int(x * across), max(int(x * across) + 1, math.ceil((x + width) * across)))
    return float(mask[rows, columns].mean())


def _look(file: Path) -> tuple[tuple[int, int], npt.NDArray[np.bool_], str]:
    """Height and width of the scene that a file gives, its mask, made small, and its sensor.

    Raises `SceneError` for a file that is none or does not say which of its bands are red, green and blue.
    """
    from rasterio.errors import RasterioError

    from gmrt.runtime.raster import open_source
    from gmrt.runtime.reader import SceneReader

    with open_source(file) as source:
        reader, dataset = SceneReader.of_file(source, str(file), None, None), source.dataset
        factor = min(1.0, _MAX_SIDE / max(dataset.shape))
        shape = max(1, round(dataset.height * factor)), max(1, round(dataset.width * factor))
        cells = min(shape[0], _CELLS), min(shape[1], _CELLS)
        try:
            mask = dataset.dataset_mask(out_shape=cells) > 0
        except RasterioError as error:
            raise SceneReadError(f"{file}: opens, but its mask cannot be read ({error}): copy it again") from None
        kind = ("grey", *reader.bands) if len(reader.bands) == 1 else ("colour",)
        decade = f", about {10 ** round(math.log10(reader.gsd)):g} m a pixel" if reader.gsd else ""
        return shape, mask, f"{' '.join(kind)} {dataset.dtypes[0]}{decade}"


# A raster's tiles follow one another, so one scene is read once for all of them.
_scene = lru_cache(maxsize=1)(partial(read_scene, max_side=_MAX_SIDE))


def _cut(file: Path, window: Window) -> Scene:
    y, x, height, width = window
    scene, part = _scene(file), (slice(y, y + height), slice(x, x + width))
    return scene_from_array(scene.rgb[part], scene.valid[part])


def generated_images(seed: int = 0) -> ImageSet:
    """The set that is used when none is given: generated scenes of every kind, the same for the same seed."""
    return ImageSet(
        f"generated scenes ({', '.join(KINDS)})",
        tuple(Picture(partial(_generate, KINDS[i % len(KINDS)], seed + i), "generated") for i in range(_GENERATED)),
    )


@lru_cache(maxsize=_GENERATED)
def _generate(kind: str, seed: int) -> Scene:
    scene = generate(seed, kind=kind)
    return scene_from_array(scene.image, scene.valid)
