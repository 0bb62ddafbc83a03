"""llama.cpp, built from the tree that llama-cpp-python carries: its ``llama-bench`` and ``llama-mtmd-cli``."""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from gmrt.benchmarks.peers import models
from gmrt.benchmarks.peers.run import PeerError, output_of
from gmrt.benchmarks.peers.steps import INSIDE, call, fetch, once
from gmrt.benchmarks.peers.work import CAPTION, NEW, PROMPT, QUESTION, REPEATS

PACKAGE = "llama-cpp-python==0.3.36"
PROGRAMS = ("llama-bench", "llama-mtmd-cli", "llama-quantize")
# GGML_NATIVE takes every instruction that this machine has.
OPTIONS = (
    "CMAKE_BUILD_TYPE=Release",
    "GGML_NATIVE=ON",
    "LLAMA_CURL=OFF",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_SERVER=OFF",
    "BUILD_SHARED_LIBS=OFF",
)

_ENCODED = re.compile(r"mtmd batch encoding done in (\d+) ms")
_PROMPT = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*(\d+) tokens")
_EVAL = re.compile(r"[^t] eval time =\s*([\d.]+) ms /\s*(\d+) runs")


@dataclass(frozen=True)
class LlamaCpp:
    """The programs, and the models that they run."""

    programs: Path
    q8_0: Path
    q4_0: Path
    projector: Path

    def decode(self, gguf: Path, threads: int) -> dict[str, float]:
        """Seconds of a prompt, and of each token behind it."""
        shared = ("-m", gguf, "-t", threads, "-r", REPEATS, "-o", "json")
        prompt = self._bench(*shared, "-p", PROMPT, "-n", 0)
        token = self._bench(*shared, "-p", 0, "-n", NEW, "-d", PROMPT)
        return {"prefill_s": PROMPT / prompt, "token_s": 1 / token}

    def image(self, image: Path, threads: int) -> dict[str, float]:
        """Seconds of tower, first token and whole caption of one image; loading and reading the file are left out."""
        return read_mtmd(
            output_of(
                *(self.programs / "llama-mtmd-cli", "-m", self.q8_0, "--mmproj", self.projector, "--image", image),
                *("-p", QUESTION, "-n", CAPTION, "-t", threads, "--temp", 0, "--ignore-eos"),
                *("--perf", "--log-verbosity", 4),  # without the second, times are not printed
                *("--chat-template", "chatml"),  # ours; the file's own begins with a system prompt
                log=True,
            )
        )

    def _bench(self, *arguments: object) -> float:
        return read_bench(output_of(self.programs / "llama-bench", *arguments))


def setup(folder: Path) -> LlamaCpp:
    """Build the programs with CMake (about 8 minutes on 2 cores) and make the models."""
    source = models.gguf(folder)
    archive = fetch(folder / "llama-cpp-python", PACKAGE, "--no-binary", "llama-cpp-python")
    tree = once(folder / "llama-source", "llama.cpp's sources", lambda partial: _unpack(archive, partial))
    (vendored,) = tree.glob("*/vendor/llama.cpp")
    build = folder / "llama"
    if not all((build / "bin" / name).exists() for name in PROGRAMS):
        call("cmake", "-S", vendored, "-B", build, *(f"-D{option}" for option in OPTIONS))
        call("cmake", "--build", build, "--parallel", "--target", *PROGRAMS)
    q8_0, q4_0 = (_quantized(build / "bin", source, folder, name) for name in ("q8_0", "q4_0"))
    return LlamaCpp(build / "bin", q8_0, q4_0, _projector(vendored, folder))


def read_bench(output: str) -> float:
    """Tokens a second from what ``llama-bench -o json`` prints for one test."""
    (test,) = json.loads(output[output.index("[") :])
    return float(test["avg_ts"])


def read_mtmd(output: str) -> dict[str, float]:
    """Seconds from the log of ``llama-mtmd-cli``; an image's tokens are part of its prompt.

    The program counts a prompt from its first piece to its end, and the piece before the image has been run when the
    tower starts: the tower's time is then part of the prompt's. Where no piece comes before, it is not.

    Raises:
        PeerError: no timings in it, or an image that was encoded in several pieces, which is other work than ours.
    """
    encoded, prompt, generated = _ENCODED.findall(output), _PROMPT.search(output), _EVAL.search(output)
    if len(encoded) != 1 or prompt is None or generated is None:
        raise PeerError(f"llama-mtmd-cli: timings of one image were looked for, its log ends with {output[-300:]!r}")
    tower, counted = float(encoded[0]) / 1e3, float(prompt[1]) / 1e3
    first = counted if counted > tower else tower + counted
    token = float(generated[1]) / 1e3 / int(generated[2])
    return {"tower_s": tower, "first_s": first, "image_s": first + (CAPTION - 1) * token}  # the prompt gives one token


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def _quantized(programs: Path, source: Path, folder: Path, name: str) -> Path:
    def quantize(partial: Path) -> None:
        call(programs / "llama-quantize", "--allow-requantize", source, partial, name.upper())

    return once(folder / f"smollm2-{name}.gguf", f"SmolLM2 as {name.upper()}", quantize)


def _projector(vendored: Path, folder: Path) -> Path:
    """The tower and connector of `edge-256m` as llama.cpp reads them, q8_0, from a random checkpoint."""
    python = models.torch_python(folder)

    def save(partial: Path) -> None:
        call(python, INSIDE / "make_lfm2_vl.py", partial, env=models.OFFLINE)

    def convert(partial: Path) -> None:
        arguments = (vendored / "convert_hf_to_gguf.py", tower, "--mmproj", "--outtype", "q8_0", "--outfile", partial)
        call(python, *arguments, env=models.OFFLINE)

    product = folder / "mmproj-q8_0.gguf"
    if product.exists():
        return product
    tower = once(folder / "tower-lfm2-vl", "a random tower", save)
    return once(product, "the tower as q8_0", convert)
