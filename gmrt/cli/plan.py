"""``gmrt plan``: how much memory a bundle will take, by component, before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gmrt.cli.options import FormatOption
from gmrt.cli.output import json_line
from gmrt.runtime.errors import PromptError


def plan(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle's directory; the shipped one without it.")] = None,
    board: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with a Jetson, for example orin-nano.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many images one question is about.")] = 1,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Compare with this much for the whole process, for example 2GiB.")
    ] = None,
    output_format: FormatOption = "text",
) -> None:
    """Predict the peak memory of a bundle from its manifest; exit with 1 when it does not fit."""
    from gmrt.runtime.boards import find_board
    from gmrt.runtime.bundle import verify
    from gmrt.runtime.memory import BASELINE, METRIC, parse_size, plan_memory, read_status
    from gmrt.runtime.model import SHIPPED

    limit, where = read_status("MemAvailable"), "MemAvailable of this machine"
    if board is not None:
        found = find_board(board)
        limit = found.available
        where = f"{found.title}: {_gib(found.memory)} of unified memory less 1 GiB for the system, an assumption"
    if max_memory is not None:
        limit, where = parse_size(max_memory), "--max-memory"
    manifest = verify(bundle or SHIPPED)
    if images > manifest.prompt.max_images:
        raise PromptError(f"this model takes at most {manifest.prompt.max_images} images, and --images is {images}")
    predicted = plan_memory(manifest, prefixes=0, images=images)
    loaded, capacity = predicted.loaded, predicted.usual_capacity
    rows: list[tuple[str, int | None, int]] = [("python and libraries", None, BASELINE)]
    rows += [(part, size, loaded[part]) for part, size in predicted.stored.items()]
    rows += [
        ("loading", None, predicted.weights - sum(loaded.values())),
        ("workspace", None, predicted.workspace),
        (f"images ({images})", None, predicted.images),
        ("image prefix", None, predicted.cache(predicted.image_tokens)),
        (f"KV cache ({capacity} tokens)", None, predicted.cache(capacity)),
    ]
    peak = predicted.peak()
    fits = limit is None or peak <= limit
    report: dict[str, Any] = {
        "bundle": {"id": manifest.id, "name": manifest.name, "precision": manifest.precision},
        "metric": METRIC,
        "components": [{"name": name, "stored": stored, "loaded": size} for name, stored, size in rows],
        "cache": {
            "bytes_per_token": predicted.bytes_per_token,
            "tokens": capacity,
            "max_tokens": predicted.max_length,
            "max_bytes": predicted.cache(predicted.max_length),
        },
        "peak": peak,
        "peak_at_max_tokens": predicted.peak(predicted.max_length),
        "limit": limit,
        "limit_is": where,
        "fits": fits,
    }
    typer.echo(json_line(report) if output_format == "json" else _text(report), nl=False)
    if not fits:
        raise typer.Exit(1)


def _text(report: dict[str, Any]) -> str:
    bundle, cache = report["bundle"], report["cache"]
    lines = [f"{bundle['name']} {bundle['id']}, {bundle['precision']}: MiB", f"{'':26} {'stored':>8} {'loaded':>8}"]
    for row in report["components"]:
        stored = "" if row["stored"] is None else f"{row['stored'] / 2**20:.1f}"
        lines.append(f"{row['name']:26} {stored:>8} {row['loaded'] / 2**20:8.1f}")
    most = f"{report['peak_at_max_tokens'] / 2**20:.1f}"
    lines += [
        f"{'predicted ' + report['metric']:26} {'':8} {report['peak'] / 2**20:8.1f}",
        f"KV cache: {cache['bytes_per_token']} bytes a token; with {cache['max_tokens']} tokens the peak is {most}",
    ]
    if report["limit"] is None:
        lines.append("what is available here is unknown: no /proc/meminfo")
    else:
        verdict = "fits into" if report["fits"] else "does NOT fit into"
        lines.append(f"{verdict} {_gib(report['limit'])} ({report['limit_is']})")
    return "\n".join(lines) + "\n"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
