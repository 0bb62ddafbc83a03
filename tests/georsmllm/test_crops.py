"""Tiles of labelled images: where objects come to lie, what is left of them, what may still be counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.georsmllm.crops import KEPT, Window, clipped, crop_labels, tiles
from gmrt.georsmllm.data import Example, Question
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.shapes import area, areas, box_outline
from gmrt.runtime.raster import encode_png
from gmrt.runtime.scene import decode_image

_share = st.floats(0, 1, allow_nan=False, width=32)


def box(category: str, *corners: float) -> SceneObject:
    """An upright box."""
    return SceneObject(category, tuple(map(tuple, box_outline(*corners).tolist())), "box", {"size": "large"})


@given(
    st.lists(st.tuples(_share, _share), min_size=3, max_size=7),
    st.tuples(_share, _share).filter(lambda x: abs(x[0] - x[1]) > 0.05),
    st.tuples(_share, _share).filter(lambda y: abs(y[0] - y[1]) > 0.05),
)
def test_what_is_clipped_is_the_overlap(
    points: list[tuple[float, float]], x: tuple[float, float], y: tuple[float, float]
) -> None:
    """Guards against a corner lost or kept outside the window, against the exact areas of another method."""
    centre = np.mean(points, axis=0)
    outline = np.array(sorted(points, key=lambda p: np.arctan2(p[1] - centre[1], p[0] - centre[0])), float)
    window = Window(min(x), min(y), max(x), max(y))
    found = clipped(outline, window)
    overlap = areas(outline, box_outline(window.x0, window.y0, window.x1, window.y1))[2]
    assert (area(found) if len(found) else 0.0) == pytest.approx(overlap, abs=1e-6)
    if len(found):
        assert (found.min(axis=0) >= (window.x0 - 1e-9, window.y0 - 1e-9)).all()
        assert (found.max(axis=0) <= (window.x1 + 1e-9, window.y1 + 1e-9)).all()


def test_objects_cut_too_far_are_left_out_and_not_counted_on() -> None:
    """Guards against a count of things of which one can be seen and is not listed."""
    labels = SceneLabels(
        "harbor",
        ("a harbour",),
        (
            box("ship", 0.1, 0.1, 0.2, 0.2),  # inside
            box("ship", 0.46, 0.1, 0.56, 0.2),  # 40 % of it, exactly
            box("car", 0.47, 0.3, 0.57, 0.4),  # 30 %: left out, and seen
            box("tank", 0.4999, 0.3, 0.6, 0.4),  # nobody sees it
            box("house", 0.8, 0.8, 0.9, 0.9),  # far away
        ),
        frozenset({"ship", "car", "tank", "house"}),
        {"water": 1.0},
        {"mean height": 2.0},
    )
    cut = crop_labels(labels, Window(0.0, 0.0, 0.5, 0.5))
    assert pytest.approx(0.4) == KEPT
    assert [thing.category for thing in cut.objects] == ["ship", "ship"]
    np.testing.assert_allclose([thing.box for thing in cut.objects], [(0.2, 0.2, 0.4, 0.4), (0.92, 0.2, 1.0, 0.4)])
    assert cut.exhaustive == {"ship", "tank", "house"}
    assert (cut.scene_class, cut.captions, cut.fractions, cut.measures) == ("", (), {}, {})
    assert cut.objects[0].attributes == {}  # large among the things of the whole image


def test_a_rotated_box_that_is_cut_keeps_four_corners() -> None:
    """Guards against a rotated box of seven corners, which no answer can hold."""
    diamond = SceneObject("plane", ((0.4, 0.2), (0.6, 0.4), (0.4, 0.6), (0.2, 0.4)), "obb")
    cut = crop_labels(SceneLabels(objects=(diamond,)), Window(0.0, 0.0, 0.5, 0.55)).objects[0]
    assert cut.exact == "obb"
    assert cut.points.shape == (4, 2)
    assert cut.points.min() >= 0
    assert cut.points.max() <= 1


@pytest.mark.parametrize(("width", "height"), [(120, 90), (40, 30)])
def test_a_tile_shows_its_objects_where_they_are_said_to_be(width: int, height: int) -> None:
    """Guards against x and y, or width and height, that change places in images that are not square."""
    rgb = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = (
        round(share * side) for share, side in zip((0.3, 0.4, 0.6, 0.7), (width, height) * 2, strict=True)
    )
    rgb[y0:y1, x0:x1] = 255
    thing = box("ship", x0 / width, y0 / height, x1 / width, y1 / height)
    labels = SceneLabels(objects=(thing,), exhaustive=frozenset({"ship"}))
    example = Example("a.png", encode_png(rgb), "harbor", ("boats",), (Question("?", "yes", "qa"),), labels=labels)
    found = tiles(example, 48, 12, np.random.default_rng(0))
    assert len({tile.name for tile in found}) == 12
    seen = 0
    for tile in found:
        assert (tile.scene_class, tile.captions, tile.questions) == ("", (), ())
        pixels = decode_image(tile.image).rgb
        assert pixels.shape == (48, 48, 3)
        for one in tile.labels.objects if tile.labels else ():
            rows, columns = np.nonzero(pixels[..., 0] > 127)
            drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_allclose(np.array(one.box) * 48, drawn, atol=1.6)
            seen += 1
    assert seen > 3
    again = tiles(example, 48, 12, np.random.default_rng(0))
    assert again == found
