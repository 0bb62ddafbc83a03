"""Products that are more than one file: which band lies where, and what its numbers mean.

Folders are read by `gmrt.runtime.folders`, STAC items by `gmrt.runtime.stac`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gmrt.runtime.errors import SceneReadError

_METADATA = re.compile(r"^MTD_MSIL..\.xml$|^manifest\.safe$|_MTL\.\w+$")


@dataclass(frozen=True)
class BandFile:
    """One band of a product: band ``index`` of the file ``path``, its name, role and wavelength in nanometres.

    Values times ``scale`` plus ``offset`` are what is meant; ``nodata`` is used where the file has none.
    """

    path: str
    name: str
    index: int = 1
    role: str | None = None
    wavelength: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None


@dataclass(frozen=True)
class Product:
    """Bands of one scene. ``reflectance`` says that scaled values below 3 µm are reflectances in 0…1.

    ``words`` says what was taken for one scene, ``notes`` what else is worth knowing.
    """

    path: str
    bands: tuple[BandFile, ...]
    words: str
    reflectance: bool = False
    notes: tuple[str, ...] = ()


def find_product(path: str) -> Product | None:
    """The product at ``path`` (a folder, a STAC item, a product's own metadata file), None where there is none.

    Raises `SceneError` for one that is there and cannot be used, and `SceneReadError` for metadata that cannot be read.
    """
    from gmrt.runtime.folders import read_folder
    from gmrt.runtime.stac import read_item

    where = Path(path)
    try:
        folder, file = where.is_dir(), where.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return None
    if folder or not file:
        return read_folder(where) if folder else None
    if _METADATA.search(where.name):
        return read_folder(where.parent)
    return read_item(where, read_text(where)) if where.suffix.lower() in (".json", ".geojson") else None


def read_text(path: Path) -> str:
    """The text of a metadata file; raises `SceneReadError`."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SceneReadError(f"{path}: cannot be read ({error.strerror})") from None
