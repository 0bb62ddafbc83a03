"""What every raster of a folder gives: the table of docs/rasters.md.

    python examples/raster_table.py FOLDER [--prompt describe] > table.md

One row for each file and each product below FOLDER: its bands and values, what was drawn of it, where it lies, and the
answer, or the sentence with which it is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import gmrt
from gmrt.runtime.errors import GmrtError
from gmrt.runtime.model import Model
from gmrt.runtime.products import find_product

HEAD = ("file", "drawn", "place", "answer or refusal")


def inputs(folder: Path) -> Iterator[Path]:
    """Files and products below a folder, by name; a product's own files are not looked at one by one."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
            continue
        try:
            product = find_product(str(path))
        except GmrtError:
            yield path
            continue
        if product is not None:
            yield path
        else:
            yield from inputs(path)


def row(model: Model, path: Path, folder: Path, prompt: str) -> tuple[str, ...]:
    """The cells of one input's row."""
    name = str(path.relative_to(folder))
    try:
        view = model.look(path)
    except GmrtError as error:
        return name, "", "", f"*refused:* {str(error).removeprefix(f'{path}: ')}"
    scene = view.scenes[0]
    drawn = f"{scene.composite}: {', '.join(scene.bands)}"
    by = f", by {scene.placement.method}" if scene.placement and scene.placement.method != "affine" else ""
    metres = "" if scene.gsd is None else f", {scene.gsd:.3g} m"
    place = "in pixels" if scene.crs is None else f"{scene.crs.split('[')[0][:40]}{metres}{by}"
    flag = " (unfamiliar)" if view.unfamiliar else ""
    return name, drawn, place, f"{view.ask(prompt)}{flag}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", default="describe")
    options = parser.parse_args()
    model = gmrt.load()
    lines = [HEAD, ("---",) * len(HEAD)]
    lines += [row(model, path, options.folder, options.prompt) for path in inputs(options.folder)]
    for cells in lines:
        sys.stdout.write("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
