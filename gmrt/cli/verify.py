"""``gmrt verify``: is a bundle whole, and does it still answer as it did when it was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gmrt.cli.options import FormatOption, ProviderOption, needing
from gmrt.cli.output import json_line


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run the whole parity gate against this checkpoint; needs [export,cpu]."),
    ] = None,
    provider: ProviderOption = "cpu",
    output_format: FormatOption = "text",
) -> None:
    """Check every file of a bundle, and its golden answers on this machine; exit with 1 when an answer differs."""
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
    passed = found.ok
    if checkpoint is not None:
        with needing("export,cpu"):
            from gmrt.export.gate import verify_against

            gate = verify_against(bundle, checkpoint)
        report["parity"] = gate.to_dict()
        lines += [f"top-1 agreement with the checkpoint: {gate.top1:.2%} of {gate.positions} tokens", *gate.failures]
        passed = passed and not gate.failures
    report["passed"] = passed
    typer.echo(json_line(report) if output_format == "json" else "\n".join(lines) + "\n", nl=False)
    if not passed:
        raise typer.Exit(1)
