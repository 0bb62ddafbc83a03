"""A known thing in a real image, against rasterio's own way from pixels to degrees."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from gmrt.runtime.geography import rings
from gmrt.runtime.places import frame_of, places_in
from gmrt.runtime.points import format_regions, parse_regions, region
from gmrt.runtime.scene import read_scene

DATA = Path(os.environ.get("GMRT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
IMAGE = DATA / "scenes" / "naip_20200831.tif"
POND = (831.0, 20.0, 880.0, 115.0)  # the dark pond in the north-east, in pixels


@pytest.mark.skipif(not IMAGE.exists(), reason=f"no {IMAGE} (set GMRT_DATA)")
def test_the_pond_lies_where_rasterio_puts_it() -> None:
    """Guards against a datum, an axis or half a pixel that is lost on the way (docs/geography.md)."""
    x0, y0, x1, y1 = POND
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    with rasterio.open(IMAGE) as source:
        wanted = np.stack(transform(source.crs, "EPSG:4326", *(source.transform * corners.T)), axis=1)
    scene = read_scene(IMAGE)
    frame = frame_of(scene)
    assert frame.placement is not None
    (exact,) = rings(frame.placement, [corners])
    assert exact is not None
    assert np.abs(exact - wanted).max() < 1e-7
    assert wanted[0] == pytest.approx([-99.1309118, 47.0357572], abs=1e-7)
    width, height = frame.size
    said = format_regions([region("box", [(x0 / width, y0 / height), ((x1 - 0.01) / width, (y1 - 0.01) / height)])])
    (place,) = places_in(frame, parse_regions(said), [1.0])
    assert np.abs(np.array(place.corners) - corners).max() <= 0.5
