"""``gmrt build``: TensorRT engines of a bundle, on the device that will run them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmrt.cli.progress import progress_bar


def build(
    bundle: Annotated[Path, typer.Argument(help="A bundle that was exported with --target tensorrt.")],
    workspace: Annotated[
        str, typer.Option(metavar="SIZE", help="How much memory a layer's kernels may use beside the weights.")
    ] = "1GiB",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the trtexec lines instead; needs no TensorRT.")
    ] = False,
) -> None:
    """Build the bundle's engines into its folder engines/; what fits this device already is kept."""
    from gmrt.runtime.bundle import verify
    from gmrt.runtime.engines import build_engine, plan_engines, this_device, trtexec_line
    from gmrt.runtime.memory import parse_size

    jobs = plan_engines(bundle, verify(bundle), workspace=parse_size(workspace))
    if dry_run:
        for job in jobs:
            typer.echo(trtexec_line(bundle, job))
        return
    device = this_device()
    for number, job in enumerate(jobs, start=1):
        typer.echo(f"gmrt: {job.name}, {number} of {len(jobs)}: this takes minutes", err=True)
        with progress_bar(job.name) as progress:
            plan = build_engine(bundle, job, device, progress)
        typer.echo(plan)
