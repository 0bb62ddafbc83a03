"""Ours against what a user would pick instead: the same work, on the same cores, in turn, in one run.

    make bench-peers PEERS="--int8 DIR --int4 DIR"

Peers that are not set up yet are, under build/peers. Rounds alternate between the two sides, so that what else the
machine does falls on both; a row is the median of the rounds, and its ratio the median of the rounds' ratios, above 1
where ours is better. Rows for which a bundle or a peer is not there are left out.

stdout: a table, and the rows as JSON on the last line, which ``build/benchmarks.json`` holds too: a list of
{row, ours, peer, peer_name, ratio, unit, parity, wanted}.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from gmrt.benchmarks.peers import comparisons, genai, llamacpp, openvino, pytorch
from gmrt.benchmarks.peers.comparisons import Peers
from gmrt.benchmarks.peers.rows import Row, table
from gmrt.benchmarks.peers.work import SIDE
from gmrt.runtime.backends.machine import physical_cores
from gmrt.runtime.errors import GmrtError

OUTPUT = Path("build") / "benchmarks.json"
NAMES = ("llama.cpp", "genai", "openvino", "pytorch")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench-peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--int8", type=Path, help="our bundle with 8-bit weights")
    parser.add_argument("--int4", type=Path, help="our bundle with 4-bit weights")
    parser.add_argument("--int8-reduced", type=Path, help="the same as int8, its vocabulary reduced")
    parser.add_argument("--int4-reduced", type=Path, help="the same as int4, its vocabulary reduced")
    parser.add_argument("--only", choices=NAMES, action="append", help="only this peer; may be given again")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    parser.add_argument("--folder", type=Path, default=Path("build") / "peers", help="where peers are (build/peers)")
    parser.add_argument("--setup", action="store_true", help="set the peers up, and measure nothing")
    given = parser.parse_args(arguments)
    if given.int8 is None and not given.setup:
        parser.error("no bundle of ours: give --int8 DIR (gmrt export CHECKPOINT --precision int8), or --setup")
    return given


def set_up(folder: Path, only: Sequence[str] | None) -> Peers:
    """Set the peers up as far as they are not."""
    place, wanted = folder.absolute(), only or NAMES
    return Peers(
        llamacpp.setup(place) if "llama.cpp" in wanted else None,
        genai.setup(place) if "genai" in wanted else None,
        openvino.setup(place) if "openvino" in wanted else None,
        pytorch.setup(place) if "pytorch" in wanted else None,
    )


def measured(given: argparse.Namespace, peers: Peers) -> Iterator[list[Row]]:
    """The rows of each comparison, as it ends."""
    ours = comparisons.Ours(given.int8, given.int4, given.int8_reduced, given.int4_reduced)
    with tempfile.TemporaryDirectory() as place:
        scene, image = Path(place) / "scene.tif", Path(place) / "scene.png"
        subprocess.run((sys.executable, "-m", "gmrt", "sample", str(scene), "--size", str(SIDE)), check=True)
        _as_png(scene, image)
        yield from comparisons.run(ours, peers, image, rounds=given.rounds, threads=physical_cores())


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up, measure, print the table, write the record."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    rows: list[Row] = []
    try:
        comparisons.check(given.int8, given.int4, given.int8_reduced, given.int4_reduced)
        peers = set_up(given.folder, given.only)
        if given.setup:
            return 0
        for found in measured(given, peers):
            rows += found
            OUTPUT.parent.mkdir(exist_ok=True)
            OUTPUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    except GmrtError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return error.exit_code
    print(table(rows))
    print(f"\n{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}, Python {platform.python_version()}")
    print(json.dumps([asdict(row) for row in rows]))
    return 0


def _as_png(scene: Path, image: Path) -> None:
    from gmrt.runtime.raster import encode_png
    from gmrt.runtime.scene import read_scene

    image.write_bytes(encode_png(read_scene(scene).rgb))


if __name__ == "__main__":
    sys.exit(main())
