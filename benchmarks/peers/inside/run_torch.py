"""Times transformers on the CPU: ``python run_torch.py CHECKPOINT DTYPE PROMPT NEW REPEATS THREADS``."""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM


@torch.inference_mode()
def main(path: str, dtype: str, prompt: int, new: int, repeats: int, threads: int) -> dict[str, float]:
    """Seconds of a prompt with its last position's logits, and of each token behind it; the first round warms up."""
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    prefills, tokens = [], []
    for seed in range(repeats + 1):
        ids = torch.randint(100, 40000, (1, prompt), generator=torch.Generator().manual_seed(seed))
        started = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        prefills.append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(new):
            step = out.logits[:, -1:].argmax(-1)
            out = model(step, past_key_values=out.past_key_values, use_cache=True)
        tokens.append((time.perf_counter() - started) / new)
    return {"prefill_s": statistics.median(prefills[1:]), "token_s": statistics.median(tokens[1:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
