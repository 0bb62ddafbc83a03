"""Make the README's picture: generated scenes, what the shipped model says of each, and where it finds things.

python examples/describe_picture.py docs/img/describe.png
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib as mpl

import gmrt
from gmrt.georsmllm.scenes import STYLES_TEST, generate, write_scene
from gmrt.runtime.overlay import annotate

mpl.use("Agg")
import matplotlib.pyplot as plt

# Kind of scene, seed, and what to locate. The styles are ones that no model of ours is trained on.
PANELS = (
    ("tank farm", 1, "locate the storage tanks"),
    ("port", 1, "outline the ships"),
    ("parking lot", 3, "point at the cars"),
)


def main(target: Path) -> None:
    """Draw one panel for each scene: the places of one answer over it, and two answers in words below it."""
    model = gmrt.load()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10.5, 4.5), dpi=90)
    with tempfile.TemporaryDirectory() as folder:
        for axis, (kind, seed, prompt) in zip(axes, PANELS, strict=True):
            path = Path(folder) / "scene.tif"
            write_scene(generate(seed, kind=kind, style=STYLES_TEST[seed % len(STYLES_TEST)], size=256), path)
            view = model.look(path)
            located = view.ask(prompt)
            axis.imshow(annotate(view.scenes[0].rgb, [located.points]))
            axis.set_axis_off()
            axis.set_title(f'"{prompt}"', family="monospace", size=8.5)
            below = textwrap.fill(f'"describe"  {view.ask("describe").text}', 52)
            axis.text(0.5, -0.03, below, transform=axis.transAxes, ha="center", va="top", size=9)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.2, wspace=0.05)
    figure.savefig(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
