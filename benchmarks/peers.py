"""Ours against what a user would pick instead: the same work, on the same cores, in turn, in one run.

    make bench-peers PEERS="--int8 DIR --int4 DIR --llama DIR --gguf-q8 FILE …"

Rounds alternate between the two sides, so that what else the machine does falls on both; a row is the median of the
rounds, and its ratio the median of the rounds' ratios, above 1 where ours is better. Rows whose peer is not given are
left out and named. How each peer is set up, once, stands in docs/benchmarks.md.

stdout: a table; ``build/benchmarks.json``: a list of {row, ours, peer, peer_name, ratio, unit, parity}.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from gmrt.benchmarks import peers_adapters as adapters
from gmrt.runtime.backends.machine import physical_cores
from gmrt.runtime.errors import BundleError
from gmrt.runtime.manifest import read_manifest

OUTPUT = Path("build") / "benchmarks.json"
QUESTION = "how many of the buildings beside the river have a red roof and stand near trees?"

Figures = dict[str, float]
Side = Callable[[], Figures]


@dataclass(frozen=True)
class Row:
    """One line of the comparison; ``ratio`` above 1 means that ours is better, ``parity`` is our token agreement.

    ``wanted`` is the ratio that the project asks of itself.
    """

    row: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str
    parity: float | None
    wanted: float


@dataclass(frozen=True)
class Measure:
    """How a row comes out of both sides' figures: ``value`` of each, better when ``larger`` or when smaller."""

    row: str
    unit: str
    ours: Callable[[Figures], float]
    peer: Callable[[Figures], float]
    wanted: float
    larger: bool = True


DECODE = "tok/s"


def compare(
    measures: Sequence[Measure], ours: Side, peer: Side, *, name: str, rounds: int, parity: float | None
) -> list[Row]:
    """Run both sides in turn, the order changing from round to round, and make the rows."""
    pairs: list[tuple[Figures, Figures]] = []
    for at in range(rounds):
        if at % 2:
            theirs = peer()
            mine = ours()
        else:
            mine = ours()
            theirs = peer()
        pairs.append((mine, theirs))
        print(f"{name}: round {at + 1} of {rounds}", file=sys.stderr)
    return [_row(measure, pairs, name, parity) for measure in measures]


def _row(measure: Measure, pairs: Sequence[tuple[Figures, Figures]], name: str, parity: float | None) -> Row:
    values = [(measure.ours(mine), measure.peer(theirs)) for mine, theirs in pairs]
    ratios = [mine / theirs if measure.larger else theirs / mine for mine, theirs in values]
    mine, theirs = (statistics.median(side) for side in zip(*values, strict=True))
    return Row(measure.row, mine, theirs, name, statistics.median(ratios), measure.unit, parity, measure.wanted)


def constant(figures: Figures) -> Side:
    """A side that is a stated limit and not a program."""
    return lambda: figures


def our(work: str, bundle: Path) -> Side:
    """Our side: a process that does one piece of work."""

    def run() -> Figures:
        command = (sys.executable, "-m", "gmrt.benchmarks.peers_ours", work, str(bundle))
        output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
        figures: Figures = json.loads(output.strip().splitlines()[-1])
        return figures

    return run


def cold_start(image: Path) -> Figures:
    """Seconds of ``gmrt infer`` with the shipped bundle, from the start of the process to its end."""
    started = time.perf_counter()
    command = (sys.executable, "-m", "gmrt", "infer", str(image), "describe")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"cold_s": time.perf_counter() - started}


def parity_of(bundle: Path) -> float:
    """The share of the checkpoint's own tokens that a bundle chose in its last gate; refuses one that did not pass."""
    record = read_manifest(json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))).parity
    if not record.get("passed"):
        raise BundleError(f"{bundle}: carries no passed gate, and a speed without one says nothing: run gmrt verify")
    return float(record["top1"])


def measure_all(given: argparse.Namespace, image: Path) -> list[Row]:
    """Every row for which both sides are given."""
    rows: list[Row] = []
    rounds, threads = given.rounds, physical_cores()
    llama = None if given.llama is None else adapters.LlamaCpp(given.llama, threads)

    def run(measures: Sequence[Measure], bundle: Path, work: str, peer: Side, name: str) -> None:
        parity = parity_of(bundle)
        rows.extend(compare(measures, our(work, bundle), peer, name=name, rounds=rounds, parity=parity))

    def prefill(wanted: float) -> Measure:
        return Measure("prefill_256", DECODE, lambda f: 256 / f["prefill_s"], lambda f: 256 / f["prefill_s"], wanted)

    def decode(row: str, wanted: float) -> Measure:
        return Measure(row, DECODE, lambda f: 1 / f["token_s"], lambda f: 1 / f["token_s"], wanted)

    def seconds(row: str, key: str, wanted: float) -> Measure:
        return Measure(row, "s", lambda f: f[key], lambda f: f[key], wanted, larger=False)

    if llama and given.gguf_q8:
        peer = partial(llama.decode, given.gguf_q8)
        run([decode("decode_int8", 0.95), prefill(1.0)], given.int8, "decode", peer, "llama.cpp Q8_0")
    if llama and given.gguf_q4 and given.int4:
        peer = partial(llama.decode, given.gguf_q4)
        run([decode("decode_int4_llamacpp", 0.9)], given.int4, "decode", peer, "llama.cpp Q4_0")
    if given.genai and given.genai_model and given.int4:
        peer = partial(adapters.genai, given.genai, given.genai_model, threads)
        run([decode("decode_int4_genai", 1.6)], given.int4, "decode", peer, "ONNX Runtime GenAI int4")
    if llama and given.gguf_q8 and given.mmproj:
        peer = partial(llama.image, given.gguf_q8, given.mmproj, image, QUESTION)
        run([seconds("tower_int8_llamacpp", "tower_s", 2.5)], given.int8, "tower", peer, "llama.cpp q8_0")
        run([seconds("first_token", "first_s", 2.5)], given.int8, "first", peer, "llama.cpp q8_0")
        tiles = Measure("scene_64", "images/s", lambda f: f["images_per_s"], lambda f: 1 / f["image_s"], 3.0)
        run([tiles], given.int8, "scene", peer, "llama.cpp q8_0, one after another")
    if given.openvino and given.openvino_tower:
        side = read_manifest(json.loads((given.int8 / "bundle.json").read_text(encoding="utf-8"))).image.height
        peer = partial(adapters.openvino_tower, given.openvino, given.openvino_tower, side, threads)
        run([seconds("tower_int8_openvino", "tower_s", 1.0)], given.int8, "tower", peer, "OpenVINO bf16")

    second = Measure(
        "second_question", "of the first", lambda f: f["second_s"] / f["first_s"], _limit, 1.0, larger=False
    )
    run([second], given.int8, "first", constant({"limit": 0.1}), "limit")
    share = Measure("bandwidth_share", "of reading memory", lambda f: f["token_bytes"] / f["token_s"], _limit, 0.86)
    reading = our("bandwidth", given.int8)
    run([share], given.int8, "decode", lambda: {"limit": reading()["bytes_per_s"]}, "bytes read a second")
    peak = Measure("peak_rss", "MB", lambda f: f["peak_bytes"] / 1e6, _limit, 1.0, larger=False)
    run([peak], given.int8, "memory", constant({"limit": 450.0}), "limit")
    cold = Measure("nano_cold", "s", lambda f: f["cold_s"], _limit, 1.0, larger=False)
    rows += compare(
        [cold], partial(cold_start, image), constant({"limit": 1.0}), name="limit", rounds=rounds, parity=None
    )
    return rows


def _limit(figures: Figures) -> float:
    return figures["limit"]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| row | ours | peer | ratio | wanted | token agreement |", "|---|---|---|---|---|---|"]
    for row in rows:
        parity = "" if row.parity is None else f"{row.parity:.1%}"
        short = "" if row.ratio >= row.wanted else " (short)"
        peer = f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        lines.append(
            f"| {row.row} | {row.ours:.4g} {row.unit} | {peer} | {row.ratio:.2f}{short} | {row.wanted:g} | {parity} |"
        )
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench-peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--int8", type=Path, required=True, help="our bundle with 8-bit weights")
    parser.add_argument("--int4", type=Path, help="our bundle with 4-bit weights")
    parser.add_argument("--llama", type=Path, help="folder of llama-bench and llama-mtmd-cli")
    parser.add_argument("--gguf-q8", type=Path, help="the same decoder as Q8_0")
    parser.add_argument("--gguf-q4", type=Path, help="the same decoder as Q4_0")
    parser.add_argument("--mmproj", type=Path, help="a tower of the same width for llama-mtmd-cli, q8_0")
    parser.add_argument("--genai", type=Path, help="python of an environment with onnxruntime-genai")
    parser.add_argument("--genai-model", type=Path, help="folder that its builder made, int4")
    parser.add_argument("--openvino", type=Path, help="python of an environment with openvino")
    parser.add_argument("--openvino-tower", type=Path, help="the tower's openvino_model.xml")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the record."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "scene.png"
        scene = Path(place) / "scene.tif"
        subprocess.run((sys.executable, "-m", "gmrt", "sample", str(scene), "--size", "512"), check=True)
        _as_png(scene, image)
        rows = measure_all(given, image)
    print(table(rows))
    print(f"\n{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}, Python {platform.python_version()}")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(json.dumps([asdict(row) for row in rows]))


def _as_png(scene: Path, image: Path) -> None:
    from gmrt.runtime.raster import encode_png
    from gmrt.runtime.scene import read_scene

    image.write_bytes(encode_png(read_scene(scene).rgb))


if __name__ == "__main__":
    main()
