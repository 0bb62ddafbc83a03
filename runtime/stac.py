"""STAC items on disk: which bands their assets hold, and what the numbers mean.

Source: STAC 1.0 and 1.1 with the electro-optical and raster extensions. An item is somebody else's file: only assets on
this disk are opened, never an address that it names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmrt.runtime.errors import SceneError
from gmrt.runtime.products import BandFile, Product


def read_item(path: Path, text: str) -> Product | None:
    """The STAC item ``text`` of the file ``path``, its assets beside it; None for JSON that is something else.

    Raises `SceneError` for an item none of whose bands lies on this disk.
    """
    try:
        item = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(item, dict) or item.get("type") != "Feature" or "stac_version" not in item:
        return None
    assets, properties = (value if isinstance(value := item.get(key), dict) else {} for key in ("assets", "properties"))
    bands: dict[str, BandFile] = {}
    away = []
    for asset in assets.values():
        for band in _asset(asset, properties):
            local = _local(path.parent, band.path)
            if local is None:
                away.append(band.path)
            else:
                bands.setdefault(band.name, replace(band, path=local))
    if not bands:
        where = f" ({away[0]} is not)" if away else ""
        raise SceneError(
            f"{path}: none of its assets with bands lies on this disk{where}: download them beside the item"
        )
    scaled = all(band.scale != 1 for band in bands.values() if band.wavelength is None or band.wavelength < 3000)
    name = (
        str((properties or {}).get("platform") or (properties or {}).get("constellation") or "") if properties else ""
    )
    words = f"STAC item {str(item.get('id', ''))[:80]}" + (f" of {name[:40]}" if name else "")
    return Product(str(path), tuple(bands.values()), words, scaled)


def _asset(asset: Any, properties: Mapping[str, Any]) -> Iterable[BandFile]:
    """The bands of one asset of an item."""
    if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
        return
    if {"visual", "overview", "thumbnail", "metadata"} & set(_strings(asset.get("roles"))):
        return
    described = asset.get("bands") or asset.get("eo:bands")
    stored = asset.get("raster:bands") or asset.get("bands") or []
    for index, band in enumerate(described if isinstance(described, list) else [], 1):
        if not isinstance(band, dict):
            continue
        role = band.get("common_name") or band.get("eo:common_name")
        centre = band.get("center_wavelength") or band.get("eo:center_wavelength")
        raster = stored[index - 1] if index <= len(stored) and isinstance(stored[index - 1], dict) else {}
        scale = _number(raster.get("scale", raster.get("raster:scale", asset.get("raster:scale"))), 1.0)
        offset = _number(raster.get("offset", raster.get("raster:offset", asset.get("raster:offset"))), 0.0)
        if properties.get("earthsearch:boa_offset_applied") is True:
            offset = 0.0  # the item still states it: https://github.com/Element84/earth-search/issues/9
        nodata = raster.get("nodata", asset.get("nodata"))
        role = {"lwir11": "lwir"}.get(role, role) if isinstance(role, str) else None
        yield BandFile(
            asset["href"], str(band.get("name") or role or f"band {index}"), index, role,
            _number(centre, 0.0) * 1000 or None, scale, offset, None if nodata is None else _number(nodata, math.nan),
        )  # fmt: skip


def _strings(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _number(value: Any, default: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def _local(folder: Path, href: str) -> str | None:
    """The path of an asset on this disk, None where it lies elsewhere or is missing."""
    name = href.removeprefix("file://")
    if "://" in name or name.startswith("/vsi") or "\0" in name:
        return None
    path = folder / name
    return str(path) if path.is_file() else None
