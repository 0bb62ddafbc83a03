"""Folders that are one scene: Sentinel-2 and Sentinel-1 SAFE directories, Landsat scenes, single-band files.

Names and metadata decide, no raster is opened. Sources: Sentinel-2 Products Specification (quantification value and
offset), Landsat 8-9 Collection 2 Level-1 and Level-2 data format control books
(LSDS-1822, LSDS-1328).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gmrt.runtime.errors import SceneError
from gmrt.runtime.products import BandFile, Product, read_text
from gmrt.runtime.sensors import BAND_FILE, SENTINEL_2, band_table, plain_name, sentinel_2_offset

RASTERS = (".tif", ".tiff", ".jp2")

# What lies beside the bands: quality masks, previews, water vapour, aerosol.
_BESIDE = re.compile(
    r"(^|[-_.])(B?QA|QA_.*|SCL|TCI|AOT|WVP|PVI|MSK_?.*|CLD.*|SNW.*|thumb.*|preview|browse)([-_.]|$)", re.IGNORECASE
)
_LANDSAT_SCENE = re.compile(r"L[COTEM]0[4-9]_L\w{3}_\d{6}_\d{8}_.*")
_SURFACE, _SURFACE_OFFSET = 2.75e-5, -0.2  # Landsat Collection 2 Level-2 reflectance
_TOP, _TOP_OFFSET = 2e-5, -0.1  # Landsat Level-1 reflectance, before the sun's elevation
_KELVIN, _KELVIN_OFFSET = 0.00341802, 149.0  # Landsat Collection 2 Level-2 surface temperature


def read_folder(folder: Path) -> Product | None:
    """The product that a folder is, None for a folder of images; errors as `gmrt.runtime.products.find_product`."""
    if (folder / "GRANULE").is_dir():
        return _sentinel_2(folder)
    if (folder / "measurement").is_dir():
        return _sentinel_1(folder)
    return _plain(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in RASTERS and path.is_file())


def _sentinel_2(folder: Path) -> Product | None:
    """A Sentinel-2 SAFE directory: each band at its finest resolution."""
    granules = [path for path in sorted((folder / "GRANULE").iterdir()) if (path / "IMG_DATA").is_dir()]
    if len(granules) > 1:
        raise SceneError(f"{folder}: holds {len(granules)} granules, and a scene is one: take the others out")
    root = granules[0] / "IMG_DATA" if granules else folder
    finest: dict[str, tuple[int, Path]] = {}
    for path in sorted(root.rglob("*")):
        found = BAND_FILE.fullmatch(path.stem) if path.suffix.lower() in RASTERS else None
        if found and (name := found["band"].upper()) in SENTINEL_2:
            metres = int(found["metres"] or 0)
            if name not in finest or metres < finest[name][0]:
                finest[name] = metres, path
    if not finest:
        raise SceneError(f"{folder}: is a Sentinel-2 product without a band in GRANULE/*/IMG_DATA: copy it again")
    level, quantum, offsets, notes = _sentinel_2_metadata(folder)
    bands = tuple(
        BandFile(
            str(finest[name][1]), name, 1, one.role, one.wavelength,
            1 / quantum, (0.0 if offsets is None else offsets.get(name, 0.0)) / quantum, 0.0,
        )
        for name, one in SENTINEL_2.items() if name in finest
    )  # fmt: skip
    return Product(str(folder), bands, f"Sentinel-2 {level}".strip(), offsets is not None, notes)


def _sentinel_2_metadata(folder: Path) -> tuple[str, float, Mapping[str, float] | None, tuple[str, ...]]:
    """Level, quantification value, and the offset of each band; None for these where nothing says."""
    metadata = next(iter(sorted(folder.glob("MTD_MSIL*.xml"))), None)
    if metadata is None:
        offset = sentinel_2_offset(folder.name)
        known = None if offset is None else dict.fromkeys(SENTINEL_2, offset)
        return "", 10000.0, known, ("Its MTD_MSI….xml is missing: scaled by the product's name.",)
    text = read_text(metadata)
    level = f"L{metadata.stem[-2:]}"
    quantum = re.search(r"<(?:BOA_)?QUANTIFICATION_VALUE[^>]*>\s*(\d+)", text)
    # band_id counts the bands in the order of their wavelengths, with 8A behind 8.
    order = list(SENTINEL_2)
    found = re.findall(r"<(?:BOA|RADIO)_ADD_OFFSET band_id=\"(\d+)\">\s*(-?\d+)", text)
    offsets = {order[int(band)]: float(value) for band, value in found if int(band) < len(order)}
    return level, float(quantum.group(1)) if quantum else 10000.0, offsets, ()


def _sentinel_1(folder: Path) -> Product | None:
    """A Sentinel-1 SAFE directory: one file for each polarisation."""
    found: dict[str, list[Path]] = {}
    for path in _files(folder / "measurement"):
        if kind := re.search(r"-(vv|vh|hh|hv)-", path.name.lower()):
            found.setdefault(kind.group(1), []).append(path)
    if not found:
        return None
    if any(len(paths) > 1 for paths in found.values()):
        raise SceneError(
            f"{folder}: holds several swaths of a polarisation: name one of the files in its measurement folder"
        )
    bands = tuple(BandFile(str(paths[0]), kind.upper(), role=kind, nodata=0.0) for kind, paths in found.items())
    return Product(str(folder), bands, "Sentinel-1")


def _plain(folder: Path) -> Product | None:
    """A folder whose rasters are the single bands of one scene: one beginning of the names, each band once."""
    metadata = sorted(folder.glob("*_MTL.*"))
    matches = {path: BAND_FILE.fullmatch(path.stem) for path in _files(folder)}
    other = [path for path, match in matches.items() if match is None and not _BESIDE.search(path.stem)]
    named = [(match["band"], match["prefix"] or "", path) for path, match in matches.items() if match]
    found = {band: path for band, _, path in named}
    once = len({band.lower() for band in found}) == len(named) >= 2
    if not once or len({prefix for _, prefix, _ in named}) > 1 or (other and not metadata):
        return None
    prefix = named[0][1]
    sensor, table = band_table(found, f"{folder.name} {prefix}")
    bands = tuple(
        BandFile(
            str(path),
            name,
            role=one.role if (one := table.get(name)) else None,
            wavelength=one.wavelength if one else None,
        )
        for name, path in found.items()
    )
    product = Product(
        str(folder), bands, sensor or ("Sentinel-1" if prefix[:2].lower() == "s1" else "single-band files")
    )
    if sensor == "Sentinel-2":
        offset = sentinel_2_offset(prefix)
        offset = sentinel_2_offset(folder.name) if offset is None else offset
        if offset is None:
            note = "Nothing says whether Sentinel-2's offset of processing baseline 04.00 applies: stretched instead."
            return replace(product, bands=tuple(replace(b, nodata=0.0) for b in bands), notes=(note,))
        scaled = tuple(replace(b, scale=1e-4, offset=offset * 1e-4, nodata=0.0) for b in bands)
        return replace(product, bands=scaled, reflectance=True)
    if sensor.startswith("Landsat") and (metadata or _LANDSAT_SCENE.match(prefix)):
        return _landsat(product, next((read_text(path) for path in metadata if path.suffix.lower() == ".txt"), ""))
    return product


def _landsat(product: Product, text: str) -> Product:
    """Scale a Landsat scene: surface reflectance and temperature (SR_, ST_), or Level-1 by its metadata ``text``."""
    keys = dict(re.findall(r"(\w+)\s*=\s*\"?([^\"\n]+)", text))

    def number(key: str, default: float) -> float:
        try:
            return float(keys[key])
        except (KeyError, ValueError):
            return default

    height = math.sin(math.radians(number("SUN_ELEVATION", 90.0)))
    height = height if height > 0.05 else 1.0  # at night and where nothing is said
    bands = []
    for band in product.bands:
        number_ = plain_name(band.name)[1:]
        if band.name.upper().startswith("SR_"):
            scale, offset = _SURFACE, _SURFACE_OFFSET
        elif band.name.upper().startswith("ST_"):
            scale, offset = _KELVIN, _KELVIN_OFFSET
        elif (band.wavelength or 0) > 3000:
            scale, offset = 1.0, 0.0
        else:
            scale = number(f"REFLECTANCE_MULT_BAND_{number_}", _TOP) / height
            offset = number(f"REFLECTANCE_ADD_BAND_{number_}", _TOP_OFFSET) / height
        bands.append(replace(band, scale=scale, offset=offset, nodata=0.0))
    level = "Level-2" if any(band.name.upper().startswith("S") for band in bands) else "Level-1"
    words = f"{product.words} {level}"
    return replace(product, bands=tuple(bands), words=words, reflectance=True)
