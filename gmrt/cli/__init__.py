"""The ``gmrt`` command: one small file per sub-command, and one way for all of them to fail.

stdout carries the result and nothing else. Bad input ends in one line on stderr and exit status 2, a failed run in one
line and 1, an interrupt in 130; with ``--format json`` the line is an object. Nothing here imports more than typer
before a sub-command needs it, so that ``gmrt infer`` starts fast and never loads torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

import gmrt
from gmrt.cli import bench, build, doctor, evaluate, export, infer, plan, sample, train, verify, watch
from gmrt.runtime.errors import GmrtError

app = typer.Typer(
    name="gmrt",
    help="Ask satellite and aerial images questions, with a small vision-language model, offline, without PyTorch.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: loading rich would cost every start
    pretty_exceptions_enable=False,
)
app.command("infer")(infer.infer)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("eval")(evaluate.evaluate)
app.command("train")(train.train)
app.command("build")(build.build)
app.command("plan")(plan.plan)
app.command("bench")(bench.bench)
app.command("watch")(watch.watch)
app.command("sample")(sample.sample)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gmrt {gmrt.__version__}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that come before any sub-command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (the process's own by default) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        status = app(arguments, prog_name="gmrt", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        sentence = " ".join(error.format_message().split())  # typer lists choices below each other
        return _fail(arguments, "UsageError", f"{sentence} (see gmrt --help)", error.exit_code)
    except GmrtError as error:
        return _fail(arguments, type(error).__name__, str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has gone, as in `gmrt … | head -1`: nothing to report, and nothing to flush at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(arguments, "OSError", f"{where}{error.strerror or error}", 1)
    except MemoryError:
        return _fail(arguments, "MemoryError", "out of memory: use a smaller image or bundle, or set --max-memory", 1)
    return status if isinstance(status, int) else 0


def _fail(arguments: Sequence[str], kind: str, message: str, status: int) -> int:
    """Print one line on stderr, an object when the caller asked for JSON, and return ``status``."""
    # Read from the arguments, because a usage error comes before any option has a value.
    wants_json = "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
    line = (
        json.dumps({"error": {"type": kind, "message": message}, "exit_code": status})
        if wants_json
        else f"gmrt: {message}"
    )
    typer.echo(line, err=True)
    return status
