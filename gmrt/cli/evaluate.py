"""``gmrt eval``: score a bundle or a checkpoint on labelled datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gmrt.cli.options import FormatOption, SeedOption, needing
from gmrt.cli.output import json_line, say_notes, write_atomically
from gmrt.cli.progress import progress_bar


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE|CHECKPOINT", help="The directory to score.")],
    datasets: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET...", help="Parquet files, CSV tables, or with --reader folders."),
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE|CHECKPOINT", help="Another model, asked the same: is there a difference?"),
    ] = None,
    images: Annotated[
        str, typer.Option("--slice", metavar="FIRST:LAST", help="Score these images only, for example -40: or :100.")
    ] = "",
    tiles: Annotated[
        int | None, typer.Option(min=32, metavar="PIXELS", help="Ask where things are on tiles of this size.")
    ] = None,
    wordings: Annotated[int, typer.Option(min=0, metavar="N", help="Ask N requests in ten wordings each.")] = 0,
    reader: Annotated[str, typer.Option(help="Read a public dataset in its own layout, for example dior-rsvg.")] = "",
    split: Annotated[str | None, typer.Option(help="The part of such a dataset, as it calls it.")] = None,
    seed: SeedOption = 0,
    output_format: FormatOption = "text",
) -> None:
    """Score captions, classes, answers and places; writes eval/DATASET.json in the model's directory, too.

    Needs the extras train and cpu.
    """
    with needing("train,cpu"):
        from gmrt.georsmllm.evaluation.evaluate import format_table, read_set, run
        from gmrt.georsmllm.evaluation.predict import open_predictor

        sets = [read_set(path, reader=reader, split=split, images=images) for path in datasets]
        predictor = open_predictor(model)
        other = None if against is None else open_predictor(against)
        for number, labelled in enumerate(sets):
            with progress_bar(labelled.name) as progress:
                result = run(
                    predictor, labelled, against=other, tile=tiles, wordings=wordings, seed=seed, progress=progress
                )
            say_notes(result["notes"])
            _keep(model, result)
            if output_format == "json":
                typer.echo(json_line(result), nl=False)
            else:
                typer.echo(("\n" if number else "") + format_table(result))


def _keep(model: Path, result: dict[str, Any]) -> None:
    """Write the scores, without the answers, beside the model; say so when its directory cannot be written to."""
    file = model / "eval" / f"{result['dataset']}.json"
    scores = {key: value for key, value in result.items() if key != "answers"}
    try:
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(scores, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        say_notes([f"the scores are not kept: {file} cannot be written ({error.strerror})"])
