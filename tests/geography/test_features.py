"""Answers as features, and the files that hold them, read by others."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from gmrt.runtime import features as module
from gmrt.runtime import vector
from gmrt.runtime.answer import Answer
from gmrt.runtime.mask import write_mask
from gmrt.runtime.placement import by_affine
from gmrt.runtime.places import Frame
from gmrt.runtime.raster import quiet

NORTH_UP = Affine(2, 0, 500_000, 0, -2, 5_000_000)
UTM = Frame((1000, 800), (0, 0, 1000, 800), by_affine(NORTH_UP, "EPSG:32633"), 2.0, "a.tif")
PIXELS = Frame((1000, 800), (0, 0, 1000, 800), None, None, "a.png")
MOON = Frame(
    (100, 100),
    (0, 0, 100, 100),
    by_affine(Affine(1, 0, 0, 0, -1, 0), "+proj=longlat +R=1737400 +no_defs"),
    None,
    "moon.tif",
)
BOXES = "<box> 100 200 300 400 <box> 500 500 599 599"


def answer(text: str, frame: Frame | None, **changes: Any) -> Answer:
    """An answer as a model gives it."""
    fields: dict[str, Any] = {
        "image": "a.tif",
        "prompt": "locate the storage tanks",
        "text": text,
        "confidence": 0.75,
        "finish_reason": "stop",
        "tokens": {"prompt": 1, "reused": 0, "generated": 1},
        "timings": {"load": 0.0},
        "model": {"id": "0123", "precision": "int8", "provider": "cpu"},
        "frame": frame,
    }
    return Answer(**fields | changes)


def test_properties_say_where_an_answer_comes_from() -> None:
    """Guards against a feature that nobody can trace: the issue names what it must carry."""
    first, second = module.features([answer(BOXES, UTM)])
    told = first["properties"]
    assert (first["id"], second["id"]) == (1, 2)
    assert told["source_crs"] == "EPSG:32633"
    assert (told["gsd_m"], told["label"], told["model"], told["precision"]) == (2.0, "storage tanks", "0123", "int8")
    assert (told["prompt"], told["confidence"], told["tile"]) == ("locate the storage tanks", 0.75, None)
    assert told["pixels"][0] == pytest.approx([100.5, 160.4], abs=0.01)
    assert told["area_m2"] == pytest.approx(400 * 320, rel=1e-3)  # 200 × 160 pixels of 2 m, at the central meridian
    assert told["perimeter_m"] == pytest.approx(1440, rel=1e-3)
    assert told["length_m"] == pytest.approx(np.hypot(400, 320), rel=1e-3)


def test_words_are_a_footprint_and_nothing_is_nothing() -> None:
    """Guards against a description without a place, and a place where nothing was found."""
    (footprint,) = module.features([answer("a port", UTM, prompt="describe")])
    assert (footprint["properties"]["text"], footprint["properties"]["kind"]) == ("a port", "image")
    assert footprint["geometry"]["type"] == "Polygon"
    assert module.features([answer("none", UTM)]) == []
    assert json.loads(module.to_text([answer("none", UTM)]))["features"] == []


@pytest.mark.parametrize(("frame", "why"), [(PIXELS, "no georeference"), (MOON, "not of the Earth")])
def test_without_a_place_on_earth_there_is_no_geometry(frame: Frame, why: str) -> None:
    """Guards against pixels, or the Moon's degrees, that a GIS draws somewhere on Earth."""
    found = json.loads(module.to_text([answer(BOXES, frame)]))
    assert why in found["note"]
    assert all(feature["geometry"] is None and feature["properties"]["pixels"] for feature in found["features"])
    assert all(feature["properties"]["area_m2"] is None for feature in found["features"])


def test_an_answer_writes_itself(tmp_path: Path) -> None:
    """Guards against a file that differs from what the call returns."""
    found = answer(BOXES, UTM).to_geojson(tmp_path / "a.geojson")
    assert json.loads((tmp_path / "a.geojson").read_text()) == found
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


@pytest.mark.parametrize("frame", [UTM, PIXELS], ids=["placed", "unplaced"])
def test_other_readers_take_every_form(tmp_path: Path, frame: Frame) -> None:
    """Guards against files that only their writer can read: GDAL, by pyogrio, finds the same places in all of them."""
    geopandas = pytest.importorskip("geopandas")
    found = module.features([answer(BOXES, frame), answer("<point> 10 20", frame), answer("a port", frame)])
    (tmp_path / "a.geojson").write_text(module.to_text([answer(BOXES, frame), answer("<point> 10 20", frame)]))
    (tmp_path / "a.gpkg").write_bytes(vector.to_gpkg(found))
    package = geopandas.read_file(tmp_path / "a.gpkg")
    assert list(package.kind) == ["box", "box", "point", "image"]
    assert package.geometry.is_valid.all()
    assert json.loads(package.pixels[0])[0] == found[0]["properties"]["pixels"][0]
    lines = geopandas.read_file(tmp_path / "a.geojson")
    assert len(lines) == 3
    if frame is PIXELS:
        assert lines.geometry.isna().all()
        assert package.geometry[0].bounds == pytest.approx((100.5, 160.4, 300.5, 320.4), abs=0.01)
        return
    assert package.crs.to_epsg() == lines.crs.to_epsg() == 4326
    assert package.geometry[:3].geom_equals(lines.geometry).all()
    back = lines.to_crs("EPSG:32633").geometry[0].bounds
    assert back == pytest.approx((500_201, 4_999_359.2, 500_601, 4_999_679.2), abs=0.02)


def test_a_package_is_one_by_its_own_rules(tmp_path: Path) -> None:
    """Guards against an SQLite file that is called a GeoPackage: its marks, tables and integrity (OGC 12-128r18)."""
    path = tmp_path / "a.gpkg"
    path.write_bytes(vector.to_gpkg(module.features([answer(BOXES, UTM)])))
    with closing(sqlite3.connect(path)) as database:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert application == int.from_bytes(b"GPKG", "big")
        assert {"gpkg_spatial_ref_sys", "gpkg_contents", "gpkg_geometry_columns", vector.TABLE} <= tables
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_table_has_a_row_for_each_place() -> None:
    """Guards against commas in a prompt that shift the columns, and degrees in the place of pixels."""
    rows = list(csv.DictReader(io.StringIO(vector.to_csv(module.features([answer(BOXES, UTM, prompt='a, "b"')])))))
    assert [row["prompt"] for row in rows] == ['a, "b"'] * 2
    assert float(rows[0]["longitude"]) == pytest.approx(15.005, abs=0.001)
    assert rows[0]["wkt"].startswith("POLYGON ((15.00")
    (unplaced, _) = csv.DictReader(io.StringIO(vector.to_csv(module.features([answer(BOXES, PIXELS)]))))
    assert (unplaced["longitude"], unplaced["wkt"]) == ("", "")
    assert vector.wkt({"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [0, 1], [0, 0]]]]}) == (
        "MULTIPOLYGON (((0 0, 1 0, 0 1, 0 0)))"
    )


def test_a_mask_lies_on_the_source(tmp_path: Path) -> None:
    """Guards against a mask of another size or place, one that misses a point, and values that nobody can tell."""
    path = tmp_path / "mask.tif"
    values = write_mask(
        [answer(BOXES, UTM), answer("none", UTM), answer("<point> 900 900", UTM, prompt="where?")], path
    )
    assert list(values) == [1, 2]
    with rasterio.open(path) as mask:
        assert (mask.crs.to_string(), mask.shape) == ("EPSG:32633", (800, 1000))
        assert mask.transform == NORTH_UP
        assert mask.tags()["VALUE_2"] == "where?"
        drawn = mask.read(1)
    assert drawn[240, 200] == drawn[440, 550] == 1
    assert (drawn == 1).sum() == pytest.approx(200 * 160 + 99 * 79.2, rel=0.02)
    assert np.argwhere(drawn == 2).tolist() == [[720, 900]]
    assert [file.name for file in tmp_path.iterdir()] == ["mask.tif"]


def test_a_mask_without_a_georeference_has_none(tmp_path: Path) -> None:
    """Guards against a place that is made up."""
    write_mask([answer("none", PIXELS)], tmp_path / "mask.tif")
    with quiet(), rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.crs is None
        assert not mask.read(1).any()
