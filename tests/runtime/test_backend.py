"""Backends against the numpy decoder with a growing cache: the known answer for shared buffers, in both dialects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fabricate import CONTROL, Fabricated, reference_logits, reseal, small
from host_device import HostDevice, host_engines
from onnx import TensorProto, helper, numpy_helper

from gmrt.cli import main
from gmrt.runtime.backends import Backend, create_backend, machine
from gmrt.runtime.backends.ort import DeviceKVCache, OrtBackend, OrtDecoder
from gmrt.runtime.backends.standard import StandardBackend
from gmrt.runtime.backends.tensorrt import TensorRTBackend
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.cache import Snapshot
from gmrt.runtime.errors import BundleError, CacheFullError, ProviderError

IDS = np.array([5, 9, 30, 77, 12, 200, 100, 3, 50])
LAST = np.array([[0]])


@pytest.fixture(scope="module", params=["onnxruntime", "standard", "tensorrt-double", "tensorrt"])
def backend(request: pytest.FixtureRequest, fabricated: Fabricated, fabricated_standard: Fabricated) -> Backend:
    """The fabricated bundle in either dialect on the CPU, on a double of TensorRT, and on TensorRT where it is."""
    if request.param == "onnxruntime":
        return create_backend(open_bundle(fabricated.path), "cpu")
    bundle = open_bundle(fabricated_standard.path)
    if request.param == "standard":
        made = create_backend(bundle, "cpu")
        assert isinstance(made, StandardBackend)
        return made
    if request.param == "tensorrt-double":
        device = HostDevice()
        return TensorRTBackend(bundle, device, host_engines(bundle, device))
    pytest.importorskip("tensorrt", reason="TensorRT is not installed here")
    assert main(["build", str(bundle.root)]) == 0
    return create_backend(bundle, "tensorrt")


@pytest.fixture(scope="module")
def ort_backend(fabricated: Fabricated) -> OrtBackend:
    """The fabricated bundle in the onnxruntime dialect."""
    made = create_backend(open_bundle(fabricated.path), "cpu")
    assert isinstance(made, OrtBackend)
    return made


def close(actual: Any, expected: Any) -> None:
    """Equal up to the rounding of float32 sums in another order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


def test_prefill_and_steps_agree_with_the_reference(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against positions, masks or lengths that are one off anywhere along prefill, more prefill, and steps."""
    table = fabricated.table
    expected, _ = reference_logits(fabricated.shape, fabricated.weights, table[IDS])
    decoder = backend.bind(backend.new_cache(64))
    close(decoder.prefill(table[IDS[:4]][None], np.array([[0, 1, 2, 3]]))[0], expected[:4])
    close(decoder.prefill(table[IDS[4:6]][None], np.array([[1]]))[0], expected[5:6])
    for at in range(6, 9):
        decoder.embeds[0, 0] = table[IDS[at]]
        decoder.step()
        close(decoder.logits[0, 0], expected[at])
        if isinstance(decoder, OrtDecoder):
            assert decoder._total[0] == at + 1  # the CPU kernel gets by without it, others do not
    assert decoder.cache.length == 9


def test_present_is_written_into_the_caches_own_buffers(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a binding that copies: the cache would stay empty and every answer forget its prompt."""
    _, past = reference_logits(fabricated.shape, fabricated.weights, fabricated.table[IDS])
    decoder = backend.bind(backend.new_cache(64))
    decoder.prefill(fabricated.table[IDS][None], LAST)
    rows = decoder.cache.snapshot().rows
    for layer, (key, value) in enumerate(past):
        close(rows[2 * layer], key)
        close(rows[2 * layer + 1], value)


def test_truncated_rows_leave_no_trace(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a kernel that attends to the capacity instead of the length (silently wrong text)."""
    table = fabricated.table
    clean = backend.bind(backend.new_cache(64))
    dirty = backend.bind(backend.new_cache(64))
    shape = list(clean.cache.snapshot().rows.shape)
    shape[2] = 64
    dirty.cache.restore(Snapshot(np.full(shape, 1e6, np.float32)))
    dirty.cache.truncate(0)
    dirty.prefill(table[IDS][None], LAST)
    dirty.cache.truncate(0)
    for decoder in (clean, dirty):
        decoder.prefill(table[IDS[:3]][None], LAST)
        decoder.embeds[0, 0] = table[IDS[3]]
        decoder.step()
    np.testing.assert_array_equal(clean.logits, dirty.logits)


def test_restored_prefix_gives_the_very_same_numbers(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a reuse that is only nearly right: same kernels, same rows, so the same bits."""
    table = fabricated.table
    cold = backend.bind(backend.new_cache(64))
    cold.prefill(table[IDS[:6]][None], np.zeros((1, 0), np.int64))
    snapshot = cold.cache.snapshot()
    warm = backend.bind(backend.new_cache(128))
    warm.cache.restore(snapshot)
    both = [d.prefill(table[IDS[6:]][None], np.array([[2]])) for d in (cold, warm)]
    np.testing.assert_array_equal(both[0], both[1])


def test_batched_steps_with_different_lengths(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a batch that shares one length: many questions about one image decode together later."""
    if backend.provider == "tensorrt":
        with pytest.raises(ValueError, match="built for one"):
            backend.new_cache(64, batch=2)
        return
    table, shape, weights = fabricated.table, fabricated.shape, fabricated.weights
    decoder = backend.bind(backend.new_cache(64, batch=2))
    padded = np.stack([table[IDS[:5]], np.concatenate([table[IDS[:3]], np.zeros_like(table[:2])])])
    logits = decoder.prefill(padded, np.array([[4], [2]]))
    close(logits[0, 0], reference_logits(shape, weights, table[IDS[:5]])[0][-1])
    close(logits[1, 0], reference_logits(shape, weights, table[IDS[:3]])[0][-1])
    decoder.cache.lengths[1] = 3
    decoder.embeds[:, 0] = table[IDS[[5, 3]]]
    decoder.step()
    close(decoder.logits[0, 0], reference_logits(shape, weights, table[IDS[:6]])[0][-1])
    close(decoder.logits[1, 0], reference_logits(shape, weights, table[IDS[:4]])[0][-1])


def test_full_cache_is_refused_before_anything_is_written(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a kernel writing behind its buffer."""
    decoder = backend.bind(backend.new_cache(4))
    decoder.prefill(fabricated.table[IDS[:4]][None], LAST)
    with pytest.raises(CacheFullError):
        decoder.step()
    with pytest.raises(CacheFullError):
        decoder.prefill(fabricated.table[IDS[:2]][None], LAST)
    assert decoder.cache.length == 4


def test_cache_on_a_device(ort_backend: OrtBackend, fabricated: Fabricated) -> None:
    """Guards against a device cache whose snapshot or restore loses rows (OrtValues, here in host memory)."""
    table = fabricated.table
    cache = DeviceKVCache(ort_backend._bundle.manifest.cache, 64, 1, ort=ort, device="cpu")
    assert cache.nbytes == ort_backend.new_cache(64).nbytes
    on_device, plain = ort_backend.bind(cache), ort_backend.bind(ort_backend.new_cache(64))
    on_device._rebind = True  # as for a provider that copies its inputs when they are bound
    for decoder in (on_device, plain):
        decoder.prefill(table[IDS[:5]][None], LAST)
    np.testing.assert_array_equal(cache.snapshot().rows, plain.cache.snapshot().rows)
    forked = ort_backend.bind(cache.fork(1, 32))
    cache.restore(plain.cache.snapshot())
    for decoder in (on_device, plain, forked):
        decoder.embeds[0, 0] = table[IDS[5]]
        decoder.step()
        np.testing.assert_array_equal(decoder.logits, plain.logits if decoder is plain else on_device.logits)
    np.testing.assert_array_equal(on_device.logits, plain.logits)
    with pytest.raises(CacheFullError):
        cache.fork(1, 4)


def test_tower(backend: Backend, fabricated: Fabricated) -> None:
    """Guards against a batch of images whose embeddings are mixed up."""
    shape = fabricated.shape
    pixels = np.random.default_rng(0).normal(size=(2, 3, shape.side, shape.side)).astype(np.float32)
    embeds = backend.encode(pixels).embeds
    assert embeds.shape == (2, shape.image_tokens, shape.hidden)
    np.testing.assert_array_equal(backend.encode(pixels[1:]).embeds[0], embeds[1])


def test_half_precision_runs_and_says_that_it_is_storage(fabricate: Any) -> None:
    """Guards against an fp16 bundle that fails on a CPU, and against letting a user believe that it is faster."""
    made = fabricate(small(weights="float16", cache_dtype="float16"))
    backend = create_backend(open_bundle(made.path), "cpu")
    assert "only stored in half precision" in backend.notes[0]
    decoder = backend.bind(backend.new_cache(64))
    logits = decoder.prefill(made.table[IDS][None], np.array([[8]]))
    expected = reference_logits(made.shape, made.weights, made.table[IDS])[0][-1]
    np.testing.assert_allclose(logits[0, 0], expected, atol=0.05)
    assert decoder.cache.buffers[0].dtype == np.float16


def test_provider_that_there_is_not(fabricated: Fabricated) -> None:
    """Guards against a silent fall back to the CPU."""
    with pytest.raises(ProviderError, match="unknown provider"):
        create_backend(open_bundle(fabricated.path), "tpu")


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_that_is_not_installed(fabricated: Fabricated) -> None:
    """Guards against onnxruntime's own warning and fall back, which look like success."""
    with pytest.raises(ProviderError, match="no CUDAExecutionProvider"):
        create_backend(open_bundle(fabricated.path), "cuda")


def test_onnxruntime_that_is_too_old(altered: Any) -> None:
    """Guards against a kernel missing halfway; also that 1.9 counts as older than 1.31."""
    reseal(altered, min_onnxruntime="99.1")
    with pytest.raises(ProviderError, match=r"needs onnxruntime 99\.1 or newer"):
        create_backend(open_bundle(altered), "cpu")
    reseal(altered, min_onnxruntime="1.9")
    assert create_backend(open_bundle(altered), "cpu").notes == ()


def test_graph_that_is_not_the_manifests(altered: Any) -> None:
    """Guards against a graph of another dialect, found out as an exception of onnxruntime in the first answer."""
    model = onnx.load(altered / "decoder.onnx")
    del model.graph.output[1]
    onnx.save(model, altered / "decoder.onnx")
    reseal(altered)
    with pytest.raises(BundleError, match=r"decoder\.onnx: its outputs differ from the manifest in last_hidden"):
        create_backend(open_bundle(altered), "cpu")


def test_graph_that_does_not_run(altered: Any) -> None:
    """Guards against onnxruntime's own exceptions, which nobody expects from this package."""
    model = onnx.load(altered / "decoder.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, altered / "decoder.onnx")
    reseal(altered)
    with pytest.raises(BundleError, match=r"decoder\.onnx: onnxruntime refused the graph"):
        create_backend(open_bundle(altered), "cpu")
    cache = json.loads((altered / "bundle.json").read_text())["cache"]
    (altered / "decoder.onnx").write_bytes(b"not a model")
    reseal(altered, cache=cache | {"layers": 1})
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        create_backend(open_bundle(altered), "cpu")


def test_geometry_that_is_not_the_graphs(altered: Any) -> None:
    """Guards against buffers of another shape than the graph's: refused by name, not read out of bounds."""
    cache = json.loads((altered / "bundle.json").read_text())["cache"]
    reseal(altered, cache=cache | {"head_dim": 32})
    backend = create_backend(open_bundle(altered), "cpu")
    with pytest.raises(BundleError, match=r"decoder\.onnx: onnxruntime refused"):
        backend.bind(backend.new_cache(16)).prefill(np.zeros((1, 2, 64), np.float32), LAST)


def test_probe_is_a_valid_model_and_says_what_the_kernels_do() -> None:
    """Guards against a probe that fails to load, or that answers without looking: compared with a whole layer."""
    onnx.checker.check_model(onnx.load_from_string(machine._matmul_integer()))
    assert machine.int8_products_saturate() == (quantised_layer({}) != pytest.approx(63.5, rel=0.01))


def test_x64_precision_repairs_saturating_kernels() -> None:
    """Guards against an INT8 tower that answers noise on x86 without VNNI: 64 products of 127 · 127 must add up."""
    assert quantised_layer({"session.x64quantprecision": "1"}) == pytest.approx(63.5, rel=0.01)


def quantised_layer(config: dict[str, str]) -> float:
    """A symmetric S8 Q/DQ 1 × 1 convolution over 64 channels of ones with weights of one; half its range is 63.5."""
    arrays = {
        "step": np.array(1 / 127, np.float32),
        "zero": np.array(0, np.int8),
        "kernel": np.full((8, 64, 1, 1), 127, np.int8),
        "kernel_step": np.full(8, 1 / 127, np.float32),
        # A zero point of its own: without one, onnxruntime 1.23 aborts under x64quantprecision.
        "kernel_zero": np.zeros(8, np.int8),
        "out_step": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "step", "zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["kernel", "kernel_step", "kernel_zero"], ["kernel_f"], axis=0),
        helper.make_node("Conv", ["xf", "kernel_f"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "out_step", "zero"], ["y8"]),
        helper.make_node("DequantizeLinear", ["y8", "out_step", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": np.ones((1, 64, 4, 4), np.float32)})[0].mean())


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against counting hardware threads, or the host's cores in a container of two."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "_siblings", lambda cpu: f"{cpu % 2},{cpu % 2 + 2}")
    monkeypatch.setattr(machine, "_container_quota", lambda: 64)
    assert machine.physical_cores() == 2
    monkeypatch.setattr(machine, "_container_quota", lambda: 1)
    assert machine.physical_cores() == 1


def test_control_tokens_are_where_the_bundle_says(fabricated: Fabricated) -> None:
    """Guards the tests themselves: the fabricated manifest's ids are the tokenizer's."""
    tokenizer = open_bundle(fabricated.path).tokenizer
    assert [tokenizer.token_to_id(token) for token in CONTROL] == list(range(len(CONTROL)))
