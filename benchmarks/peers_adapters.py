"""The peers' side: each is a program in an environment of its own, run as a process and read by what it prints.

Nothing of a peer is imported here. Each adapter runs the work that `gmrt.benchmarks.peers_ours` names, on so many
threads, and returns the same figures.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from gmrt.benchmarks.peers_ours import CAPTION, NEW, PROMPT, REPEATS

_ENCODED = re.compile(r"slice encoded in (\d+) ms")
_PROMPT = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*(\d+) tokens")
_EVAL = re.compile(r"[^t] eval time =\s*([\d.]+) ms /\s*(\d+) runs")

_GENAI = """
import json, statistics, sys, time
import numpy as np
import onnxruntime_genai as og
path, prompt, new, repeats, threads = sys.argv[1], *map(int, sys.argv[2:])
config = og.Config(path)
config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
model = og.Model(config)
ids = np.random.default_rng(0).integers(100, 40000, prompt).astype(np.int32)
prefills, tokens = [], []
for _ in range(repeats + 1):
    options = og.GeneratorParams(model)
    options.set_search_options(max_length=prompt + new + 2, min_length=prompt + new + 1, do_sample=False)
    generator = og.Generator(model, options)
    started = time.perf_counter()
    generator.append_tokens(ids[None])
    generator.generate_next_token()
    prefills.append(time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(new):
        generator.generate_next_token()
    tokens.append((time.perf_counter() - started) / new)
    del generator
print(json.dumps({"prefill_s": statistics.median(prefills[1:]), "token_s": statistics.median(tokens[1:])}))
"""

_OPENVINO = """
import json, statistics, sys, time
import numpy as np
import openvino as ov
path, side, repeats, threads = sys.argv[1], *map(int, sys.argv[2:])
core = ov.Core()
model = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
times = []
for _ in range(repeats + 1):
    started = time.perf_counter()
    model([pixels])
    times.append(time.perf_counter() - started)
print(json.dumps({"tower_s": statistics.median(times[1:])}))
"""


class LlamaCpp:
    """``llama-bench`` and ``llama-mtmd-cli`` in the folder ``programs``."""

    def __init__(self, programs: Path, threads: int) -> None:
        self._programs, self._threads = programs, str(threads)

    def decode(self, gguf: Path) -> dict[str, float]:
        """Seconds of a prompt, and of each token behind it."""
        shared = ("-m", str(gguf), "-t", self._threads, "-r", str(REPEATS), "-o", "json")
        prompt = self._bench(*shared, "-p", str(PROMPT), "-n", "0")
        token = self._bench(*shared, "-p", "0", "-n", str(NEW), "-d", str(PROMPT))
        return {"prefill_s": PROMPT / prompt, "token_s": 1 / token}

    def image(self, gguf: Path, projector: Path, image: Path, question: str) -> dict[str, float]:
        """Seconds of tower, first token and whole caption of one image, loading left out."""
        output = _run(
            *(str(self._programs / "llama-mtmd-cli"), "-m", str(gguf), "--mmproj", str(projector)),
            *("--image", str(image), "-p", question, "-n", str(CAPTION), "-t", self._threads, "--temp", "0"),
            "--ignore-eos",
        )
        return read_mtmd(output)

    def _bench(self, *arguments: str) -> float:
        return read_bench(_run(str(self._programs / "llama-bench"), *arguments, errors=False))


def read_bench(output: str) -> float:
    """Tokens a second from what ``llama-bench -o json`` prints for one test."""
    (test,) = json.loads(output[output.index("[") :])
    return float(test["avg_ts"])


def read_mtmd(output: str) -> dict[str, float]:
    """Seconds from the log of ``llama-mtmd-cli``; an image's tokens are part of its prompt."""
    encoded = sum(int(ms) for ms in _ENCODED.findall(output)) / 1e3
    prompt, generated = _PROMPT.search(output), _EVAL.search(output)
    if not encoded or prompt is None or generated is None:
        raise ValueError(f"llama-mtmd-cli printed no timings: …{output[-300:]!r}")
    token = float(generated[1]) / 1e3 / int(generated[2])
    first = encoded + float(prompt[1]) / 1e3
    return {"tower_s": encoded, "first_s": first, "image_s": first + CAPTION * token}


def genai(python: Path, model: Path, threads: int) -> dict[str, float]:
    """ONNX Runtime GenAI: seconds of a prompt with its first token, and of each token behind it."""
    arguments = (str(model), str(PROMPT), str(NEW), str(REPEATS), str(threads))
    return _json(_run(str(python), "-c", _GENAI, *arguments, errors=False))


def openvino_tower(python: Path, model: Path, side: int, threads: int) -> dict[str, float]:
    """OpenVINO: seconds of a tower that was exported for it."""
    return _json(_run(str(python), "-c", _OPENVINO, str(model), str(side), str(REPEATS), str(threads), errors=False))


def _json(output: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return found


def _run(*command: str, errors: bool = True) -> str:
    """What a program prints, with its log where ``errors`` says so."""
    done = subprocess.run(
        command,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
    )
    return done.stdout
