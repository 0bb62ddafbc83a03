"""Text ↔ points ↔ pixels ↔ map ↔ WGS 84 and back."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from test_features import answer

from gmrt.runtime.features import features
from gmrt.runtime.geography import rings, to_lonlat, to_pixels
from gmrt.runtime.outlines import area
from gmrt.runtime.placement import Placement, by_affine
from gmrt.runtime.places import Frame, label_of, places_in
from gmrt.runtime.points import Region, format_regions, parse_regions, region

ZONES = st.sampled_from([*range(32601, 32661), *range(32701, 32761)])
CENTRES = {  # where the middle of a scene may lie, in the units of its CRS
    "utm": (st.floats(3e5, 7e5), st.floats(1e5, 9e6)),
    "polar": (st.floats(-2e6, 2e6), st.floats(-2e6, 2e6)),
    "antimeridian": (st.floats(-3e3, 3e3), st.floats(-6e5, 6e5)),
    "degrees": (st.floats(-179.9, 179.9), st.floats(-84, 84)),
}


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, tuple[int, int]]:
    """A scene of up to 1000 pixels a side somewhere on Earth, turned and sheared, and its size."""
    kind = draw(st.sampled_from(sorted(CENTRES)))
    crs = {
        "utm": f"EPSG:{draw(ZONES)}",
        "polar": draw(st.sampled_from(["EPSG:3031", "EPSG:3413"])),
        "antimeridian": "+proj=tmerc +lon_0=180 +datum=WGS84 +units=m",
        "degrees": "EPSG:4326",
    }[kind]
    x, y = (draw(axis) for axis in CENTRES[kind])
    step = draw(st.floats(0.3, 30)) / (111_320 if kind == "degrees" else 1)
    turn, shear = draw(st.floats(-180, 180)), draw(st.floats(-40, 40))
    size = draw(st.integers(16, 1000)), draw(st.integers(16, 1000))
    flip = draw(st.sampled_from([1, -1]))
    affine = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.shear(shear, 0) @ Affine.scale(step, flip * step)
    return by_affine(affine @ Affine.translation(-size[0] / 2, -size[1] / 2), crs), size


@settings(max_examples=40, deadline=None)
@given(placements(), st.lists(st.tuples(st.floats(0, 0.9999), st.floats(0, 0.9999)), min_size=4, max_size=4))
def test_from_text_to_the_earth_and_back(
    placed: tuple[Placement, tuple[int, int]], positions: list[tuple[float, float]]
) -> None:
    """Guards against any corner that moves by more than half a pixel between the words and the map."""
    placement, size = placed
    frame = Frame(size, (0, 0, *size), placement)
    wanted = np.array(positions) * size
    for kind in ("point", "box", "obb", "poly"):
        corners = {"point": positions[:1], "box": positions[:2]}.get(kind, positions)
        said = format_regions([region(kind, corners)])
        (place,) = places_in(frame, parse_regions(said), [0.5])
        pixels = np.array(place.corners)
        back = to_pixels(placement, to_lonlat(placement, pixels))
        assert np.abs(back - pixels).max() < 1e-3
        if kind == "point" or (kind == "poly" and _wide(parse_regions(said)[0])):
            assert np.abs(back - wanted[: len(back)]).max() <= 0.5 + 1e-3


def _wide(found: Region) -> bool:
    """Whether an outline has an inside, and so is not widened to that of its cells."""
    x0, y0, x1, y1 = found.bounds
    return x1 > x0 and y1 > y0 and area(np.array(found.points, float)) > 0


@settings(max_examples=40, deadline=None)
@given(placements())
def test_written_geometry_lies_where_the_pixels_do(placed: tuple[Placement, tuple[int, int]]) -> None:
    """Guards against a geometry that loses its corners to rounding, to the seam or to the order of the axes."""
    placement, size = placed
    frame = Frame(size, (0, 0, *size), placement)
    (feature,) = features([answer("a field", frame)])
    geometry = feature["geometry"]
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    positions = np.array([position for part in parts for ring in part for position in ring])
    pixels = to_pixels(placement, positions)
    gone = np.array([0.0, 0, *size]).reshape(2, 2)
    assert np.isfinite(pixels).all()
    assert (pixels >= gone[0] - 0.5).all()
    assert (pixels <= gone[1] + 0.5).all()
    corners = frame.outline()
    nearest = [np.abs(pixels - corner).max(axis=1).min() for corner in corners]
    assert max(nearest) < 0.5


@settings(max_examples=40, deadline=None)
@given(placements(), st.integers(1, 60))
def test_sides_follow_the_map(placed: tuple[Placement, tuple[int, int]], larger: int) -> None:
    """Guards against straight lines between corners where the CRS curves: no side strays by half a pixel."""
    placement, size = placed
    if placement.crs == "EPSG:4326":
        larger = 1
    wide = (size[0] * larger, size[1] * larger)
    around = placement.window(size[0] / 2 - wide[0] / 2, size[1] / 2 - wide[1] / 2)
    outline = Frame(wide, (0, 0, *wide)).outline()
    (ring,) = rings(around, [outline])
    if ring is None:
        return
    closed = np.concatenate([ring, ring[:1]])
    if round((closed[-1, 0] - closed[-2, 0]) / 360):
        return  # round a pole: the last side ends a turn further on
    middles = (closed[:-1] + closed[1:]) / 2
    strayed = to_pixels(around, middles)
    on_side = np.minimum(np.abs(strayed - 0), np.abs(strayed - wide)).min(axis=1)
    assert (on_side < 0.5).all()


def test_a_side_that_passes_the_pole_within_metres_follows_the_map() -> None:
    """Guards against too few divisions of a long side: this one is 560 km long and passes the North Pole at 600 m."""
    polar = by_affine(Affine.translation(-280_000, 600) @ Affine.scale(12, -12), "EPSG:3413")
    size = (46_530, 8_030)
    (ring,) = rings(polar, [Frame(size, (0, 0, *size)).outline()])
    assert ring is not None
    middles = (ring[:-1] + ring[1:]) / 2
    strayed = to_pixels(polar, middles)
    assert np.minimum(np.abs(strayed), np.abs(strayed - size)).min(axis=1).max() < 0.5


def test_a_curve_gets_more_corners_and_a_small_box_none() -> None:
    """Guards against a thousand corners where four will do, and four where the map bends."""
    utm = by_affine(Affine(10, 0, 300_000, 0, -10, 7_800_000), "EPSG:32633")
    small, large = rings(utm, [Frame((9, 9), (0, 0, 9, 9)).outline(), Frame((9, 9), (0, 0, 10_980, 10_980)).outline()])
    assert small is not None
    assert large is not None
    assert len(small) == 4
    assert 8 < len(large) < 300


def test_points_outside_of_a_projection_are_left_out() -> None:
    """Guards against one corner in space that takes the good ones with it."""
    world = by_affine(Affine(40_000, 0, -18_100_000, 0, -40_000, 9_100_000), "ESRI:54009")  # Mollweide, an ellipse
    corner, middle = to_lonlat(world, np.array([(0.0, 0.0), (452.5, 227.5)]))
    assert not np.isfinite(corner).all()
    assert middle == pytest.approx([0, 0], abs=1e-6)
    outside, inside = np.array([(0.0, 0), (5, 0), (5, 5)]), np.array([(450.0, 220), (455, 220), (455, 230)])
    assert [ring is None for ring in rings(world, [outside, inside])] == [True, False]


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("locate the storage tanks", "storage tanks"),
        ("locate the ships as rotated boxes", "ships"),
        ("how many storage tanks are there?", "storage tanks"),
        ("where is the leftmost white tank?", "leftmost white tank"),
        ("outline the buildings", "buildings"),
        ("point to all changes", "changes"),
        ("what changed?", "what changed"),
    ],
)
def test_a_label_is_what_was_asked_for(prompt: str, label: str) -> None:
    """Guards against a legend in a GIS that reads "locate the"."""
    assert label_of(prompt) == label
