"""The probe for a cache of 8 bits, and what happens where it says no."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gmrt.runtime.backends import int8_cache
from gmrt.runtime.backends.int8_cache import int8_cache_works, require_int8_cache
from gmrt.runtime.cache import KVCache
from gmrt.runtime.errors import ProviderError
from gmrt.runtime.manifest import CacheGeometry

ORT = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def fresh() -> Any:
    """Ask anew in every test, and leave no pretended answer behind."""
    int8_cache_works.cache_clear()
    yield
    int8_cache_works.cache_clear()


def test_the_probe_believes_answers_only() -> None:
    """Guards against a probe that is always true or always false: releases from 1.27 on have been seen to be right."""
    release = tuple(int(part) for part in ORT.__version__.split(".")[:2])
    assert int8_cache_works() == (release >= (1, 27))


def test_a_build_that_accepts_the_graph_and_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against taking the absence of an error for an answer: here the attention forgets its past."""
    if not int8_cache_works():
        pytest.skip("this onnxruntime has no right cache of 8 bits")
    int8_cache_works.cache_clear()
    mixed = int8_cache._mixed
    monkeypatch.setattr(int8_cache, "_mixed", lambda q, k, v: mixed(q, k[-len(q) :], v[-len(q) :]))
    assert not int8_cache_works()


def test_an_old_release_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against onnxruntime's own message about an attribute that nobody has heard of."""

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("Unrecognized attribute: kv_cache_bit_width")

    old = SimpleNamespace(__version__="1.23.2", SessionOptions=ORT.SessionOptions, InferenceSession=refuse)
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    with pytest.raises(ProviderError, match=r"^b keeps its cache in 8 bits.*1\.23\.2.*1\.27 or newer.*--cache int8$"):
        require_int8_cache("b")


def test_eight_bits_take_a_quarter() -> None:
    """Guards against a plan that counts floats: bytes a token, and of the buffers themselves."""
    floats, eight = (CacheGeometry(30, 3, 64, dtype, 512) for dtype in ("float32", "int8"))
    assert floats.bytes_per_token == 4 * eight.bytes_per_token == 46080
    assert KVCache(eight, 64).nbytes * 4 == KVCache(floats, 64).nbytes
    assert all(buffer.dtype == np.int8 for buffer in KVCache(eight, 64).fork(2).buffers)
