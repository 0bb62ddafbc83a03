"""Geometry of the readers: run-length masks, outlines, rotated boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.readers.record import UnusableError
from gmrt.georsmllm.readers.shapes import corners_box, decode_mask, mask_outline, segmentation, simplify, turned_box

COCO = pytest.importorskip("pycocotools.mask", reason="pycocotools comes with the training extra")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_masks_decode_as_coco_s_own_code_decodes_them(height: int, width: int, seed: int, share: float) -> None:
    """Guards against a mistake in the compressed counts: every mask must come back as it was."""
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    packed = COCO.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(decode_mask(packed), mask)
    np.testing.assert_array_equal(decode_mask({**packed, "counts": packed["counts"].decode()}), mask)


@pytest.mark.parametrize("counts", ["\x7f", "P", [5, -5, 24], [1e9], "ab"])
def test_broken_masks_are_refused(counts: object) -> None:
    """Guards against a mask that fills the memory, or is read past its end."""
    with pytest.raises(UnusableError):
        decode_mask({"size": [4, 6], "counts": counts})
    with pytest.raises(UnusableError):
        decode_mask({"size": [1 << 20, 1 << 20], "counts": [1 << 40]})


def test_the_largest_part_of_a_mask_is_outlined() -> None:
    """Guards against an outline round a speck, and against staircases of hundreds of points."""
    rows, columns = np.mgrid[:200, :200]
    disc = (((rows - 100) ** 2 + (columns - 120) ** 2) < 60**2).astype(np.uint8)
    disc[:4, :4] = 1
    outline = simplify(mask_outline(disc))
    assert 8 <= len(outline) < 60
    found = segmentation("tank", COCO.encode(np.asfortranarray(disc)), (200, 200))
    assert found.centre == pytest.approx((0.6, 0.5), abs=0.01)
    assert found.area == pytest.approx(np.pi * 60**2 / 200**2, rel=0.02)


@settings(deadline=None)
@given(st.floats(-360, 360), st.integers(50, 400), st.integers(50, 400))
def test_turned_boxes_keep_their_area_in_pixels(degrees: float, width: int, height: int) -> None:
    """Guards against a box that is sheared when it is turned in an image that is no square."""
    side = min(width, height)
    half = 100 * side * 0.2 / np.array([width, height])
    corners = [50 - half[0], 50 - half[1] / 2, 50 + half[0], 50 + half[1] / 2]
    found = turned_box("ship", corners, degrees, (width, height), (100, 100))
    assert found.area * width * height == pytest.approx(side * 0.4 * side * 0.2)


def test_four_corners_are_upright_or_not() -> None:
    """Guards against upright boxes that are trained as rotated ones, whichever corner comes first."""
    upright = [0.6, 0.2, 0.6, 0.7, 0.1, 0.7, 0.1, 0.2]
    assert corners_box("ship", upright).exact == "box"
    assert corners_box("ship", [0.6, 0.21, *upright[2:]]).exact == "obb"
    with pytest.raises(UnusableError, match="8 finite"):
        corners_box("ship", upright[:6])
