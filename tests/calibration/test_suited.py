"""A wrong sensor is told from the right one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from gmrt.calibration.familiar import describe_images, fit_familiarity
from gmrt.calibration.images import ImageSet, Picture
from gmrt.calibration.suited import LIMIT, check_suited
from gmrt.georsmllm.scenes import generate
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.familiar import Familiarity
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.scene import Scene, scene_from_array

SPEC = ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 4)


def encode(pixels: np.ndarray) -> np.ndarray:
    """A tower that sees the mean colour of four quarters: [1, 3, 32, 32] to [1, 4, 3]."""
    return pixels.reshape(1, 3, 2, 16, 2, 16).mean(axis=(3, 5)).reshape(1, 3, 4).transpose(0, 2, 1)


def river(seed: int) -> Scene:
    """A small colour picture."""
    return scene_from_array(generate(seed, size=64, kind="river").image)


def speckle(seed: int) -> Scene:
    """Radar over a plain: one look of exponential intensity, grey."""
    amplitude = np.sqrt(np.random.default_rng(seed).exponential(1, (64, 64, 1)))
    return scene_from_array(np.repeat(np.clip(amplitude * 100, 0, 255), 3, axis=2).astype(np.uint8))


def a_set(make: Callable[[int], Scene], sensor: str, count: int, first: int = 0) -> tuple[Picture, ...]:
    """Pictures of one sensor."""
    return tuple(Picture(partial(make, first + i), sensor) for i in range(count))


@pytest.fixture(scope="module")
def rivers() -> Familiarity:
    """The profile of a model that knows colour pictures of rivers."""
    pixels = ImageSet("rivers", a_set(river, "colour", 64)).pixels(SPEC)
    return fit_familiarity([describe_images("rivers", encode, pixels)], checkpoint="").familiarity


def test_images_of_the_same_kind_pass(rivers: Familiarity) -> None:
    """Guards against a check that refuses other pictures of the right sensor."""
    assert check_suited(ImageSet("x", a_set(river, "colour", 20, 500)), SPEC, rivers, encode) < LIMIT


@pytest.mark.parametrize("right", [0, 3, 60])
def test_a_wrong_sensor_is_refused_by_name(rivers: Familiarity, right: int) -> None:
    """Guards against ranges of radar in a model of colour images, also where most of the folder is colour."""
    pictures = a_set(river, "colour uint8", right, 500) + a_set(speckle, "grey float32", 8)
    with pytest.raises(GmrtError, match=r"a folder: its images \(grey float32\) are unlike") as caught:
        check_suited(ImageSet("a folder", pictures), SPEC, rivers, encode)
    assert "\n" not in str(caught.value)


def test_a_few_strays_are_judged_together(rivers: Familiarity) -> None:
    """Guards against an alarm over a single image, which may be odd in any set."""
    pictures = a_set(river, "colour", 20, 500) + a_set(river, "grey", 2, 600) + a_set(speckle, "grey float32", 1)
    assert check_suited(ImageSet("x", pictures), SPEC, rivers, encode) < LIMIT
