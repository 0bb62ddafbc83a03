"""Times the tower in PyTorch: ``python run_torch_tower.py DTYPE REPEATS THREADS``."""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch
from tower import SIDE, random_tower


@torch.inference_mode()
def main(dtype: str, repeats: int, threads: int) -> dict[str, float]:
    """Seconds of tower and connector; the first round warms up."""
    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    tower, pixels = random_tower().to(kind), torch.randn(1, 3, SIDE, SIDE, dtype=kind)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        tower(pixels)
        times.append(time.perf_counter() - started)
    return {"tower_s": statistics.median(times[1:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
