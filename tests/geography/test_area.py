"""The part of a scene that a question is about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from test_features import BOXES, PIXELS, UTM, answer

from gmrt.runtime import area
from gmrt.runtime.errors import SceneError
from gmrt.runtime.geography import to_lonlat
from gmrt.runtime.placement import by_affine
from gmrt.runtime.places import Frame

SEAM = Frame(
    (1000, 1000),
    (0, 0, 1000, 1000),
    by_affine(Affine(10, 0, -5000, 0, -10, 5000), "+proj=tmerc +lon_0=180 +datum=WGS84"),
)
DEGREES = Frame((3600, 1800), (0, 0, 3600, 1800), by_affine(Affine(0.1, 0, 0, 0, -0.1, 90), "EPSG:4326"))  # 0…360


def lonlat_box(frame: Frame, x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """West, south, east and north of a part of a scene given in pixels."""
    assert frame.placement is not None
    corners = to_lonlat(frame.placement, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
    return [*corners.min(axis=0), *corners.max(axis=0)]


def test_pixels_are_clipped_to_the_scene() -> None:
    """Guards against a window that leaves the file, and one of nothing."""
    assert area.pixel_window(UTM, -5, 10.2, 20.5, 9000) == (0, 10, 21, 790)
    assert area.pixel_window(UTM, 20, 30, 10, 10) == (10, 10, 10, 20)
    for empty in ((5, 5, 5, 9), (1000, 0, 1100, 10), (float("nan"), 0, 5, 5)):
        with pytest.raises(SceneError, match="1000 × 800"):
            area.pixel_window(UTM, *empty)


def test_a_box_in_degrees_is_a_window() -> None:
    """Guards against a box that is off by the bend of the map, or by the order of its numbers."""
    box = lonlat_box(UTM, 100, 200, 300, 400)
    outlines = area.outlines_of(UTM, [area.bbox_ring(*box)])
    window = area.outline_window(UTM, outlines)
    assert window == pytest.approx((100, 200, 200, 200), abs=2)
    with pytest.raises(SceneError, match="no box"):
        area.bbox_ring(10, 50, 5, 40)
    with pytest.raises(SceneError, match="outside"):
        area.outline_window(UTM, area.outlines_of(UTM, [area.bbox_ring(1, 1, 2, 2)]))
    with pytest.raises(SceneError, match="georeference"):
        area.outlines_of(PIXELS, [area.bbox_ring(*box)])


def test_a_box_across_the_antimeridian_is_small() -> None:
    """Guards against a box that reaches round the Earth, and degrees of 0…360 that never meet −180…180."""
    outlines = area.outlines_of(SEAM, [area.bbox_ring(179.99, -0.01, -179.99, 0.01)])
    assert area.outline_window(SEAM, outlines) == pytest.approx((388, 389, 224, 222), abs=2)
    west = area.outlines_of(DEGREES, [area.bbox_ring(-20, 10, -10, 20)])
    assert area.outline_window(DEGREES, west) == (3400, 700, 100, 100)


def test_a_spot_keeps_its_surroundings_inside() -> None:
    """Guards against a window that leaves the scene at its border, and a spot that lies in no scene."""
    assert UTM.placement is not None
    (spot,), (corner,) = (to_lonlat(UTM.placement, np.array([at])).tolist() for at in ((500.0, 400.0), (1.0, 1.0)))
    assert area.spot_window(UTM, *spot, 256) == (372, 272, 256, 256)
    assert area.spot_window(UTM, *corner, 256) == (0, 0, 256, 256)
    assert area.spot_window(UTM, *spot, 5000) == (0, 0, 1000, 800)
    with pytest.raises(SceneError, match=r"outside of a\.tif, which reaches from"):
        area.spot_window(UTM, 0.0, 0.0, 256)
    with pytest.raises(SceneError, match="no longitude"):
        area.spot_window(UTM, 500.0, 0.0, 256)


def test_an_area_of_interest_is_read_and_kept_to(tmp_path: Path) -> None:
    """Guards against places beside the polygons that were asked about, and inside their holes."""
    assert UTM.placement is not None
    ring = to_lonlat(UTM.placement, np.array([(50.0, 100), (400, 100), (400, 600), (50, 600), (50, 100)])).tolist()
    file = tmp_path / "aoi.geojson"
    file.write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    )
    outlines = area.outlines_of(UTM, area.read_rings(file))
    assert area.outline_window(UTM, outlines) == pytest.approx((50, 100, 350, 500), abs=2)
    both = answer(BOXES, UTM)
    kept = area.within(both, outlines)
    assert [place.corners for place in kept.places] == [both.places[0].corners]
    assert kept.text == "<box> 100 200 300 400"
    assert area.within(both, [*outlines, outlines[0]]).text == "none"  # a ring and its hole
    for text in (
        "{",
        "[]",
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"type": "Polygon", "coordinates": [[[5e5, 5e6]]]}',
    ):
        file.write_text(text)
        with pytest.raises(SceneError, match=r"aoi\.geojson"):
            area.read_rings(file)
