"""Times a tower in OpenVINO: ``python run_openvino_tower.py [MODEL SIDE REPEATS THREADS]``.

Without arguments it only says whether the processor computes in bfloat16.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import openvino as ov


def bf16() -> bool:
    """Whether the processor computes in bfloat16."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def main(path: str, side: int, repeats: int, threads: int) -> dict[str, float]:
    """Seconds of a model for one image; the first round warms up."""
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if bf16() else "f32",
    }
    model = ov.Core().compile_model(path, "CPU", options)
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        model([pixels])
        times.append(time.perf_counter() - started)
    return {"tower_s": statistics.median(times[1:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:])) if sys.argv[1:] else {"bf16": float(bf16())}))
