"""Preprocessing: the same numbers on the desk and in the field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.errors import BundleError, SceneError
from gmrt.runtime.image import ImageSpec, prepare, resize

SPEC = ImageSpec(8, 12, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 4)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_resize_agrees_with_the_definition(height: int, width: int, rows: int, columns: int) -> None:
    """Guards against shifted or unnormalised weights: compared with the double loop of the definition."""
    image = noise(height, width).astype(np.float32)

    def weights(source: int, target: int) -> np.ndarray:
        scale = source / target
        table = np.zeros((target, source))
        for out in range(target):
            centre = (out + 0.5) * scale
            for at in range(source):
                table[out, at] = max(0.0, 1 - abs(at + 0.5 - centre) / max(scale, 1))
        return table / table.sum(1, keepdims=True)

    expected = np.einsum("ri,ijc,sj->rsc", weights(height, rows), image, weights(width, columns))
    np.testing.assert_allclose(resize(image, rows, columns), expected, atol=1e-2)


def test_resize_agrees_with_pillow() -> None:
    """Guards against a filter of our own that training tools do not know."""
    image_module = pytest.importorskip("PIL.Image")
    for size in ((50, 40), (17, 90), (7, 5)):
        image = noise(*size)
        theirs = image_module.fromarray(image).resize((12, 8), image_module.Resampling.BILINEAR)
        np.testing.assert_allclose(resize(image, 8, 12), np.asarray(theirs, dtype=np.float32), atol=1.01)


def test_equal_size_is_unchanged() -> None:
    """Guards against blurring an image that needs no resizing."""
    image = noise(8, 12)
    np.testing.assert_array_equal(resize(image, 8, 12), image.astype(np.float32))


def test_prepare_normalises_by_channel() -> None:
    """Guards against mean and std in another channel order, or on another scale."""
    image = np.broadcast_to(np.array([10, 128, 250], np.uint8), (5, 7, 3))
    pixels = prepare(image, SPEC)
    assert pixels.shape == (3, 8, 12)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    expected = (np.array([10, 128, 250]) / 255 - SPEC.mean) / SPEC.std
    np.testing.assert_allclose(pixels.mean((1, 2)), expected, rtol=1e-4)


def test_holes_carry_no_signal() -> None:
    """Guards against nodata that looks like a black lake: it becomes exactly the mean, whatever lies under it."""
    valid = np.zeros((20, 30), bool)
    np.testing.assert_allclose(prepare(noise(20, 30), SPEC, valid), 0, atol=1e-5)
    valid[:, :15] = True
    first, second = noise(20, 30), noise(20, 30)
    second[:, 15:] = 255
    np.testing.assert_array_equal(prepare(first, SPEC, valid), prepare(second, SPEC, valid))


@pytest.mark.parametrize(
    ("image", "valid"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (noise(4, 4), np.zeros((4, 5), bool)),
        (noise(4, 4), np.ones((5, 4), bool)),
    ],
)
def test_arrays_of_another_kind(image: np.ndarray, valid: np.ndarray | None) -> None:
    """Guards against a broadcast that makes an image out of anything, and a mask of another size that is all true."""
    with pytest.raises(SceneError):
        prepare(image, SPEC, valid)


def test_spec_is_read_back() -> None:
    """Guards against a field that is not written."""
    assert ImageSpec.from_dict(SPEC.to_dict()) == SPEC


@pytest.mark.parametrize(
    "change", [{"height": -1}, {"std": [0, 1, 1]}, {"mean": [1, 2]}, {"tokens": None}, {"width": 10**6}]
)
def test_spec_out_of_range(change: dict[str, object]) -> None:
    """Guards against a division by zero, or a terabyte of pixels, that a manifest asks for."""
    with pytest.raises(BundleError, match="image specification"):
        ImageSpec.from_dict(SPEC.to_dict() | change)
