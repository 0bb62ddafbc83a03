"""Areas and lengths on the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime import geodesy

RADIUS = st.floats(10, 5000)


def around(longitude: float, latitude: float, radius: float, corners: int) -> np.ndarray:
    """A regular polygon on the ground, counterclockwise, wrapped into ±180 as PROJ gives it."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    degrees = math.degrees(radius / geodesy.SEMI_MAJOR)
    ring = np.stack([degrees * np.cos(turns) / math.cos(math.radians(latitude)), degrees * np.sin(turns)], axis=1)
    ring += [longitude, latitude]
    ring[:, 0] = (ring[:, 0] + 180) % 360 - 180
    return ring


def test_the_whole_earth_and_a_quarter_meridian() -> None:
    """Guards against a formula of a sphere: the two best known numbers of WGS 84."""
    hemisphere = np.array([(-180.0, 0.0), (-90, 0), (0, 0), (90, 0)])
    northern = np.array([(longitude, 1e-9) for longitude in (-180.0, -90, 0, 90)])
    assert geodesy.area(northern) == pytest.approx(255032810857044, rel=1e-9)  # half of PROJ's 510065621724089 m²
    assert geodesy.area(hemisphere) == pytest.approx(255032810857044, rel=1e-9)
    assert geodesy.length(np.array([(10.0, 0.0), (10.0, 90.0)])) == pytest.approx(10001965.729, rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 180), st.floats(-85, 85), RADIUS, st.integers(3, 12))
def test_sizes_are_those_of_proj(longitude: float, latitude: float, radius: float, corners: int) -> None:
    """Guards against areas and lengths that no other tool gives, at the antimeridian and far north as anywhere."""
    geod = pytest.importorskip("pyproj").Geod(ellps="WGS84")
    ring = around(longitude, latitude, radius, corners)
    area, length = geod.polygon_area_perimeter(*ring.T)
    assert geodesy.area(ring) == pytest.approx(abs(area), rel=2e-5, abs=1e-3)
    assert geodesy.length(np.concatenate([ring, ring[:1]])) == pytest.approx(length, rel=2e-6)
    far = max(geod.inv(*a, *b)[2] for a in ring for b in ring)
    assert geodesy.extent(ring) == pytest.approx(far, rel=1e-5)


def test_a_ring_round_the_pole_holds_the_pole() -> None:
    """Guards against the rest of the Earth, or nothing, as the area of a scene over the pole."""
    cap = np.array([(longitude, -80.0) for longitude in np.arange(-180, 180, 5.0)])
    zone = np.array([(0.0, -80.0), (90, -80), (90, -90), (0, -90)])
    assert geodesy.area(cap) == pytest.approx(4 * geodesy.area(zone), rel=1e-9)
    assert geodesy.area(cap[::-1]) == pytest.approx(geodesy.area(cap), rel=1e-12)
