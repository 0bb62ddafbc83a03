"""How long a user waits: the import of the runtime, and one answer of the command from a cold process.

Every run is a process of its own, because an import happens once in each. Wall clock from the start of the process to
its end, so that the interpreter, the creation of the sessions and the exit count too. Medians of ``RUNS`` runs, after
one that fills the file cache and is thrown away. The last line on stdout is one JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS = 7
SIDE = 512
MODULES = ("gmrt.runtime", "gmrt.runtime.model")


def import_seconds(module: str) -> float:
    """Median time of ``import module`` in a fresh interpreter, in seconds."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return statistics.median([float(_python("-c", code)) for _ in range(RUNS + 1)][1:])


def infer_seconds(image: Path) -> tuple[float, dict[str, Any]]:
    """Median wall time of ``gmrt infer IMAGE describe`` in seconds, and the last answer as the command prints it."""
    seconds = []
    answer = ""
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        answer = _python("-m", "gmrt", "infer", str(image), "describe", "--format", "json")
        seconds.append(time.perf_counter() - start)
    record: dict[str, Any] = json.loads(answer)
    return statistics.median(seconds[1:]), record


def main() -> None:
    """Measure, print a table, and print the same as one JSON object."""
    imports = {module: import_seconds(module) for module in MODULES}
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "scene.tif"
        _python("-m", "gmrt", "sample", str(image), "--size", str(SIDE))
        total, record = infer_seconds(image)
    for module, seconds in imports.items():
        print(f"{'import ' + module:32} {seconds:6.3f} s")
    generated = record["tokens"]["generated"]
    print(f"{f'gmrt infer, {SIDE} px, {generated} tokens':32} {total:6.3f} s")
    print(
        json.dumps(
            {
                "import_s": imports,
                "infer_s": total,
                "runs": RUNS,
                "image_px": SIDE,
                "tokens": record["tokens"],
                "timings_ms": record["timings_ms"],
                "model": record["model"],
                "machine": {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()},
            }
        )
    )


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
