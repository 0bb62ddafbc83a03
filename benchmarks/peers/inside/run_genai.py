"""Times ONNX Runtime GenAI: ``python run_genai.py MODEL PROMPT NEW REPEATS THREADS``."""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime_genai as og


def main(path: str, prompt: int, new: int, repeats: int, threads: int) -> dict[str, float]:
    """Seconds of a prompt with its first token, and of each token behind it; the first round warms up."""
    config = og.Config(path)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = og.Model(config)
    prefills, tokens = [], []
    for seed in range(repeats + 1):
        ids = np.random.default_rng(seed).integers(100, 40000, prompt).astype(np.int32)
        options = og.GeneratorParams(model)
        # Nothing ends it early: fewer tokens than the shortest that is allowed.
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
    return {"prefill_s": statistics.median(prefills[1:]), "token_s": statistics.median(tokens[1:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
