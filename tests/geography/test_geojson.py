"""Geometries of RFC 7946: winding, the antimeridian, the poles, seven digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime import geojson

POLYGON = st.integers(3, 9).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(0.3, 1), min_size=count, max_size=count),
        st.floats(0, 2 * math.pi),
    )
)


def star(shape: tuple[list[float], float], longitude: float, latitude: float, size: float) -> np.ndarray:
    """A simple outline, often concave: one corner in each direction at a distance of its own."""
    reaches, turn = shape
    angles = turn + np.arange(len(reaches)) / len(reaches) * 2 * np.pi
    steps = np.array(reaches)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.array([longitude, latitude]) + size * steps


def rings_of(geometry: dict[str, Any]) -> list[np.ndarray]:
    """The outer rings of a Polygon or MultiPolygon."""
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    assert all(len(part) == 1 for part in parts)
    return [np.array(part[0]) for part in parts]


def doubled(ring: np.ndarray) -> float:
    """Twice the signed area, above 0 when counterclockwise."""
    return float(np.dot(ring[:-1, 0], ring[1:, 1]) - np.dot(ring[1:, 0], ring[:-1, 1]))


@settings(max_examples=80, deadline=None)
@given(POLYGON, st.floats(-180, 180), st.floats(-80, 80), st.floats(0.001, 8), st.booleans())
def test_any_outline_anywhere_is_valid(
    shape: tuple[list[float], float], longitude: float, latitude: float, size: float, backwards: bool
) -> None:
    """Guards against a polygon that winds the wrong way, leaves ±180, is not closed, or loses area at the seam."""
    ring = star(shape, longitude, latitude, size)
    geometry = geojson.polygon(ring[::-1] if backwards else ring)
    rings = rings_of(geometry)
    assert all((part[0] == part[-1]).all() and doubled(part) > 0 for part in rings)
    assert all((np.abs(part[:, 0]) <= 180).all() for part in rings)
    assert all((np.round(part, 7) == part).all() for part in rings)
    whole = doubled(np.concatenate([ring, ring[:1]]) - ring[0])
    assert sum(map(doubled, rings)) == pytest.approx(abs(whole), rel=1e-3, abs=1e-5)
    assert (geometry["type"] == "MultiPolygon") == (len(rings) > 1)
    shapely = pytest.importorskip("shapely")
    assert shapely.geometry.shape(geometry).is_valid


def test_a_box_across_the_antimeridian_is_two() -> None:
    """Guards against a box of one degree that goes round the Earth instead."""
    box = np.array([(179.5, -1.0), (180.5, -1), (180.5, 1), (179.5, 1)])
    geometry = geojson.polygon(box)
    assert geometry["type"] == "MultiPolygon"
    assert sorted((part[:, 0].min(), part[:, 0].max()) for part in rings_of(geometry)) == [(-180, -179.5), (179.5, 180)]
    wrapped = np.where(box > 180, box - [360, 0], box)
    assert geojson.polygon(wrapped) == geometry
    assert geojson.polygon(box - [0.5, 0])["type"] == "Polygon"


def test_a_comb_across_the_antimeridian_falls_into_its_teeth() -> None:
    """Guards against a clipper for convex shapes: the two teeth must not be joined along the seam."""
    comb = np.array([(178.0, 0), (181, 0), (181, 1), (179, 1), (179, 2), (181, 2), (181, 3), (178, 3)])
    parts = rings_of(geojson.polygon(comb))
    assert len(parts) == 3
    assert sum(map(doubled, parts)) / 2 == pytest.approx(7)


def test_a_ring_round_a_pole_reaches_it() -> None:
    """Guards against a scene over the pole that is written as a line along a parallel."""
    south = np.array([(longitude, -80.0) for longitude in np.arange(-170.0, 190, 10)])
    parts = rings_of(geojson.polygon((south + 180) % 360 - [180, 180]))
    assert sum(map(doubled, parts)) / 2 == pytest.approx(3600)
    assert min(part[:, 1].min() for part in parts) == -90


def test_what_has_no_width_is_a_point() -> None:
    """Guards against a polygon without an inside, which no reader takes."""
    assert geojson.polygon(np.array([(10.0, 20.0)] * 4)) == {"type": "Point", "coordinates": [10, 20]}
    assert geojson.point(np.array([190.0, 5.0]))["coordinates"] == [-170, 5]
