"""Opening rasters and pictures by GDAL, and writing PNG.

Importing this module imports rasterio, which takes longer than the rest of the runtime together: import it lazily.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from gmrt.runtime.errors import SceneError, SceneNotFoundError, SceneReadError

ByteArray = npt.NDArray[np.uint8]

_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_CACHE = 128 << 20  # bytes of decoded blocks that GDAL keeps
_EXACT = 1 << 27  # pixels up to which a reduction reads every pixel, so that stored overviews cannot change the result

# Addresses on the network, as rasterio and as GDAL write them.
_REMOTE = re.compile(
    r"(^|\+)(https?|ftp|s3|gs|az|adls|oss|swift|hdfs)://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)"
)
# Not a plain file: an address, one of GDAL's virtual file systems, a subdataset such as NETCDF:"file.nc":name.
_INDIRECT = re.compile(r"/vsi|[A-Za-z][\w+.-]+:")
_FOLDED = re.compile(r"^((?:/vsi\w+/)?(?:https?|ftp|s3|gs|az|adls|oss|swift|hdfs)):/(?!/)")
_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip|7z|rar)/)([^/]+)/")
# A local file may name others on the network (a VRT's sources, a WMS description). With a proxy that does not exist
# GDAL opens no socket for them: only what the caller names is fetched.
_OFFLINE = {
    "GDAL_HTTP_PROXY": "offline://-",
    "GDAL_HTTPS_PROXY": "offline://-",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "-",
}


class Source:
    """A raster that is open: its ``name``, rasterio's ``dataset``, and a way to reduce it that no overview changes."""

    def __init__(self, name: str, dataset: DatasetReader, *, remote: bool = False) -> None:
        self.name = name
        self.dataset = dataset
        self._remote = remote
        self._exact: DatasetReader | None = None

    def reducible(self) -> DatasetReader:
        """The dataset to read at less than its size: without its overviews, unless it is remote or huge.

        Nobody knows how stored overviews were made: with them the same pixels would be another picture as a COG. A
        JPEG 2000 file is left its own, which are what the whole is coded by.
        """
        dataset = self.dataset
        small = dataset.width * dataset.height <= _EXACT and not self._remote
        if not small or dataset.driver.startswith("JP2") or not dataset.overviews(1):
            return dataset
        if self._exact is None:
            self._exact = rasterio.open(self.name, OVERVIEW_LEVEL="NONE")
        return self._exact

    def close(self) -> None:
        """Close what `reducible` opened."""
        if self._exact is not None:
            self._exact.close()


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open ``path`` for reading.

    The network is used only when ``path`` itself is an address on it. Raises `SceneNotFoundError` or `SceneError`.
    """
    name = plain_path(path)
    remote = _REMOTE.search(name) is not None
    _check_file(name)
    with quiet(**({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if remote else _OFFLINE)):
        try:
            dataset = rasterio.open(name)
        except RasterioError as error:
            said = reason(error, name)
            why = "" if "not recognized" in said else f" ({said})"
            if name.lower().endswith(".zip"):
                why = f"; name a file in it, as /vsizip/{name}/…"
            raise SceneError(f"{name}: is not an image or raster that can be opened{why}") from None
        with dataset, closing(Source(name, dataset, remote=remote)) as source:
            yield source


def plain_path(path: str | os.PathLike[str]) -> str:
    """A path as text; a slash of an address or before an archive that pathlib has folded away is put back."""
    name = _FOLDED.sub(r"\1://", os.fspath(path))
    found = _ARCHIVE.match(name)
    if found and not Path(found[2]).exists() and Path(f"/{found[2]}").exists():
        return f"{found[1]}/{name[len(found[1]) :]}"
    return name


@contextmanager
def open_image(data: bytes) -> Iterator[Source]:
    """Open the bytes of a JPEG or PNG file. Raises `SceneError`."""
    driver = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if driver is None:
        raise SceneError(f"image: its {len(data)} bytes are neither a JPEG nor a PNG file")
    with quiet(**_OFFLINE), MemoryFile(data) as memory:
        try:
            dataset = rasterio.open(memory.name, driver=driver)
        except RasterioError as error:
            raise SceneError(f"image: its {len(data)} bytes are a broken {driver} file ({reason(error, '')})") from None
        with dataset:
            yield Source("image", dataset)


def encode_png(rgb: ByteArray, *, level: int = 6) -> bytes:
    """Encode uint8 [H, W, 3] as PNG; ``level`` 0…9 is how hard zlib tries."""
    height, width, _ = rgb.shape
    with quiet(), MemoryFile() as memory:
        with memory.open(driver="PNG", width=width, height=height, count=3, dtype="uint8", zlevel=level) as dataset:
            dataset.write(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return bytes(memory.read())


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
    if stat.S_ISREG(mode) and Path(name).stat().st_size == 0:
        raise SceneError(f"{name}: is empty, it has 0 bytes: copy it again")
    if not stat.S_ISREG(mode):
        raise SceneError(f"{name}: is not a regular file, and an image is needed")


@contextmanager
def quiet(**options: str) -> Iterator[None]:
    """Use GDAL with these of its options, and without rasterio's warning that a picture has no place."""
    # GDAL reads a whole PNG faster in a way that, on a truncated file, returns uninitialised memory without an error.
    # Its cache of blocks would grow to a twentieth of the machine's memory: a raster is read once, from top to bottom.
    settings: dict[str, Any] = {"GDAL_CACHEMAX": _CACHE, "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO", **options}
    with warnings.catch_warnings(), rasterio.Env(**settings):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def taken_at(dataset: DatasetReader) -> str:
    """A sentence with the position in a picture's EXIF, where a drone or a telephone was; empty without one."""
    tags = dataset.tags()
    place = []
    for name, reference in (("Latitude", "NS"), ("Longitude", "EW")):
        parts = re.findall(r"\(([\d.]+)\)", tags.get(f"EXIF_GPS{name}", ""))
        side = tags.get(f"EXIF_GPS{name}Ref", "").strip().upper()
        if len(parts) != 3 or side not in tuple(reference):
            return ""
        degrees, minutes, seconds = map(float, parts)
        place.append((degrees + minutes / 60 + seconds / 3600) * (1 if side == reference[0] else -1))
    return f"Taken at latitude {place[0]:.6f}, longitude {place[1]:.6f} (EXIF): the place of the camera."


def reason(error: BaseException, name: str) -> str:
    """GDAL's own words on what went wrong, without the name that our sentence has given already."""
    said = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0].split(" (")[0]
    return said.removeprefix(f"{name}: ").removeprefix(f"{Path(name).name}, ").rstrip(".")
