"""Regions drawn over a picture: on the outline, nowhere else, at every size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.errors import SceneError
from gmrt.runtime.overlay import COLOURS, annotate, colour_name, line_width
from gmrt.runtime.points import Region

Mask = npt.NDArray[np.bool_]
FORMS = {
    "box": Region("box", ((200, 300), (599, 699))),
    "obb": Region("obb", ((400, 100), (900, 400), (600, 900), (100, 600))),
    "poly": Region("poly", ((100, 100), (899, 100), (500, 899))),
}
cells = st.tuples(st.integers(0, 999), st.integers(0, 999))


def grey(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A picture of one grey, in which every drawn pixel shows."""
    return np.full((height, width, 3), 128, np.uint8)


def changed(picture: npt.NDArray[np.uint8]) -> Mask:
    """Where it is no longer that grey."""
    return np.asarray((picture != 128).any(axis=2))


def outline_distance(region: Region, height: int, width: int) -> npt.NDArray[np.float64]:
    """Pixels to the nearest of many points along the outline, from each pixel's centre; slow and plain."""
    corners = (np.array(region.points) + 0.5) / 1000 * (width, height)
    if region.kind == "box":
        (x0, y0), (x1, y1) = corners
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    steps = np.linspace(0, 1, 300)[:, None]
    ends = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    along = np.concatenate([start * (1 - steps) + end * steps for start, end in ends])
    y, x = np.mgrid[:height, :width] + 0.5
    nearest = np.full((height, width), np.inf)
    for px, py in along:
        np.minimum(nearest, np.hypot(x - px, y - py), out=nearest)
    return nearest


@pytest.mark.parametrize("form", FORMS)
def test_the_outline_is_drawn_and_nothing_else(form: str) -> None:
    """Guards against a region that is filled, drawn beside its place, or with width and height exchanged."""
    height, width = 60, 100
    before = grey(height, width)
    drawn = annotate(before, [[FORMS[form]]])
    distance = outline_distance(FORMS[form], height, width)
    assert changed(drawn)[distance < 1].all()
    assert (drawn[distance < 0.5] > 160).tolist().count([True, True, False]) > 0.95 * (distance < 0.5).sum()  # yellow
    assert not changed(drawn)[distance > line_width(height, width) + 1].any()
    assert not changed(before).any()


def test_a_point_is_a_dot() -> None:
    """Guards against a point that is invisible for want of a length, or that marks another pixel."""
    drawn = changed(annotate(grey(100, 200), [[Region("point", ((250, 500),))]]))
    rows, columns = np.nonzero(drawn)
    assert drawn[50, 50]
    assert abs(rows.mean() + 0.5 - 50.05) < 0.2
    assert abs(columns.mean() + 0.5 - 50.1) < 0.2
    assert 3 <= np.ptp(rows) + 1 <= 10


@given(
    points=st.lists(cells, min_size=3, max_size=6),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)
@settings(max_examples=40, deadline=None)
def test_what_leaves_the_picture_is_cut_off(points: list[tuple[int, int]], height: int, width: int) -> None:
    """Guards against an index beyond the edge, which in numpy comes back on the other side."""
    drawn = annotate(grey(height, width), [[Region("poly", tuple(points))]])
    assert drawn.shape == (height, width, 3)
    assert changed(drawn).any()


def test_an_outline_along_an_edge_stays_there() -> None:
    """Guards against a line at the left edge that appears at the right one as well."""
    drawn = changed(annotate(grey(60, 60), [[Region("box", ((0, 0), (0, 999)))]]))
    assert drawn[:, 0].all()
    assert not drawn[:, 10:].any()


def test_lines_grow_with_the_picture() -> None:
    """Guards against hairlines on a large scene, and against bars on a small one."""

    def thickness(side: int) -> int:
        column = changed(annotate(grey(side, side), [[FORMS["box"]]]))[side // 2]
        return int(column[: int(side * 0.4)].sum())

    assert 2 <= thickness(100) <= 5
    assert 8 <= thickness(1000) <= 10
    assert line_width(2000, 100) == line_width(100, 2000) == 8


def test_a_long_slanted_line_has_no_gaps() -> None:
    """Guards against seams between the pieces in which long lines are drawn."""
    drawn = changed(annotate(grey(500, 1000), [[Region("poly", ((0, 0), (999, 999), (0, 0)))]]))
    assert drawn.any(axis=0).all()
    assert drawn.any(axis=1).all()


def test_each_group_has_its_colour() -> None:
    """Guards against answers that cannot be told apart, and against a ninth one without a colour."""
    boxes = [Region("box", ((100 * n + 20, 100), (100 * n + 80, 900))) for n in range(9)]
    drawn = annotate(grey(400, 400), [[box] for box in boxes])
    for group, box in enumerate(boxes):
        column = int((box.points[0][0] + 0.5) * 0.4)
        assert tuple(drawn[200, column]) == COLOURS[colour_name(group)]
    assert colour_name(0) == colour_name(len(COLOURS)) == "yellow"
    assert not changed(annotate(grey(20, 20), [[], []])).any()


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_another_array_is_refused(picture: npt.NDArray[np.uint8]) -> None:
    """Guards against a picture in 0…1 that comes out black."""
    with pytest.raises(SceneError, match="uint8"):
        annotate(picture, [])
