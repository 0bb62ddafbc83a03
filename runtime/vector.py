"""Features in the two other forms that people open: GeoPackage and CSV, from the features of `gmrt.runtime.features`.

A GeoPackage is an SQLite file (OGC 12-128r18), which the standard library writes; its tests read it with GDAL.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gmrt.runtime.features import Feature

TABLE = "answers"
_APPLICATION = 0x47504B47  # "GPKG"
_VERSION = 10300
_UNDEFINED = -1  # the GeoPackage standard's "undefined Cartesian": pixels, x to the right and y down
_WGS84 = 4326
_COLUMNS: dict[str, str] = {
    "label": "TEXT",
    "kind": "TEXT",
    "prompt": "TEXT",
    "text": "TEXT",
    "value": "DOUBLE",
    "unit": "TEXT",
    "confidence": "DOUBLE",
    "area_m2": "DOUBLE",
    "length_m": "DOUBLE",
    "perimeter_m": "DOUBLE",
    "image": "TEXT",
    "source_crs": "TEXT",
    "gsd_m": "DOUBLE",
    "tile": "TEXT",
    "pixels": "TEXT",
    "model": "TEXT",
    "precision": "TEXT",
}
_WGS84_WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
_SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (
  srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
  table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
  table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL,
  z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""


def to_csv(features: Sequence[Feature]) -> str:
    """Features as CSV: the centre of each in degrees, its properties, and its geometry as WKT, empty without one."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "longitude", "latitude", *_COLUMNS, "wkt"])
    for feature in features:
        geometry = feature["geometry"]
        centre = ["", ""] if geometry is None else [round(value, 7) for value in _centre(geometry)]
        rows.writerow([feature["id"], *centre, *_values(feature), "" if geometry is None else wkt(geometry)])
    return text.getvalue()


def to_gpkg(features: Sequence[Feature], description: str = "") -> bytes:
    """Features as the bytes of a GeoPackage with one table, `TABLE`, in WGS 84.

    When no feature has a geometry, what is written are the pixels, in the standard's undefined Cartesian system.
    """
    unplaced = bool(features) and all(feature["geometry"] is None for feature in features)
    srs = _UNDEFINED if unplaced else _WGS84
    geometries = [_pixels(feature) if unplaced else feature["geometry"] for feature in features]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "answers.gpkg"
        with closing(sqlite3.connect(path)) as database, database:
            _fill(database, features, geometries, srs, description)
        return path.read_bytes()


def wkt(geometry: dict[str, Any]) -> str:
    """A Point, Polygon or MultiPolygon as well-known text."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Point":
        return f"POINT ({coordinates[0]} {coordinates[1]})"
    parts = [coordinates] if kind == "Polygon" else coordinates
    texts = [f"({', '.join(_ring_text(ring) for ring in part)})" for part in parts]
    return f"POLYGON {texts[0]}" if kind == "Polygon" else f"MULTIPOLYGON ({', '.join(texts)})"


def _ring_text(ring: Sequence[Sequence[float]]) -> str:
    return f"({', '.join(f'{x} {y}' for x, y in ring)})"


def _fill(
    database: sqlite3.Connection,
    features: Sequence[Feature],
    geometries: Sequence[dict[str, Any] | None],
    srs: int,
    description: str,
) -> None:
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.executescript(_SCHEMA)
    systems = [
        ("WGS 84 geodetic", _WGS84, "EPSG", _WGS84, _WGS84_WKT, "longitude/latitude in decimal degrees"),
        ("Undefined Cartesian SRS", _UNDEFINED, "NONE", -1, "undefined", "undefined Cartesian coordinate system"),
        ("Undefined geographic SRS", 0, "NONE", 0, "undefined", "undefined geographic coordinate system"),
    ]
    database.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", systems)
    columns = ", ".join(f'"{name}" {kind}' for name, kind in _COLUMNS.items())
    database.execute(f"CREATE TABLE {TABLE} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom GEOMETRY, {columns})")
    positions = [position for geometry in geometries if geometry for position in _positions(geometry)]
    xs, ys = zip(*positions, strict=True) if positions else ((None,), (None,))
    extent = (min(xs), min(ys), max(xs), max(ys)) if positions else (None,) * 4
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, min_x, min_y, max_x, max_y, srs_id)"
        " VALUES (?, 'features', ?, ?, ?, ?, ?, ?, ?)",
        (TABLE, TABLE, description, *extent, srs),
    )
    database.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', ?, 0, 0)", (TABLE, srs))
    marks = ", ".join("?" * (2 + len(_COLUMNS)))
    database.executemany(
        f"INSERT INTO {TABLE} VALUES ({marks})",
        [
            (feature["id"], None if geometry is None else _blob(geometry, srs), *_values(feature))
            for feature, geometry in zip(features, geometries, strict=True)
        ],
    )


def _values(feature: Feature) -> list[Any]:
    """The properties of a feature in the order of the columns; lists become JSON."""
    values = [feature["properties"].get(name) for name in _COLUMNS]
    return [json.dumps(value) if isinstance(value, list) else value for value in values]


def _blob(geometry: dict[str, Any], srs: int) -> bytes:
    """A geometry as GeoPackage binary: a header with its envelope, then little-endian well-known binary."""
    xs, ys = zip(*_positions(geometry), strict=True)
    header = b"GP\x00\x03" + struct.pack("<i4d", srs, min(xs), max(xs), min(ys), max(ys))
    return header + _wkb(geometry["type"], geometry["coordinates"])


def _wkb(kind: str, coordinates: Any) -> bytes:
    if kind == "Point":
        return struct.pack("<BIdd", 1, 1, *coordinates)
    if kind == "Polygon":
        rings = [
            struct.pack("<I", len(ring)) + b"".join(struct.pack("<dd", *xy) for xy in ring) for ring in coordinates
        ]
        return struct.pack("<BII", 1, 3, len(rings)) + b"".join(rings)
    return struct.pack("<BII", 1, 6, len(coordinates)) + b"".join(_wkb("Polygon", part) for part in coordinates)


def _pixels(feature: Feature) -> dict[str, Any]:
    """The place of a feature in pixels, as a geometry."""
    corners = feature["properties"]["pixels"]
    if len(corners) == 1:
        return {"type": "Point", "coordinates": corners[0]}
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


def _positions(geometry: dict[str, Any]) -> list[list[float]]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Point":
        return [coordinates]
    parts = [coordinates] if kind == "Polygon" else coordinates
    return [position for part in parts for ring in part for position in ring]


def _centre(geometry: dict[str, Any]) -> tuple[float, float]:
    """The middle of the extent of the largest part, which lies beside the antimeridian and never across it."""
    if geometry["type"] == "MultiPolygon":
        part = max(geometry["coordinates"], key=lambda rings: _extent(rings[0]))
        return _centre({"type": "Polygon", "coordinates": part})
    xs, ys = zip(*_positions(geometry), strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _extent(ring: Sequence[Sequence[float]]) -> float:
    xs, ys = zip(*ring, strict=True)
    return float((max(xs) - min(xs)) * (max(ys) - min(ys)))
