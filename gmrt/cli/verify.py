"""``gmrt verify``: is a bundle whole, as integer as it says, and does it answer as it did when it was exported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from gmrt.cli.options import FormatOption, ProviderOption, needing
from gmrt.cli.output import json_line, say_notes


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run the whole parity gate against this checkpoint; needs [export,cpu]."),
    ] = None,
    provider: ProviderOption = "cpu",
    output_format: FormatOption = "text",
) -> None:
    """Check a bundle's files and its golden answers here, and where [export] is installed what its graphs compute with.

    Exits with 1 when something differs; what was not checked is said.
    """
    from gmrt.runtime.verify import verify_bundle

    found = verify_bundle(bundle, provider=provider)
    manifest = found.manifest
    report: dict[str, Any] = {
        "id": manifest.id,
        "name": manifest.name,
        "precision": manifest.precision,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "golden": {"firm": found.firm, "matched": found.matched},
        "flags_unfamiliar": manifest.familiar is not None,
    }
    lines = [
        f"{manifest.name} {manifest.id}, {manifest.precision} for {manifest.target}",
        f"{report['files']} files, {report['bytes'] / 1e6:.1f} MB: each is as the manifest says",
        f"golden answers: {found.matched} of {found.firm} firm tokens came out as at the export",
    ]
    if manifest.familiar is None:
        lines.append("no profile of what was calibrated on: no image is flagged as unfamiliar")
    if checkpoint is not None:
        shown, failures = _gate(bundle, checkpoint, report)
    else:
        shown, failures = _kernels(bundle, report)
    lines += shown
    if not found.ok:
        failures = [f"golden answers: {found.firm - found.matched} of {found.firm} differ from the export's", *failures]
    report["failures"] = failures
    report["passed"] = not failures
    typer.echo(json_line(report) if output_format == "json" else "\n".join(lines) + "\n", nl=False)
    say_notes(f"not checked: {what}" for what in report["not_checked"])
    for line in failures:
        typer.echo(f"gmrt: failed: {line}", err=True)
    if not report["passed"]:
        raise typer.Exit(1)


def _gate(bundle: Path, checkpoint: Path, report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Run the whole gate; returns lines for people and the failures, and adds the record to ``report``."""
    with needing("export,cpu"):
        from gmrt.export.gate import verify_against

        gate = verify_against(bundle, checkpoint)
    report["parity"], report["not_checked"] = gate.to_dict(), []
    lines = [
        *map(str, gate.kernels),
        f"top-1 agreement with the checkpoint: {gate.top1:.2%} of {gate.positions} tokens",
        f"task score: {gate.task_score:.2%} of {gate.cases} answers"
        + "".join(f"; {score.task} {score.agreement:.2%}" for score in gate.scores),
    ]
    return lines, gate.failures


def _kernels(bundle: Path, report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Look at the graphs where the packages for it are installed, and say what takes the checkpoint to check."""
    report["not_checked"] = ["tensors, tokens and scores against the checkpoint: give it with --checkpoint"]
    if find_spec("onnx") is None or find_spec("onnx_ir") is None:
        report["not_checked"].append("what the optimised graphs compute with: install the extra [export]")
        return [], []
    from gmrt.export.kernels import failed_kernels, inspect_bundle, planned_floats
    from gmrt.export.precision import recipe_for
    from gmrt.runtime.bundle import open_bundle

    opened = open_bundle(bundle)
    kernels = inspect_bundle(opened)
    report["kernels"] = [graph.to_dict() for graph in kernels]
    recipe = recipe_for(opened.manifest.precision, opened.manifest.target)
    floats = (*recipe.floats, *planned_floats(opened.manifest))
    failed = failed_kernels(kernels, recipe.limits.integer, floats)
    return [str(graph) for graph in kernels], [" ".join(row) for row in failed]
