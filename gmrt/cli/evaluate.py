"""``gmrt eval``: score a bundle or a checkpoint on a labelled dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gmrt.cli.options import FormatOption, SeedOption, needing
from gmrt.cli.progress import progress_bar


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE|CHECKPOINT", help="The directory to score.")],
    dataset: Annotated[Path, typer.Argument(help="A parquet file with images and captions, classes or questions.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Score this many images instead of all.")] = None,
    seed: SeedOption = 0,
    output_format: FormatOption = "text",
) -> None:
    """Score captions, classes and answers. Needs the extras `train` and `cpu`."""
    with needing("train,cpu"):
        from gmrt.georsmllm import evaluation

        with progress_bar("images") as progress:
            scores = evaluation.run(model, dataset, limit=limit, seed=seed, progress=progress)
    typer.echo(json.dumps(scores) if output_format == "json" else evaluation.format_table(scores))
