"""Perplexity and top-1 agreement of bundles with their checkpoint, teacher-forced: the table of docs/quantization.md.

    python examples/perplexity.py CHECKPOINT BUNDLE... [--questions DATA.parquet] [--images N] [--passages N]

On ordinary English (prose of Python's reference manual, 512 tokens a passage), or with ``--questions`` on the first
caption and the questions of every image of a parquet file.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

from gmrt.export.checkpoint import open_checkpoint
from gmrt.georsmllm.data import read_parquet
from gmrt.georsmllm.evaluation.forced import (
    Forced,
    Passage,
    english_passages,
    join,
    judge_bundle,
    judge_checkpoint,
    question_passages,
)
from gmrt.runtime.backends import create_backend
from gmrt.runtime.bundle import open_bundle


def of_bundle(path: Path, passages: list[Passage]) -> tuple[str, Forced]:
    """Judge a bundle; its session is gone when this returns."""
    bundle = open_bundle(path)
    backend = create_backend(bundle, "cpu")
    name = f"{bundle.manifest.precision}, cache {bundle.manifest.cache.dtype}"
    return name, join(judge_bundle(bundle, backend, passage) for passage in passages)


def main() -> None:
    """Judge the checkpoint, then every bundle; print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--passages", type=int, default=5)
    given = parser.parse_args()
    source = open_checkpoint(given.checkpoint)
    if given.questions is None:
        passages = list(islice(english_passages(source.processor.backend), given.passages))
    else:
        examples = read_parquet(given.questions)
        spread = examples[:: max(1, len(examples) // given.images)][: given.images]
        passages = list(question_passages(source.model, source.processor, spread))
    truth = join(judge_checkpoint(source.model, passage) for passage in passages)
    del source
    print(f"{truth.positions} positions in {len(passages)} passages", file=sys.stderr)
    print("| | top-1 | perplexity | against fp32 |\n|---|---:|---:|---:|")
    print(f"| checkpoint, fp32 | | {truth.perplexity:.3f} | |")
    for path in given.bundles:
        name, found = of_bundle(path, passages)
        rise = found.perplexity / truth.perplexity - 1
        print(f"| {path.name} ({name}) | {found.agreement(truth):.2%} | {found.perplexity:.3f} | {rise:+.2%} |")


if __name__ == "__main__":
    main()
