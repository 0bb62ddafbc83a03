"""The TensorRT backend on a double of the device (`host_device`): what is queued, when, and where memory goes."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricate import Fabricated, reference_logits, small
from host_device import HostDevice, host_engines

from gmrt.cli import main
from gmrt.runtime import engines
from gmrt.runtime import model as model_module
from gmrt.runtime.backends import create_backend
from gmrt.runtime.backends.standard import pieces
from gmrt.runtime.backends.tensorrt import DeviceCache, TensorRTBackend, TensorRTDecoder
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.engines import find_engine, plan_engines, this_device
from gmrt.runtime.errors import BundleError, CacheFullError, ProviderError
from gmrt.runtime.manifest import CacheGeometry
from gmrt.runtime.model import load
from gmrt.runtime.scene import Scene

IDS = np.random.default_rng(0).integers(5, 200, 330)
NO_TENSORRT = importlib.util.find_spec("tensorrt") is None


@pytest.fixture(scope="module")
def long(fabricate: Callable[..., Fabricated]) -> Fabricated:
    """A model whose cache has two buckets, the larger one longer than a chunk."""
    return fabricate(small(standard=True, max_length=400))


def opened(path: Path) -> tuple[TensorRTBackend, HostDevice]:
    """A bundle on a double."""
    bundle, device = open_bundle(path), HostDevice()
    return TensorRTBackend(bundle, device, host_engines(bundle, device)), device


def bound(backend: TensorRTBackend, capacity: int) -> TensorRTDecoder:
    """A decoder over a new cache."""
    decoder = backend.bind(backend.new_cache(capacity))
    assert isinstance(decoder, TensorRTDecoder)
    return decoder


def test_a_step_is_one_graph_one_copy_and_one_wait(long: Fabricated) -> None:
    """Guards against memory that is allocated for a token, a run outside the recorded graph, and a second wait."""
    backend, device = opened(long.path)
    decoder = bound(backend, 64)
    decoder.prefill(long.table[IDS[:5]][None], np.array([[4]]))
    held = device.nbytes
    before = dict(device.queued)
    for at in range(5, 9):
        decoder.embeds[0, 0] = long.table[IDS[at]]
        decoder.step()
    found = {kind: count - before[kind] for kind, count in device.queued.items()}
    assert {kind: count for kind, count in found.items() if count} == {"launch": 4, "copy_rows": 4, "synchronise": 4}
    assert device.nbytes == held
    expected, _ = reference_logits(long.shape, long.weights, long.table[IDS[:9]])
    np.testing.assert_allclose(decoder.logits[0, 0], expected[8], rtol=1e-3, atol=1e-4)


def test_a_long_prompt_says_what_it_says_on_onnxruntime(long: Fabricated) -> None:
    """Guards against chunks that are rotated, masked or written elsewhere than by the proof on onnxruntime."""
    device = opened(long.path)[0]
    host = create_backend(open_bundle(long.path), "cpu")
    at = np.array([[319, 0, 255, 256, 10]])
    answers, rows = [], []
    for backend in (device, host):
        decoder = backend.bind(backend.new_cache(360))
        said = [decoder.prefill(long.table[IDS[:320]][None], at)[0]]
        for token in IDS[320:330]:
            decoder.embeds[0, 0] = long.table[token]
            decoder.step()
            said.append(decoder.logits[0].copy())
        answers.append(np.concatenate(said))
        rows.append(decoder.cache.snapshot().rows)
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-5)


def test_more_positions_than_a_profile_returns(long: Fabricated) -> None:
    """Guards against a run with 50 positions where the engine was built for 32, and logits of another position."""
    decoder = bound(opened(long.path)[0], 128)
    at = np.random.default_rng(1).permutation(100)[:50][None]
    logits = decoder.prefill(long.table[IDS[:100]][None], at)
    expected, _ = reference_logits(long.shape, long.weights, long.table[IDS[:100]])
    np.testing.assert_allclose(logits[0], expected[at[0]], rtol=1e-3, atol=1e-4)


def test_pieces_of_a_prompt() -> None:
    """Guards against a token that is left out or comes twice, an endless loop, and a piece of too many positions."""
    random = np.random.default_rng(0)
    for _ in range(200):
        steps, chunk, most = (int(random.integers(1, high)) for high in (60, 20, 5))
        asked = random.integers(0, steps, (1, random.integers(0, 12)))
        found = list(pieces(steps, asked, chunk, most))
        assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
        assert found[-1][1] == steps
        for start, stop in found:
            assert 0 < stop - start <= chunk
            assert len({at for at in asked[0] if start <= at < stop}) <= most


def test_an_engine_for_each_bucket_as_long_as_it_is_used(long: Fabricated) -> None:
    """Guards against a cache on another capacity's engine, one engine loaded twice, and weights that stay for ever."""
    backend, device = opened(long.path)
    opened_engines: list[str] = []
    load_engine = backend._open
    backend._open = lambda name: opened_engines.append(name) or load_engine(name)  # type: ignore[func-returns-value]
    one, same = bound(backend, 64), bound(backend, 256)
    assert opened_engines == ["decoder-256"]
    other = bound(backend, 257)
    assert opened_engines == ["decoder-256", "decoder-400"]
    # Two decoders of one engine have each their own recorded step.
    for decoder, token in ((one, 9), (same, 30), (one, 77)):
        decoder.embeds[0, 0] = long.table[token]
        decoder.step()
    expected, _ = reference_logits(long.shape, long.weights, long.table[[9, 77]])
    np.testing.assert_allclose(one.logits[0, 0], expected[1], rtol=1e-3, atol=1e-4)
    assert same.cache.length == 1
    held = device.nbytes
    del one, same, decoder
    gc.collect()
    assert device.nbytes < held
    del other
    gc.collect()
    assert device.nbytes == 0


def test_a_cache_on_the_device() -> None:
    """Guards against a snapshot, a fork or a restore that reads other rows, and a buffer that is not empty."""
    device = HostDevice()
    geometry = CacheGeometry(2, 3, 4, "float16", 64)
    cache = DeviceCache(geometry, 20, 1, device=device, buckets=(32, 64))
    assert (cache.bucket, cache.nbytes) == (32, 2 * 2 * 3 * 32 * 4 * 2)
    assert cache.snapshot().length == 0
    rows = np.random.default_rng(0).normal(size=(2, 2, 1, 3, 7, 4)).astype(np.float16)
    for start, stop in ((0, 5), (5, 7)):
        part = np.ascontiguousarray(rows[..., start:stop, :])
        cache.keep(part.ctypes.data, stop - start)
        device.synchronise()
        cache.advance(stop - start)
    snapshot = cache.snapshot()
    np.testing.assert_array_equal(snapshot.rows, rows[:, :, 0].reshape(4, 3, 7, 4))
    forked = cache.fork(1, 40)
    assert isinstance(forked, DeviceCache)
    assert forked.bucket == 64
    np.testing.assert_array_equal(forked.snapshot().rows, snapshot.rows)
    cache.truncate(3)
    np.testing.assert_array_equal(cache.snapshot().rows, snapshot.rows[:, :, :3])
    cache.restore(snapshot)
    assert cache.length == 7
    assert cache.rows(0, 1) is cache
    cache.copy_row(0, 0)
    with pytest.raises(CacheFullError):
        DeviceCache(geometry, 6, 1, device=device, buckets=(32,)).restore(snapshot)
    for refused in (lambda: cache.fork(2), lambda: cache.rows(1, 2), lambda: cache.copy_row(0, 1)):
        with pytest.raises(ValueError, match="one"):
            refused()


@pytest.mark.parametrize("locator", [False, True])
def test_a_whole_answer(
    fabricate: Callable[..., Fabricated], scenes: list[Scene], locator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a part of the backend that answering needs and no other test asks for: the same words."""
    path = fabricate(small(standard=True, locator=locator)).path
    plain = load(path)
    monkeypatch.setattr(model_module, "create_backend", lambda bundle, _: opened(bundle.root)[0])
    device = load(path, provider="tensorrt")
    assert (device.provider, device.notes) == ("tensorrt", ())
    for scene in scenes[:2]:
        views = [model.look(scene) for model in (plain, device)]
        np.testing.assert_allclose(views[0].encoded.embeds, views[1].encoded.embeds, rtol=1e-5, atol=1e-6)
        for question in ("describe", "how many?", "describe"):
            one, other = (view.ask(question, max_tokens=6) for view in views)
            assert (one.text, one.tokens) == (other.text, other.tokens)
        many = [view.ask_many(["describe", "how many?"], max_tokens=4) for view in views]
        assert [a.text for a in many[0]] == [a.text for a in many[1]]


def test_a_bundle_for_the_cpu(fabricated: Fabricated) -> None:
    """Guards against a search for engines that no command could build."""
    with pytest.raises(BundleError, match="--target tensorrt"):
        create_backend(open_bundle(fabricated.path), "tensorrt")


@pytest.mark.skipif(not NO_TENSORRT, reason="TensorRT is installed here")
def test_without_tensorrt_one_sentence_says_where_it_comes_from(
    fabricated_standard: Fabricated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a traceback, and a silent fall back to the CPU."""
    image = tmp_path / "scene.tif"
    assert main(["sample", str(image), "--size", "64"]) == 0
    bundle = str(fabricated_standard.path)
    capfd.readouterr()
    assert main(["infer", str(image), "describe", "--bundle", bundle, "--provider", "tensorrt"]) == 2
    said = capfd.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == ""
    assert "TensorRT is not installed" in line
    assert "JetPack" in line


@pytest.mark.skipif(NO_TENSORRT, reason="TensorRT is not installed here")
def test_on_the_device_itself(long: Fabricated) -> None:
    """Guards against all that a double cannot know; needs engines, which are built first."""
    bundle = open_bundle(long.path)
    assert main(["build", str(long.path)]) == 0
    here = this_device()
    for job in plan_engines(bundle.root, bundle.manifest, workspace=0):
        assert find_engine(bundle.root, job, here).is_file()
    decoder = (backend := create_backend(bundle, "tensorrt")).bind(backend.new_cache(360))
    expected, _ = reference_logits(long.shape, long.weights, long.table[IDS])
    logits = decoder.prefill(long.table[IDS[:320]][None], np.array([[319, 0, 255]]))
    np.testing.assert_allclose(logits[0], expected[[319, 0, 255]], rtol=1e-2, atol=1e-3)
    for at in range(320, 330):
        decoder.embeds[0, 0] = long.table[IDS[at]]
        decoder.step()
        np.testing.assert_allclose(decoder.logits[0, 0], expected[at], rtol=1e-2, atol=1e-3)


def test_an_engine_that_was_not_built_is_named_with_the_command(
    fabricated_standard: Fabricated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against the first answer as the place where a missing engine is found out."""
    monkeypatch.setattr(engines, "this_device", lambda: engines.Device("10.3.0", "8.7"))
    with pytest.raises(
        ProviderError, match=r"no engine of vision for this device, none has been built: run gmrt build"
    ):
        create_backend(open_bundle(fabricated_standard.path), "tensorrt")
