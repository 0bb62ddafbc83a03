"""``gmrt train``: train a checkpoint as a configuration file says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmrt.cli.options import needing


def train(config: Annotated[Path, typer.Argument(help="The recipe: data, model and schedule.")]) -> None:
    """Train a checkpoint and print its path; run again, it goes on where it was cut. Needs the extra train."""
    with needing("train,cpu"):
        from gmrt.georsmllm import train as training
        from gmrt.georsmllm.trainer import processes
    checkpoint = training.main(config)
    if processes().is_main_process:
        typer.echo(checkpoint)
