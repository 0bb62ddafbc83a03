"""``gmrt export``: make a bundle from a checkpoint, and prove it equal before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmrt.cli.options import Cache, OutputOption, Precision, SeedOption, Target, needing
from gmrt.cli.output import say_notes
from gmrt.cli.progress import progress_bar


def export(
    precision: Annotated[Precision, typer.Option(help="How weights are kept and computed with.")],
    checkpoint: Annotated[
        Path | None, typer.Argument(help="The checkpoint's directory; the shipped nano model without it.")
    ] = None,
    target: Annotated[Target | None, typer.Option(help="Where it will run; cuda for fp16, else cpu.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="Images to measure ranges on, or a record of them; without it the record beside the checkpoint, "
            "or generated scenes.",
        ),
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Measure what each layer costs when it alone is quantised; into the report.")
    ] = False,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Plan each layer's precision so that the bundle fits, e.g. 10MiB; scans."),
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Plan each layer's precision so that the logits' cosine is predicted to be so; scans.",
        ),
    ] = None,
    cache: Annotated[
        Cache, typer.Option(help="How keys and values are kept; int8 takes a quarter and needs a newer onnxruntime.")
    ] = "float",
    words: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep only N words in the head, those of answers first: less to read for every token. All by default.",
        ),
    ] = None,
    output: OutputOption = None,
    seed: SeedOption = 0,
) -> None:
    """Export a checkpoint as a bundle and print the bundle's path. Needs the extras export and cpu."""
    with needing("export,cpu"):
        from gmrt.export.pipeline import export_bundle
        from gmrt.export.plan import Bounds
    from gmrt.runtime.memory import parse_size
    from gmrt.runtime.model import SHIPPED

    checkpoint = checkpoint or SHIPPED.with_name("georsmllm-nano")
    output = output or Path(f"{checkpoint.resolve().name}-{precision}")
    bounds = None
    if scan or max_size is not None or min_cosine is not None:
        bounds = Bounds(None if max_size is None else parse_size(max_size), min_cosine)
    with progress_bar("export") as progress:
        report = export_bundle(
            checkpoint,
            output,
            precision=precision,
            target=target,
            calibration=calibration,
            bounds=bounds,
            cache=cache,
            words=words,
            seed=seed,
            progress=progress,
        )
    say_notes([f"top-1 agreement with the checkpoint: {report.top1:.2%} of {report.positions} tokens"])
    typer.echo(output)
