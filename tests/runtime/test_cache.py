"""The shared buffers behave like a cache that grows by concatenation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.runtime.cache import KVCache, Snapshot, planned_capacity
from gmrt.runtime.errors import CacheFullError
from gmrt.runtime.manifest import CacheGeometry

GEOMETRY = CacheGeometry(layers=2, kv_heads=3, head_dim=4, dtype="float32", max_length=40)


def write(cache: KVCache, rows: np.ndarray) -> None:
    """Append rows [2 · layers, kv_heads, steps, head_dim] as a decoder does: behind the length, in place."""
    cache.require(rows.shape[2])
    for buffer, new in zip(cache.buffers, rows, strict=True):
        for row, length in enumerate(cache.lengths):
            buffer[row, :, length : length + rows.shape[2]] = new
    cache.advance(rows.shape[2])


def content(cache: KVCache, row: int = 0) -> np.ndarray:
    """The valid tokens of one row."""
    return np.stack([buffer[row, :, : cache.lengths[row]] for buffer in cache.buffers])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 9)),
        st.tuples(st.just("truncate"), st.integers(0, 40)),
        st.tuples(st.just("snapshot"), st.just(0)),
        st.tuples(st.just("restore"), st.integers(0, 3)),
        st.tuples(st.just("fork"), st.integers(1, 40)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_agrees_with_concatenation(steps: list[tuple[str, int]]) -> None:
    """Guards against stale rows, snapshots that alias the buffers, and lengths that drift from the content."""
    random = np.random.default_rng(0)
    cache = KVCache(GEOMETRY, 40)
    reference = np.zeros((4, 3, 0, 4), np.float32)
    kept: list[tuple[Snapshot, np.ndarray]] = []
    for action, value in steps:
        if action == "append":
            rows = random.normal(size=(4, 3, value, 4)).astype(np.float32)
            if reference.shape[2] + value > cache.capacity:
                with pytest.raises(CacheFullError):
                    write(cache, rows)
            else:
                write(cache, rows)
                reference = np.concatenate([reference, rows], axis=2)
        elif action == "truncate":
            cache.truncate(value)
            reference = reference[:, :, :value]
        elif action == "snapshot":
            kept.append((cache.snapshot(), reference))
        elif action == "restore" and kept:
            snapshot, expected = kept[value % len(kept)]
            if snapshot.length <= cache.capacity:
                cache.restore(snapshot)
                reference = expected
            else:
                with pytest.raises(CacheFullError):
                    cache.restore(snapshot)
        elif action == "fork" and reference.shape[2] <= value:
            cache = cache.fork(1, value)
        np.testing.assert_array_equal(content(cache), reference)
        assert cache.length == reference.shape[2]


def test_fork_gives_every_row_its_own_copy() -> None:
    """Guards against forks that share memory: one question would overwrite another's rows."""
    cache = KVCache(GEOMETRY, 16)
    write(cache, np.ones((4, 3, 5, 4), np.float32))
    forked = cache.fork(3, 20)
    assert (forked.batch, forked.capacity) == (3, 20)
    forked.buffers[0][1, :, 4] = 7
    np.testing.assert_array_equal(content(forked, 0), content(cache))
    assert content(forked, 1)[0, 0, 4, 0] == 7
    forked.lengths[1] = 2
    forked.truncate(4)
    assert forked.lengths.tolist() == [4, 2, 4]
    with pytest.raises(ValueError, match="one row"):
        forked.snapshot()


def test_full_cache_says_how_much_it_needs() -> None:
    """Guards against an assertion, or a silent write past the end, when a prompt is too long."""
    cache = KVCache(GEOMETRY, 8)
    cache.advance(6)
    with pytest.raises(CacheFullError, match="holds 8 tokens and this request needs 9") as caught:
        cache.require(3)
    assert (caught.value.needed, caught.value.capacity) == (9, 8)


def test_bytes_follow_the_formula() -> None:
    """Guards against a memory plan that disagrees with what is allocated."""
    for dtype in ("float32", "float16"):
        geometry = CacheGeometry(3, 2, 16, dtype, 64)
        assert KVCache(geometry, 32, batch=2).nbytes == geometry.bytes_per_token * 32 * 2


@pytest.mark.parametrize("capacity", [0, -1, 41])
def test_capacity_out_of_range(capacity: int) -> None:
    """Guards against a cache longer than the decoder's position table."""
    with pytest.raises(ValueError, match="not between 1 and 40"):
        KVCache(GEOMETRY, capacity)


def test_negative_truncation_is_refused() -> None:
    """Guards against lengths below zero, which would make the next step write before the buffer."""
    with pytest.raises(ValueError, match="cannot truncate"):
        KVCache(GEOMETRY, 4).truncate(-1)


@given(tokens=st.integers(1, 200), limit=st.none() | st.integers(1, 200))
def test_planned_capacity_fits_and_is_bounded(tokens: int, limit: int | None) -> None:
    """Guards against a plan that is too small for its request, or larger than what is allowed."""
    geometry = CacheGeometry(1, 1, 16, "float32", 150)
    allowed = min(150, limit or 150)
    if tokens > allowed:
        with pytest.raises(CacheFullError):
            planned_capacity(tokens, geometry, limit=limit)
        return
    capacity = planned_capacity(tokens, geometry, limit=limit)
    assert tokens <= capacity <= allowed
    assert capacity < tokens + 64


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), min_size=2, max_size=5), data=st.data())
def test_rows_are_in_the_same_memory(lengths: list[int], data: st.DataObject) -> None:
    """Guards against a part of a cache that is a copy, and rows that move with another row's length."""
    random = np.random.default_rng(1)
    cache = KVCache(GEOMETRY, 16, batch=len(lengths))
    for at, length in enumerate(lengths):
        write(cache.rows(at, at + 1), random.normal(size=(4, 3, length, 4)).astype(np.float32))
    assert cache.lengths.tolist() == lengths
    source, target = (data.draw(st.integers(0, len(lengths) - 1)) for _ in range(2))
    expected = [content(cache, source if at == target else at) for at in range(len(lengths))]
    cache.copy_row(source, target)
    for at, rows in enumerate(expected):
        np.testing.assert_array_equal(content(cache, at), rows)
    part = cache.rows(0, 2)
    part.truncate(1)
    assert cache.lengths.tolist()[:2] == part.lengths.tolist() == [min(len(rows[0, 0]), 1) for rows in expected[:2]]
