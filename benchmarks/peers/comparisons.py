"""Which rows there are: what is compared with whom, on which of our bundles, and what is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gmrt.benchmarks.peers.genai import GenAI
from gmrt.benchmarks.peers.llamacpp import LlamaCpp
from gmrt.benchmarks.peers.openvino import OpenVINO
from gmrt.benchmarks.peers.pytorch import PyTorch
from gmrt.benchmarks.peers.rows import Figures, Measure, Row, Side, compare, constant, seconds, speed
from gmrt.benchmarks.peers.work import PROMPT
from gmrt.runtime.errors import BundleError
from gmrt.runtime.manifest import read_manifest

LLAMA_ROW, EIGHT_BIT = "prefill_256_llamacpp_q8_0", ("prefill_256_llamacpp_q8_0", "prefill_256_openvino_int8")


@dataclass(frozen=True)
class Ours:
    """Our bundles; all rows come from ``int8`` but those that name another."""

    int8: Path
    int4: Path | None = None
    int8_reduced: Path | None = None
    int4_reduced: Path | None = None


@dataclass(frozen=True)
class Peers:
    """The peers that are set up."""

    llama: LlamaCpp | None = None
    genai: GenAI | None = None
    openvino: OpenVINO | None = None
    pytorch: PyTorch | None = None


@dataclass(frozen=True)
class Text:
    """A peer's decoder: the row of its prefill, its name, its side, and rows of decoding with the bundle of each."""

    prefill: str
    name: str
    side: Side
    decode: Sequence[tuple[str, Path | None, float | None]]


def parity_of(bundle: Path) -> float:
    """The share of the checkpoint's own tokens that a bundle chose in its last gate; refuses one that did not pass."""
    try:
        data = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{bundle}: is no bundle, it has no bundle.json: make one with gmrt export") from error
    record = read_manifest(data).parity
    if not record.get("passed"):
        raise BundleError(f"{bundle}: carries no passed gate, and a speed without one says nothing: run gmrt verify")
    return float(record["top1"])


def check(*bundles: Path | None) -> None:
    """Refuse a bundle that must not be timed, before the long work."""
    for bundle in bundles:
        if bundle is not None:
            parity_of(bundle)


def our(work: str, bundle: Path) -> Side:
    """Our side: a process that does one piece of work."""

    def run() -> Figures:
        command = (sys.executable, "-m", "gmrt.benchmarks.peers.ours", work, str(bundle))
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


def run(ours: Ours, peers: Peers, image: Path, *, rounds: int, threads: int) -> Iterator[list[Row]]:
    """Make every row for which both sides are there, comparison by comparison."""
    found: list[Row] = []
    for peer in _texts(ours, peers, threads):
        rows = compare(*_text_sides(ours, peer), name=peer.name, rounds=rounds)
        found += rows
        yield rows
    eight_bit = [row for row in found if row.row in EIGHT_BIT]
    if eight_bit:
        yield [replace(min(eight_bit, key=lambda row: row.ratio), row="prefill_256", wanted=1.0)]
    parity = parity_of(ours.int8)
    for measure, work, side, name in _images(peers, image, parity, threads):
        yield compare([measure], our(work, ours.int8), side, name=name, rounds=rounds)
    yield from _limits(ours.int8, image, parity, rounds)


def _texts(ours: Ours, peers: Peers, threads: int) -> Iterator[Text]:
    """Every peer's decoders."""
    if llama := peers.llama:
        eight = [("decode_int8", ours.int8, 0.95), ("decode_int8_reduced", ours.int8_reduced, 1.3)]
        yield Text(LLAMA_ROW, "llama.cpp Q8_0", partial(llama.decode, llama.q8_0, threads), eight)
        four = [("decode_int4_llamacpp", ours.int4, 0.9), ("decode_int4_reduced", ours.int4_reduced, 1.3)]
        yield Text("prefill_256_llamacpp_q4_0", "llama.cpp Q4_0", partial(llama.decode, llama.q4_0, threads), four)
        if openvino := peers.openvino:  # reads llama.cpp's files
            for row, gguf, bundle in (("int8", llama.q8_0, ours.int8), ("int4", llama.q4_0, ours.int4)):
                side = partial(openvino.decode, gguf, threads)
                name = f"OpenVINO GenAI {gguf.stem[-4:].upper()}"
                yield Text(f"prefill_256_openvino_{row}", name, side, [(f"decode_{row}_openvino", bundle, None)])
    if genai := peers.genai:
        rows = [("decode_int4_genai", ours.int4, 1.6)]
        yield Text("prefill_256_genai", "ONNX Runtime GenAI int4", partial(genai.decode, threads), rows)
    if pytorch := peers.pytorch:
        for dtype, short in (("bfloat16", "bf16"), ("float32", "fp32")):
            side, row = partial(pytorch.decode, dtype, threads), f"decode_int8_pytorch_{short}"
            yield Text(f"prefill_256_pytorch_{short}", f"PyTorch {short}", side, [(row, ours.int8, None)])


def _text_sides(ours: Ours, peer: Text) -> tuple[list[Measure], Side, Side]:
    """Rows of a decoder, and both sides: the prompt by our int8, tokens by the bundle that each row asks for."""
    parts = [(f"token_s {row}", bundle) for row, bundle, _ in peer.decode if bundle is not None]
    measures = [speed(peer.prefill, PROMPT, "prefill_s", None, parity_of(ours.int8))]
    for row, bundle, wanted in peer.decode:
        if bundle is not None:
            key = f"token_s {row}"
            plain = speed(row, 1, "token_s", wanted, parity_of(bundle))
            measures.append(replace(plain, ours=partial(_rate, key=key)))

    def mine() -> Figures:
        runs = {bundle: our("decode", bundle)() for bundle in {ours.int8: None} | {b: None for _, b in parts}}
        return {"prefill_s": runs[ours.int8]["prefill_s"]} | {key: runs[b]["token_s"] for key, b in parts}

    return measures, mine, peer.side


def _rate(figures: Figures, *, key: str) -> float:
    return 1 / figures[key]


def _images(peers: Peers, image: Path, parity: float, threads: int) -> Iterator[tuple[Measure, str, Side, str]]:
    """Rows of images: the measure, our work, the peer's side and its name."""
    if llama := peers.llama:
        side, name = partial(llama.image, image, threads), "llama.cpp q8_0"
        yield seconds("tower_int8_llamacpp", "tower_s", 2.5, parity), "tower", side, name
        yield seconds("first_token", "first_s", 2.5, parity), "first", side, name
        tiles = Measure(
            "scene_64", "images/s", lambda f: f["images_per_s"], lambda f: 1 / f["image_s"], 3.0, parity=parity
        )
        yield tiles, "scene", side, f"{name}, one after another"
    if openvino := peers.openvino:
        for row, model, name, wanted in (
            ("tower_int8_openvino", openvino.tower, f"OpenVINO {openvino.float_name()}", 1.0),
            ("tower_int8_openvino_int8", openvino.tower_int8, "OpenVINO int8", None),
        ):
            yield seconds(row, "tower_s", wanted, parity), "tower", partial(openvino.encode, model, threads), name
    if pytorch := peers.pytorch:
        for dtype, short in (("bfloat16", "bf16"), ("float32", "fp32")):
            measure = seconds(f"tower_int8_pytorch_{short}", "tower_s", None, parity)
            yield measure, "tower", partial(pytorch.tower, dtype, threads), f"PyTorch {short}"


def _limits(bundle: Path, image: Path, parity: float, rounds: int) -> Iterator[list[Row]]:
    """Rows without a peer, against a stated limit."""

    def limit(measure: Measure, ours: Side, side: Side, name: str = "limit") -> list[Row]:
        return compare([measure], ours, side, name=name, rounds=rounds)

    second = _less("second_question", "of the first", lambda f: f["second_s"] / f["first_s"], parity)
    yield limit(second, our("first", bundle), constant(0.1))
    share = Measure("bandwidth_share", "B/s", lambda f: f["token_bytes"] / f["token_s"], _limit, 0.86, parity=parity)
    reading = our("bandwidth", bundle)
    yield limit(share, our("decode", bundle), lambda: {"limit": reading()["bytes_per_s"]}, "reading memory")
    peak = _less("peak_rss", "MB", lambda f: f["peak_bytes"] / 1e6, parity)
    yield limit(peak, our("memory", bundle), constant(450.0))
    cold = _less("nano_cold", "s", lambda f: f["cold_s"], None)
    yield limit(cold, partial(cold_start, image), constant(1.0))


def _less(row: str, unit: str, ours: Callable[[Figures], float], parity: float | None) -> Measure:
    return Measure(row, unit, ours, _limit, 1.0, larger=False, parity=parity)


def _limit(figures: Figures) -> float:
    return figures["limit"]
