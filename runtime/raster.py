"""From a dataset that GDAL has open to eight-bit pixels and a mask.

Pixels depend on nothing but pixels: the same values as PNG, GeoTIFF, COG or VRT give the identical array. Values of
eight bits are taken as they are; all others are stretched linearly, once for the whole scene and with one pair of
limits for its three bands, so that neither a tile nor a band changes colour against its neighbours.

Importing this module imports rasterio, which takes longer than the rest of the runtime together: import it lazily.
"""

from __future__ import annotations

import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from gmrt.runtime.errors import SceneError, SceneNotFoundError, SceneReadError

ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

_SAMPLES = 1 << 20  # values that the limits of a stretch are measured on
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_EXACT = 1 << 27  # pixels up to which a reduction reads every pixel, so that stored overviews cannot change the result

# Addresses on the network, as rasterio and as GDAL write them.
_REMOTE = re.compile(
    r"(^|\+)(https?|ftp|s3|gs|az|adls|oss|swift|hdfs)://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)"
)
# Not a plain file: an address, one of GDAL's virtual file systems, a subdataset such as NETCDF:"file.nc":name.
_INDIRECT = re.compile(r"/vsi|[A-Za-z][\w+.-]+:")
# A local file may name others on the network (a VRT's sources, a WMS description). With a proxy that does not exist
# GDAL opens no socket for them: only what the caller names is fetched.
_OFFLINE = {
    "GDAL_HTTP_PROXY": "offline://-",
    "GDAL_HTTPS_PROXY": "offline://-",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "-",
}


@contextmanager
def open_raster(path: str | os.PathLike[str], max_side: int) -> Iterator[DatasetReader]:
    """Open ``path`` for reading with at most ``max_side`` pixels a side.

    The network is used only when ``path`` itself is an address on it. Stored overviews are used only for rasters that
    are remote or huge. Raises `SceneNotFoundError` or `SceneError`.
    """
    name = os.fspath(path)
    remote = _REMOTE.search(name) is not None
    _check_file(name)
    with quiet(**({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if remote else _OFFLINE)):
        try:
            dataset = rasterio.open(name)
            width, height = dataset.width, dataset.height
            reducing = max(width, height) > max_side and dataset.count > 0 and bool(dataset.overviews(1))
            if reducing and width * height <= _EXACT and not remote:
                dataset.close()
                dataset = rasterio.open(name, OVERVIEW_LEVEL="NONE")
        except RasterioError as error:
            reason = _reason(error, name)
            why = "" if "not recognized" in reason else f" ({reason})"
            raise SceneError(f"{name}: is not an image or raster that can be opened{why}") from None
        with dataset:
            yield dataset


@contextmanager
def open_image(data: bytes) -> Iterator[DatasetReader]:
    """Open the bytes of a JPEG or PNG file. Raises `SceneError`."""
    driver = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if driver is None:
        raise SceneError(f"image: its {len(data)} bytes are neither a JPEG nor a PNG file")
    with quiet(**_OFFLINE), MemoryFile(data) as memory:
        try:
            dataset = rasterio.open(memory.name, driver=driver)
        except RasterioError as error:
            raise SceneError(
                f"image: its {len(data)} bytes are a broken {driver} file ({_reason(error, '')})"
            ) from None
        with dataset:
            yield dataset


def read_pixels(
    dataset: DatasetReader, indexes: tuple[int, ...], shape: tuple[int, int], source: str
) -> tuple[ByteArray, BoolArray, tuple[str, ...]]:
    """Read one (grey) or three bands as uint8 [H, W, 3] with ``shape`` = (H, W), and a mask bool [H, W].

    Masked pixels are zero. The third value is a sentence for each thing that was done to the values. ``source`` is
    what messages call the file. Raises `SceneError` for complex values and for a raster without any data, and
    `SceneReadError` for one that fails to be read.
    """
    kinds = [dataset.dtypes[index - 1] for index in indexes]
    if any(kind.startswith("complex") for kind in kinds):
        raise SceneError(
            f"{source}: its values are complex ({kinds[0]}), and a picture needs real ones: convert it first"
        )
    try:
        rgb, valid, notes = _read(dataset, indexes, kinds, shape)
    except (RasterioError, MemoryError) as error:
        raise SceneReadError(
            f"{source}: opens, but its pixels cannot be read ({_reason(error, source)}); "
            "it is damaged or incomplete: copy it again"
        ) from None
    if not valid.any():
        raise SceneError(f"{source}: holds no data: every pixel is masked, transparent or nodata")
    if not valid.all():
        rgb[~valid] = 0  # what lies under a mask differs between formats, and is not part of the scene
    return rgb, valid, notes


def encode_png(rgb: ByteArray, *, level: int = 6) -> bytes:
    """Encode uint8 [H, W, 3] as PNG; ``level`` 0…9 is how hard zlib tries."""
    height, width, _ = rgb.shape
    with quiet(), MemoryFile() as memory:
        with memory.open(driver="PNG", width=width, height=height, count=3, dtype="uint8", zlevel=level) as dataset:
            dataset.write(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return bytes(memory.read())


def stretch(values: npt.NDArray[Any], low: float, high: float) -> ByteArray:
    """Map ``low``…``high`` linearly to 0…255, rounded and clipped, as uint8 of the same shape.

    NaN becomes 0, and a flat scene (low = high) mid-grey.
    """
    if high <= low:
        return np.full(values.shape, 128, dtype=np.uint8)
    exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
    scaled = values.astype(np.float32 if exact else np.float64)
    with np.errstate(over="ignore"):  # what overflows lies far beyond the limits, and is clipped
        scaled -= low
        scaled *= 255.0 / (high - low)
    if values.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.rint(np.clip(scaled, 0.0, 255.0, out=scaled), out=scaled).astype(np.uint8)


def _read(
    dataset: DatasetReader, indexes: tuple[int, ...], kinds: list[str], shape: tuple[int, int]
) -> tuple[ByteArray, BoolArray, tuple[str, ...]]:
    palette = _palette(dataset, indexes)
    # The mean of two palette indexes is a third colour that neither pixel has.
    resampling = Resampling.average if palette is None else Resampling.nearest
    options = {"indexes": list(indexes), "out_shape": (len(indexes), *shape), "resampling": resampling}
    values = dataset.read(**options, out_dtype=np.result_type(*kinds))
    if all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums):
        present = np.ones(values.shape, dtype=np.bool_)
    else:
        present = np.asarray(dataset.read_masks(**options), dtype=np.bool_)
    if palette is not None:
        colours = palette[values[0]]
        return colours[:, :, :3].copy(), present[0] & (colours[:, :, 3] > 0), ("The colours are those of its palette.",)
    if values.dtype.kind == "f":
        present[~np.isfinite(values)] = False
    # A zero in one band of three is a dark pixel; any other nodata value in one band leaves nothing to draw.
    dark = all(dataset.nodatavals[index - 1] == 0 for index in indexes)
    valid: BoolArray = np.logical_or.reduce(present) if dark else np.logical_and.reduce(present)
    if not valid.any():
        return np.zeros((*shape, 3), dtype=np.uint8), valid, ()
    notes: tuple[str, ...] = () if len(indexes) == 3 else ("One band, shown in grey.",)
    if values.dtype == np.uint8:
        low, high, note = _bit_range(dataset, indexes[0])
    else:
        low, high, note = _limits(values, present & valid)
    if note:
        values = np.stack([stretch(band, low, high) for band in values])
        notes = (*notes, note)
    rgb = np.ascontiguousarray(np.broadcast_to(values, (3, *shape)).transpose(1, 2, 0), dtype=np.uint8)
    return rgb, valid, notes


def _palette(dataset: DatasetReader, indexes: tuple[int, ...]) -> ByteArray | None:
    """Colour table [N, 4] of a single palette band, N large enough for its dtype; entries it lacks are transparent."""
    if len(indexes) != 1 or dataset.colorinterp[indexes[0] - 1] is not ColorInterp.palette:
        return None
    table = np.zeros((256 if dataset.dtypes[indexes[0] - 1] == "uint8" else 65536, 4), dtype=np.uint8)
    for index, colour in dataset.colormap(indexes[0]).items():
        table[index] = colour
    return table


def _bit_range(dataset: DatasetReader, index: int) -> tuple[float, float, str]:
    """Range of bytes that hold fewer than eight bits (a 1-bit PNG has 0 and 1); no sentence when they hold eight."""
    bits = int(dataset.tags(index, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    return 0.0, float(2**bits - 1), "" if bits >= 8 else f"Values of {bits} bit were scaled to 0…255."


def _limits(values: npt.NDArray[Any], present: BoolArray) -> tuple[float, float, str]:
    """Percentiles 2 and 98 of the scene's valid values, all bands together, on an even sample of them."""
    step = max(1, math.isqrt(values.size // _SAMPLES))
    sample = values[:, ::step, ::step][present[:, ::step, ::step]]
    if sample.size == 0:  # the few valid pixels fall between the samples
        sample = values[present]
    low, high = (float(limit) for limit in np.percentile(sample.astype(np.float64), (2, 98)))
    words = "percentiles 2 and 98"
    if low == high:  # one value nearly everywhere: the rest is the picture
        low, high, words = float(sample.min()), float(sample.max()), "lowest and highest"
    if low == high:
        return low, high, f"Every value ({values.dtype}) is {low:g}, shown as mid-grey."
    return low, high, f"Values ({values.dtype}) were stretched from {low:g}…{high:g}, their {words}, to 0…255."


def _check_file(name: str) -> None:
    """Refuse what GDAL would only call "not recognized", or wait for (a pipe)."""
    try:
        mode = Path(name).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if _INDIRECT.match(name):
            return
        raise SceneNotFoundError(f"{name}: no such file") from None
    except OSError as error:
        raise SceneReadError(f"{name}: cannot be read ({error.strerror})") from None
    if stat.S_ISDIR(mode):
        raise SceneError(f"{name}: is a folder, and an image is needed: name one of the files in it")
    if not stat.S_ISREG(mode):
        raise SceneError(f"{name}: is not a regular file, and an image is needed")


@contextmanager
def quiet(**options: str) -> Iterator[None]:
    """Use GDAL with these of its options, and without rasterio's warning that a picture has no place."""
    # GDAL reads a whole PNG faster in a way that, on a truncated file, returns uninitialised memory without an error.
    with warnings.catch_warnings(), rasterio.Env(**options, GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _reason(error: BaseException, name: str) -> str:
    """GDAL's own words on what went wrong, without the name that our sentence has given already."""
    said = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0].split(" (")[0]
    return said.removeprefix(f"{name}: ").removeprefix(f"{Path(name).name}, ").rstrip(".")
