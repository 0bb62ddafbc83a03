"""The ``standard`` dialect's own parts: buckets, chunks, masks and profiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fabricate import Fabricated, reference_logits, small
from hypothesis import given
from hypothesis import strategies as st

from gmrt.runtime.backends import create_backend
from gmrt.runtime.backends.standard import MASKED, BucketCache, StandardBackend, places
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BundleError
from gmrt.runtime.manifest import CacheGeometry, read_manifest
from gmrt.runtime.model import load
from gmrt.runtime.profiles import buckets_for, capacities, chunk_size, decoder_profiles
from gmrt.runtime.scene import Scene

IDS = np.random.default_rng(0).integers(5, 200, 330)


@pytest.fixture(scope="module")
def long(fabricate: Callable[..., Fabricated]) -> Fabricated:
    """A model whose cache has two buckets, the larger one longer than a chunk."""
    return fabricate(small(standard=True, max_length=400))


def test_a_long_prompt_goes_in_chunks(long: Fabricated) -> None:
    """Guards against positions, masks or chosen logits that are off behind the first chunk of a prompt."""
    bundle = open_bundle(long.path)
    assert (bundle.manifest.buckets, bundle.manifest.chunk) == ((256, 400), 256)
    backend = create_backend(bundle, "cpu")
    table = long.table
    expected, past = reference_logits(long.shape, long.weights, table[IDS])
    decoder = backend.bind(backend.new_cache(360))
    logits = decoder.prefill(table[IDS[:320]][None], np.array([[319, 0, 255, 256, 10]]))[0]
    np.testing.assert_allclose(logits, expected[[319, 0, 255, 256, 10]], rtol=1e-3, atol=1e-4)
    for at in range(320, 330):
        decoder.embeds[0, 0] = table[IDS[at]]
        decoder.step()
        np.testing.assert_allclose(decoder.logits[0, 0], expected[at], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(decoder.cache.snapshot().rows[1], past[0][1], rtol=1e-3, atol=1e-4)


def test_buckets_do_not_change_what_is_said(long: Fabricated) -> None:
    """Guards against attention that sees the empty end of a larger buffer."""
    backend = create_backend(open_bundle(long.path), "cpu")
    answers = []
    for capacity in (64, 256, 257, 400):
        decoder = backend.bind(backend.new_cache(capacity))
        decoder.prefill(long.table[IDS[:50]][None], np.zeros((1, 0), np.int64))
        decoder.embeds[0, 0] = long.table[IDS[50]]
        decoder.step()
        answers.append(decoder.logits.copy())
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[2], answers[3])
    np.testing.assert_allclose(answers[0], answers[3], rtol=1e-4, atol=1e-5)


def test_rows_of_a_cache_are_filled_one_by_one(long: Fabricated) -> None:
    """Guards against new rows that go into another row, or into memory of their own, behind a part of a cache."""
    backend = create_backend(open_bundle(long.path), "cpu")
    assert backend.max_batch == 1
    whole = backend.new_cache(64, 3)
    for row, count in ((2, 9), (0, 4)):
        part = backend.bind(whole.rows(row, row + 1))
        part.prefill(long.table[IDS[:count]][None], np.zeros((1, 0), np.int64))
    assert whole.lengths.tolist() == [4, 0, 9]
    alone = backend.bind(backend.new_cache(64))
    alone.prefill(long.table[IDS[:9]][None], np.zeros((1, 0), np.int64))
    rows = alone.cache.snapshot().rows
    np.testing.assert_array_equal([buffer[2, :, :9] for buffer in whole.buffers], rows)
    assert not any(buffer[1].any() for buffer in whole.buffers)


def test_a_failed_chunk_leaves_the_cache_as_it_was(long: Fabricated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against half a prompt that stays in the cache when a run breaks off."""
    backend = create_backend(open_bundle(long.path), "cpu")
    decoder = backend.bind(backend.new_cache(400))
    decoder.prefill(long.table[IDS[:5]][None], np.array([[4]]))
    write = BucketCache.write

    def break_off(cache: BucketCache, rows: Any) -> None:
        write(cache, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(BucketCache, "write", break_off)
    with pytest.raises(KeyboardInterrupt):
        decoder.prefill(long.table[IDS[:300]][None], np.array([[299]]))
    assert decoder.cache.length == 5


def test_hidden_states_of_every_chunk(fabricate: Callable[..., Fabricated]) -> None:
    """Guards against a head that reads the state of another position: chosen ones of two chunks, in any order."""
    made = fabricate(small(standard=True, max_length=400, locator=True))
    backend = create_backend(open_bundle(made.path), "cpu")
    decoder = backend.bind(backend.new_cache(400))
    at = np.array([[300, 7, 256]])
    logits = decoder.prefill(made.table[IDS[:310]][None], at)
    hidden = decoder.last_hidden
    assert hidden is not None
    np.testing.assert_allclose(hidden @ made.weights["head"], logits, rtol=1e-3, atol=1e-4)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(1, 5), st.integers(12, 16))
def test_mask(lengths: list[int], steps: int, bucket: int) -> None:
    """Guards against a token that sees a later one, or a row of the past that is not valid; checked place by place."""
    found = places(np.array(lengths, np.int32), steps, bucket)
    assert found["past_mask"].shape == (len(lengths), 1, 1, bucket)
    assert found["new_mask"].shape == (1, 1, steps, steps)
    for row, length in enumerate(lengths):
        assert np.flatnonzero(found["past_mask"][row] == 0).tolist() == list(range(length))
        assert found["positions"][row].tolist() == list(range(length, length + steps))
    for step in range(steps):
        assert np.flatnonzero(found["new_mask"][0, 0, step] == 0).tolist() == list(range(step + 1))
    assert {float(v) for mask in ("past_mask", "new_mask") for v in np.unique(found[mask])} <= {0, np.float32(MASKED)}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 30))
def test_bucket_cache_writes_behind_each_rows_length(lengths: list[int], steps: int, capacity: int) -> None:
    """Guards against rows of a batch that are written at each other's length, and a snapshot that reads elsewhere."""
    geometry = CacheGeometry(2, 3, 4, "float32", 64)
    cache = BucketCache(geometry, capacity, len(lengths), buckets=(32, 64))
    assert (cache.capacity, cache.bucket) == (capacity, 32)
    cache.lengths[:] = lengths
    rows = np.random.default_rng(0).normal(size=(2, 2, len(lengths), 3, steps, 4)).astype(np.float32)
    cache.write(rows)
    for index, buffer in enumerate(cache.buffers):
        for row, length in enumerate(lengths):
            part = rows[index // 2, index % 2, row]
            np.testing.assert_array_equal(buffer[row, :, length : length + steps], part)
            assert not buffer[row, :, :length].any()
    assert cache.lengths.tolist() == [length + steps for length in lengths]


def test_fork_stays_in_one_buffer() -> None:
    """Guards against a fork or a restore that leaves the buffer that the decoder reads."""
    cache = BucketCache(CacheGeometry(1, 2, 4, "float32", 64), 8, buckets=(16, 64))
    cache.write(np.ones((1, 2, 1, 2, 5, 4), np.float32))
    forked = cache.fork(3, 20)
    assert isinstance(forked, BucketCache)
    assert (forked.bucket, forked.lengths.tolist()) == (64, [5, 5, 5])
    assert forked.storage[..., :5, :].all()
    assert not forked.storage[..., 5:, :].any()


def test_it_says_that_it_is_a_double(fabricated_standard: Fabricated, scenes: list[Scene]) -> None:
    """Guards against a user who takes the speed of the proof for that of the device; and a whole answer comes out."""
    model = load(fabricated_standard.path)
    assert isinstance(model._backend, StandardBackend)
    assert any("for TensorRT" in note for note in model.notes)
    view = model.look(scenes[0])
    first, again = (view.ask("describe", max_tokens=6) for _ in range(2))
    assert (first.text, first.confidence) == (again.text, again.confidence)
    assert again.tokens["reused"] > 0


@pytest.mark.parametrize(("length", "buckets"), [(64, (64,)), (512, (256, 512)), (1024, (256, 512, 1024))])
def test_buckets(length: int, buckets: tuple[int, ...]) -> None:
    """Guards against a capacity that no engine is built for."""
    assert buckets_for(length) == buckets
    profiles = decoder_profiles(buckets, layers=2, kv_heads=3, head_dim=16, hidden=48)
    assert capacities(profiles) == buckets
    assert chunk_size(profiles) == min(256, buckets[0])
    assert len({profile.name for profile in profiles}) == 2 * len(buckets)
    for profile in profiles:
        steps = [shape[1] for shape in profile.shapes["inputs_embeds"]]
        assert [shape[2:] for shape in profile.shapes["new_mask"]] == [(step, step) for step in steps]
        capacity = profile.shapes["past_key.1"][0][2]
        assert profile.shapes["past_mask"] == ((1, 1, 1, capacity),) * 3
        assert (steps == [1, 1, 1]) == profile.name.startswith("decode")
    assert buckets_for(8192) == (256, 512, 1024)


def test_profiles_survive_the_manifest(fabricated_standard: Fabricated) -> None:
    """Guards against a shape that the reader loses."""
    manifest = open_bundle(fabricated_standard.path).manifest
    assert read_manifest(json.loads(json.dumps(manifest.to_dict()))) == manifest
    assert manifest.profiles


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda profiles: profiles.clear(), "needs profiles"),
        (lambda profiles: profiles[0].pop("name"), "name is missing"),
        (lambda profiles: profiles[0]["shapes"].update(new_mask=[[1], [1]]), "a least, a usual"),
        (lambda profiles: profiles[0]["shapes"].update(new_mask=[[1], [0], [1]]), "sizes from 1"),
        (lambda profiles: profiles[0]["shapes"].update(new_mask=[[2], [1], [3]]), "do not fall"),
        (lambda profiles: profiles.append(profiles[0]), "different names"),
        (lambda profiles: profiles[0].update(component="engine"), "one of vision"),
        (lambda profiles: profiles.__setitem__(0, 3), "objects"),
    ],
)
def test_profiles_that_are_not_well_formed(
    fabricated_standard: Fabricated, change: Callable[[Any], None], word: str
) -> None:
    """Guards against a traceback, or a buffer of a million rows, from a manifest that somebody wrote by hand."""
    data = json.loads((fabricated_standard.path / "bundle.json").read_text())
    change(data["profiles"])
    with pytest.raises(BundleError, match=word):
        read_manifest(data)
