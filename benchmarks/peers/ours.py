"""Our side of a comparison, one piece of work a process: ``python -m gmrt.benchmarks.peers.ours WORK BUNDLE``.

Fixed work: prompts and answers have the same number of tokens in every run, because nothing ends an answer early. The
sizes are those of ``llama-bench``: a prompt of 256 tokens, then 64 more behind it. The last line on stdout is one JSON
object.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gmrt.benchmarks.peers.work import CAPTION, NEW, PROMPT, QUESTION, REPEATS, TILES
from gmrt.runtime.backends import create_backend
from gmrt.runtime.bundle import Bundle, open_bundle
from gmrt.runtime.generate import decode_tokens
from gmrt.runtime.model import Model, load
from gmrt.runtime.sampling import greedy
from gmrt.runtime.scene import Scene, scene_from_array

_READ_BYTES = 256 << 20


def decode(path: Path) -> dict[str, float]:
    """Seconds of the prompt and of each following token, through the loop of the field and on the bare session."""
    bundle = open_bundle(path)
    decoder = _decoder(bundle)
    ids = np.random.default_rng(0).integers(100, bundle.manifest.vocab_size, PROMPT)
    embeds, last = bundle.table.lookup(ids)[None], np.array([[PROMPT - 1]])
    prefills, steps, bare = [], [], []
    for _ in range(REPEATS + 1):
        decoder.cache.truncate(0)
        prefill, logits = _timed(lambda: decoder.prefill(embeds, last)[0, 0])
        prefills.append(prefill)
        tokens = decode_tokens(
            decoder,
            bundle.table,
            logits,
            sampler=greedy,
            constraint=None,
            eos=frozenset(),
            max_tokens=NEW + 1,  # the last token of an answer is not run
            rewind_to=PROMPT,
        )
        steps.append(_timed(partial(deque, tokens, 0))[0] / NEW)
        bare.append(_timed(lambda: [decoder.step() for _ in range(NEW)])[0] / NEW)
    weights = sum(entry.bytes for name, entry in bundle.manifest.files.items() if name.startswith("decoder"))
    cache = bundle.manifest.cache.bytes_per_token * (PROMPT + NEW // 2)
    return {
        "prefill_s": _median(prefills),
        "token_s": _median(steps),
        "bare_token_s": _median(bare),
        "token_bytes": weights + cache,
    }


def tower(path: Path) -> dict[str, float]:
    """Seconds of tower and connector for one image of the bundle's size."""
    bundle = open_bundle(path)
    backend = create_backend(bundle, "cpu")
    spec = bundle.manifest.image
    pixels = np.random.default_rng(0).normal(size=(1, 3, spec.height, spec.width)).astype(np.float32)
    return {"tower_s": _median([_timed(lambda: backend.encode(pixels))[0] for _ in range(REPEATS + 1)])}


def first(path: Path) -> dict[str, float]:
    """Seconds from pixels to the first token of a 32-token question, and to that of a second one on the same image."""
    model = load(path)
    cold, warm = [], []
    for at in range(REPEATS + 1):
        scene = _scene(model, at)
        started = perf_counter()
        view = model.look(scene)
        view.ask(QUESTION, max_tokens=1)
        cold.append(perf_counter() - started)
        warm.append(_timed(partial(view.ask, f"{QUESTION}?", max_tokens=1))[0])
    return {"first_s": _median(cold), "second_s": _median(warm)}


def scene(path: Path) -> dict[str, float]:
    """Images a second over tiles with a caption of the same length each."""
    model = _endless(path)
    tiles = [_scene(model, at) for at in range(TILES)]
    list(model.ask_each(tiles[:2], QUESTION, max_tokens=CAPTION))
    seconds, found = _timed(lambda: list(model.ask_each(tiles, QUESTION, max_tokens=CAPTION)))
    assert all(outcome.answers[0].tokens["generated"] == CAPTION for outcome in found)
    return {"images_per_s": TILES / seconds}


def memory(path: Path) -> dict[str, float]:
    """Peak resident bytes (VmHWM) of a process that answers about one image."""
    model = load(path)
    model.look(_scene(model, 0)).ask(QUESTION, max_tokens=CAPTION)
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def bandwidth(_bundle: Path) -> dict[str, float]:
    """Bytes a second that two threads read from memory: the largest of 256 MB of int32 each, by numpy's SIMD loop."""
    parts = [np.ones(_READ_BYTES // 4, np.int32) for _ in range(2)]
    best = 0.0
    for _ in range(2 * REPEATS):
        threads = [threading.Thread(target=part.max) for part in parts]
        started = perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, 2 * _READ_BYTES / (perf_counter() - started))
    return {"bytes_per_s": best}


WORK: dict[str, Callable[[Path], dict[str, float]]] = {
    function.__name__: function for function in (decode, tower, first, scene, memory, bandwidth)
}


def _decoder(bundle: Bundle) -> Any:
    backend = create_backend(bundle, "cpu")
    return backend.bind(backend.new_cache(PROMPT + 2 * NEW))


def _endless(path: Path) -> Model:
    """A model whose answers nothing but their length ends."""
    bundle = open_bundle(path)
    manifest = replace(bundle.manifest, prompt=replace(bundle.manifest.prompt, eos_token_ids=()))
    endless = replace(bundle, manifest=manifest, scalars=None, locator=None)
    return Model(endless, create_backend(bundle, "cpu"), max_capacity=manifest.cache.max_length, load_ms=0)


def _scene(model: Model, seed: int) -> Scene:
    """Blocks of colour at the model's own size; each seed gives another image."""
    spec = model.bundle.manifest.image
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    scale = (-(-spec.height // 16), -(-spec.width // 16))
    return scene_from_array(np.repeat(np.repeat(blocks, scale[0], 0), scale[1], 1)[: spec.height, : spec.width])


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = perf_counter()
    result = work()
    return perf_counter() - started, result


def _median(seconds: list[float]) -> float:
    """The median without the first, which warms up."""
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](Path(sys.argv[2]))))
