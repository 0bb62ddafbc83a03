"""The set-of-points codec: what is written is read back, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.runtime.errors import PointsError
from gmrt.runtime.points import GRID, Region, format_regions, from_grid, has_regions, parse_regions, region, to_grid

CELL = st.integers(0, GRID - 1)
POINT = st.tuples(CELL, CELL)
REGIONS = st.lists(
    st.one_of(
        st.tuples(POINT).map(lambda p: Region("point", p)),
        st.tuples(CELL, CELL, CELL, CELL).map(
            lambda c: Region("box", ((min(c[0], c[2]), min(c[1], c[3])), (max(c[0], c[2]), max(c[1], c[3]))))
        ),
        st.tuples(POINT, POINT, POINT, POINT).map(lambda p: Region("obb", p)),
        st.lists(POINT, min_size=3, max_size=9).map(lambda p: Region("poly", tuple(p))),
    ),
    max_size=5,
).map(tuple)


@given(regions=REGIONS)
def test_regions_survive_the_text(regions: tuple[Region, ...]) -> None:
    """Guards against coordinates in another order, or regions that run into each other."""
    text = format_regions(regions)
    assert parse_regions(text) == regions
    assert has_regions(text) == bool(regions)


def test_format_is_the_documented_one() -> None:
    """Guards against a change of format that old weights would not know: x before y, single spaces, none."""
    assert format_regions([Region("box", ((1, 2), (3, 4))), Region("point", ((5, 6),))]) == "<box> 1 2 3 4 <point> 5 6"
    assert format_regions([]) == "none"


@given(cell=CELL)
def test_a_cells_centre_lies_in_the_cell(cell: int) -> None:
    """Guards against a grid that shifts by one each time it is read and written."""
    assert to_grid(from_grid(cell)) == cell


@given(position=st.floats(0, 1))
def test_grid_error_is_half_a_cell(position: float) -> None:
    """Guards against a rounding that is off by a whole cell, at the far edge above all."""
    assert abs(from_grid(to_grid(position)) - position) <= 0.5 / GRID + 1e-12


@pytest.mark.parametrize(("position", "cell"), [(-0.1, 0), (0, 0), (0.9999, 999), (1, 999), (7, 999)])
def test_positions_outside_are_clipped(position: float, cell: int) -> None:
    """Guards against a cell of 1000, which is no token."""
    assert to_grid(position) == cell


@given(a=st.tuples(st.floats(0, 1), st.floats(0, 1)), b=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_boxs_corners_may_come_in_any_order(a: tuple[float, float], b: tuple[float, float]) -> None:
    """Guards against a PointsError for a box that was drawn from below."""
    box = region("box", [a, b])
    assert box == region("box", [b, a]) == region("box", [(a[0], b[1]), (b[0], a[1])])
    (x0, y0), (x1, y1) = box.points
    assert box.bounds == (x0, y0, x1, y1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a box",
            "<box>",
            "<box> 1 2 3",
            "<box> 1 2 3 4 5",
            "<box> 5 5 1 1",
            "<box> 1 2 3 1000",
            "<box> -1 2 3 4",
        ),
        *("<box> 1.5 2 3 4", "<box> 1 2 3 4 and more", "so <box> 1 2 3 4", "<circle> 1 2 3", "<point> 1 2 3 4"),
        *("<poly> 1 2 3 4", "<obb> 1 2 3 4 5 6", "<point> 1 2 none", "none none", "<point>"),
    ],
)
def test_what_is_no_location_is_refused(text: str) -> None:
    """Guards against reading half a box, or a sentence, as a place."""
    with pytest.raises(PointsError):
        parse_regions(text)


@given(text=st.text(alphabet="<>boxplyint 0123456789-.", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Guards against another exception than the documented one, and against a lossy reading."""
    try:
        regions = parse_regions(text)
    except PointsError:
        return
    assert parse_regions(format_regions(regions)) == regions
