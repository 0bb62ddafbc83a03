"""Answers as features: a geometry on WGS 84 and properties in plain words, the same for GeoJSON, GeoPackage and CSV.

Importing this module imports rasterio: import it lazily.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.runtime import geodesy, geojson
from gmrt.runtime.answer import Answer
from gmrt.runtime.geography import rings
from gmrt.runtime.placement import on_earth
from gmrt.runtime.places import Frame, Place, label_of

FloatArray = npt.NDArray[np.float64]
Feature = dict[str, Any]

UNPLACED = "the image has no georeference, so there is no geometry: positions are in pixels"
ELSEWHERE = "the image is not of the Earth, so there is no geometry in WGS 84: positions are in pixels"
OUTSIDE = "some places lie outside of what the image's CRS can express and have no geometry: positions are in pixels"


def features(answers: Sequence[Answer]) -> list[Feature]:
    """The GeoJSON features of answers, numbered from 1.

    An answer that names or counts places is a feature for each; one in words or numbers is the footprint of what was
    asked about, and of each tile that has words of its own; a location answer of nothing has none. Without a
    georeference ``geometry`` is null, which RFC 7946 calls an unlocated feature, and ``pixels`` says where a place is.
    """
    made: list[Feature] = []
    for answer in answers:
        if answer.frame is None:
            continue
        places = answer.places
        if places or answer.is_location:
            outlines = [np.array(place.corners) for place in places]
            properties = [_of_place(answer, place) for place in places]
        else:
            table = [] if answer.tiles is None else answer.tiles.get("table", [])
            frames = [answer.frame, *(replace(answer.frame, window=tuple(row["tile"])) for row in table)]
            outlines = [frame.outline() for frame in frames]
            properties = [_of_answer(answer, answer.frame), *(_of_tile(answer, row) for row in table)]
        for lonlat, outline, told in zip(_lonlats(answer.frame, outlines), outlines, properties, strict=True):
            geometry, sizes = (None, _NO_SIZE) if lonlat is None else (_geometry(lonlat), _sizes(told["kind"], lonlat))
            pixels = [[round(float(x), 2), round(float(y), 2)] for x, y in outline]
            made.append(
                {
                    "type": "Feature",
                    "id": len(made) + 1,
                    "geometry": geometry,
                    "properties": {**told, **sizes, "pixels": pixels},
                }
            )
    return made


def collection(answers: Sequence[Answer]) -> dict[str, Any]:
    """Answers as one FeatureCollection of RFC 7946; a ``note`` says why where a geometry is missing."""
    found = features(answers)
    note = missing(answers, found)
    said = {} if note is None else {"note": note}
    return {"type": "FeatureCollection", **said, "features": found}


def to_text(answers: Sequence[Answer]) -> str:
    """Answers as the text of a GeoJSON file: one feature a line, so that two files can be compared."""
    found = collection(answers)
    head = {key: value for key, value in found.items() if key != "features"}
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in found["features"])
    opened = json.dumps(head, ensure_ascii=False)[:-1]
    return f'{opened}, "features": [\n{lines}\n]}}\n' if lines else f'{opened}, "features": []}}\n'


def missing(answers: Sequence[Answer], found: Sequence[Feature]) -> str | None:
    """Why features have no geometry; None when all have one."""
    if all(feature["geometry"] is not None for feature in found):
        return None
    frames = [answer.frame for answer in answers if answer.frame is not None]
    if any(frame.placement is None or frame.placement.crs is None for frame in frames):
        return UNPLACED
    return OUTSIDE if all(map(_earthly, frames)) else ELSEWHERE


def _earthly(frame: Frame) -> bool:
    return frame.placement is not None and frame.placement.crs is not None and on_earth(frame.placement.crs)


def _lonlats(frame: Frame, outlines: Sequence[FloatArray]) -> list[FloatArray | None]:
    if frame.placement is None or not _earthly(frame):
        return [None] * len(outlines)
    return rings(frame.placement, outlines)


def _geometry(lonlat: FloatArray) -> dict[str, Any]:
    return geojson.point(lonlat) if len(lonlat) == 1 else geojson.polygon(lonlat)


_NO_SIZE: dict[str, float | None] = {"area_m2": None, "length_m": None, "perimeter_m": None}


def _sizes(kind: str, lonlat: FloatArray) -> dict[str, float | None]:
    """Area, greatest distance between two corners, and perimeter on the ellipsoid; a point has none of them."""
    if kind == "point":
        return _NO_SIZE
    around = geodesy.length(np.concatenate([lonlat, lonlat[:1]]))
    return {
        "area_m2": _rounded(geodesy.area(lonlat)),
        "length_m": _rounded(geodesy.extent(lonlat)),
        "perimeter_m": _rounded(around),
    }


def _rounded(value: float) -> float:
    """Six digits: pixels are known no better."""
    return float(f"{value:.6g}")


def _of_place(answer: Answer, place: Place) -> dict[str, Any]:
    assert answer.frame is not None  # a place has one
    told = _of_answer(answer, answer.frame)
    return told | {
        "label": label_of(answer.prompt),
        "kind": place.kind,
        "text": None,
        "value": None,
        "unit": None,
        "confidence": round(place.confidence, 4),
        "tile": None if place.tile is None else list(place.tile),
    }


def _of_tile(answer: Answer, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table that words about tiles come in."""
    assert answer.frame is not None  # a tile is a window of a file
    told = _of_answer(answer, answer.frame)
    unit = None if row["value"] is None else answer.unit
    return told | {"unit": unit, **{name: row[name] for name in ("text", "value", "confidence", "tile")}}


def _of_answer(answer: Answer, frame: Frame) -> dict[str, Any]:
    image = list(answer.image) if isinstance(answer.image, tuple) else answer.image
    return {
        "label": None,
        "kind": "image",
        "prompt": answer.prompt,
        "text": answer.text,
        "value": answer.value,
        "unit": None if answer.value is None else answer.unit,
        "confidence": round(answer.confidence, 4),
        "image": image,
        "source_crs": None if frame.placement is None else frame.placement.crs,
        "gsd_m": None if frame.gsd is None else _rounded(frame.gsd),
        "tile": None if frame.whole else list(frame.window),
        "model": answer.model.get("id"),
        "precision": answer.model.get("precision"),
    }
