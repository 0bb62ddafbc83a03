"""Make the README's picture: generated scenes, the question, and what the shipped model answers.

python examples/describe_picture.py docs/img/describe.png
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib as mpl

import gmrt
from gmrt.runtime.sample import write_sample

mpl.use("Agg")
import matplotlib.pyplot as plt

KINDS = ("storagetanks", "tenniscourt", "beach")


def main(target: Path) -> None:
    """Draw one panel for each kind of scene with the description and a yes/no answer below it."""
    model = gmrt.load()
    figure, axes = plt.subplots(1, len(KINDS), figsize=(10.5, 4.3), dpi=90)
    with tempfile.TemporaryDirectory() as folder:
        for axis, kind in zip(axes, KINDS, strict=True):
            path = Path(folder) / f"{kind}.tif"
            write_sample(path, kind=kind)
            view = model.look(path)
            water = view.ask("is this a beach?", yes_no=True)
            axis.imshow(view.scenes[0].rgb)
            axis.set_axis_off()
            axis.set_title(f'gmrt infer {path.name} "describe"', family="monospace", size=8.5)
            lines = [
                textwrap.fill(view.ask("describe").text, 44),
                f'"is this a beach?"  {water.text}  ({water.confidence:.0%})',
            ]
            axis.text(0.5, -0.03, "\n".join(lines), transform=axis.transAxes, ha="center", va="top", size=9)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.2, wspace=0.05)
    figure.savefig(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
