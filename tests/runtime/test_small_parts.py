"""Memory plan, prefix store and answer."""

from __future__ import annotations

import numpy as np
import pytest

from gmrt.runtime.answer import Answer
from gmrt.runtime.cache import Snapshot
from gmrt.runtime.errors import MemoryLimitError, PointsError
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.memory import MemoryPlan, parse_size
from gmrt.runtime.points import Region
from gmrt.runtime.prefixes import PrefixStore, prefix_key


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("2GiB", 2 << 30),
        ("2 GB", 2 * 10**9),
        ("1.5MiB", 3 << 19),
        ("512k", 512_000),
        (700, 700),
        ("700", 700),
        ("9B", 9),
    ],
)
def test_sizes(size: str | int, value: int) -> None:
    """Guards against taking GB for GiB, which is 7 % on a small board."""
    assert parse_size(size) == value


@pytest.mark.parametrize("size", ["", "GiB", "-1", "two", "1TiB", "1e9", "5 apples", -1])
def test_sizes_that_are_none(size: str | int) -> None:
    """Guards against a typing error that becomes no limit at all."""
    with pytest.raises(MemoryLimitError, match="is not a size"):
        parse_size(size)


def test_plan_leaves_the_rest_to_the_cache() -> None:
    """Guards against a capacity that breaks the limit, or one that does not hold a prompt."""
    plan = MemoryPlan(
        stored={},
        factors={},
        workspace=1000,
        images=200,
        prefixes=100,
        table_pages=0,
        bytes_per_token=10,
        image_tokens=64,
        max_length=512,
    )
    assert plan.capacity_within(None) == 512
    assert plan.capacity_within(10**6) == 512
    assert plan.capacity_within(1300 + 2000) == 200
    assert plan.capacity_within(1300 + 1280) == 128
    with pytest.raises(MemoryLimitError):
        plan.capacity_within(1300 + 1279)


def snapshot(tokens: int) -> Snapshot:
    """A snapshot of 4 bytes per token."""
    return Snapshot(np.zeros((1, 1, tokens, 1), np.float32))


def test_store_drops_the_least_recently_used() -> None:
    """Guards against a store that grows without bound, or that drops what is in use."""
    store = PrefixStore(limit=100)
    store.put("a", snapshot(10))
    store.put("b", snapshot(10))
    assert store.get("a") is not None
    store.put("c", snapshot(10))
    assert store.get("b") is None
    assert store.get("a") is not None
    assert store.nbytes == 80
    store.put("huge", snapshot(1000))
    assert store.get("huge") is None
    assert store.nbytes <= 100


def test_key_depends_on_everything_that_the_rows_depend_on() -> None:
    """Guards against reusing rows of another bundle, preprocessing, image, order of images, or words before them."""
    spec = ImageSpec(8, 8, (0, 0, 0), (1, 1, 1), 4)
    other = ImageSpec(8, 8, (0, 0, 0), (1, 1, 2), 4)
    ids = np.array([1, 2, 3])
    keys = {
        prefix_key("bundle", spec, ["x", "y"], ids),
        prefix_key("other", spec, ["x", "y"], ids),
        prefix_key("bundle", other, ["x", "y"], ids),
        prefix_key("bundle", spec, ["y", "x"], ids),
        prefix_key("bundle", spec, ["x"], ids),
        prefix_key("bundle", spec, ["x", "y"], ids[:2]),
    }
    assert len(keys) == 6
    assert prefix_key("bundle", spec, ["x", "y"], ids.copy()) in keys


def answer(text: str, reason: str = "stop") -> Answer:
    """An answer with nothing but its text."""
    return Answer(("a.tif", "b.tif"), "locate", text, 0.5, reason, {}, {}, {})  # type: ignore[arg-type]


def test_points_are_read_from_a_location() -> None:
    """Guards against points invented in a sentence that only mentions numbers."""
    found = answer("<box> 1 2 30 40 <point> 5 6")
    assert found.points == (Region("box", ((1, 2), (30, 40))), Region("point", ((5, 6),)))
    assert found.to_dict()["points"][1] == {"kind": "point", "points": [[5, 6]]}
    assert found.to_dict()["image"] == ["a.tif", "b.tif"]
    assert answer("there are 5 boxes at 1 2").points == ()
    assert answer("none").points == ()


def test_half_a_location_is_an_error() -> None:
    """Guards against a truncated box that is reported as nothing found."""
    with pytest.raises(PointsError, match="raise max_tokens"):
        _ = answer("<box> 1 2 30", "length").points
    with pytest.raises(PointsError, match="in other words"):
        answer("<box> 1 2 30 and so on").to_dict()
