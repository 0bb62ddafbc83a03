"""Times OpenVINO GenAI on a GGUF: ``python run_openvino.py GGUF PROMPT NEW REPEATS THREADS``."""

from __future__ import annotations

import json
import statistics
import sys

import numpy as np
import openvino as ov
import openvino_genai as og


def main(path: str, prompt: int, new: int, repeats: int, threads: int) -> dict[str, float]:
    """Seconds of a prompt with its first token, and of each token behind it; the first round warms up.

    Every prompt is another one, because a repeated prompt is found in the pipeline's cache of prefixes.
    """
    pipeline = og.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)
    options = og.GenerationConfig(max_new_tokens=new + 1, min_new_tokens=new + 1, ignore_eos=True, do_sample=False)
    prefills, tokens = [], []
    for seed in range(repeats + 1):
        ids = np.random.default_rng(seed).integers(100, 40000, (1, prompt)).astype(np.int64)
        inputs = og.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        measured = pipeline.generate(inputs, options).perf_metrics
        prefills.append(measured.get_ttft().mean / 1e3)
        tokens.append(measured.get_tpot().mean / 1e3)
    return {"prefill_s": statistics.median(prefills[1:]), "token_s": statistics.median(tokens[1:])}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
