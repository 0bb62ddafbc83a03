"""Make docs/quickstart.md's table and picture: what the shipped model says about real rasters and aerial images.

    python examples/answer_sheet.py ../shared/data docs

Reads the GeoTIFF fixtures and ten UC Merced validation images (the first of every second class, so nobody chose them),
asks each for a description and its land cover, and writes ``img/answers.png`` (thumbnails of 96 px with the answers;
the images themselves are not copied) and the rows of the table to stdout. For UC Merced right and wrong follow from the
label; for the rasters a person fills in the last column.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

import gmrt
from gmrt.georsmllm import prompts
from gmrt.georsmllm.data import read_parquet
from gmrt.runtime.image import resize
from gmrt.runtime.scene import read_scene

mpl.use("Agg")
import matplotlib.pyplot as plt

# landsat_2020.tif does not say which bands are which and holds no blue: a false colour of SWIR, NIR and red.
RASTERS = {"RGB.byte.tif": None, "naip_20200831.tif": None, "landsat_2020.tif": "1,2,3", "cog_rgb_mask.tif": None}
THUMBNAIL = 96


def ten_images(data: Path, folder: Path) -> list[tuple[Path, str]]:
    """The first validation image of every second class, written as files, with its label."""
    first = {}
    for example in read_parquet(data / "ucm-validation.parquet"):
        first.setdefault(example.scene_class, example)
    chosen = [first[name] for name in sorted(first)][::2][:10]
    for example in chosen:
        (folder / example.name).write_bytes(example.image)
    return [(folder / example.name, example.scene_class) for example in chosen]


def main(data: Path, docs: Path) -> None:
    """Ask, print the table's rows, and draw the sheet."""
    model = gmrt.load()
    with tempfile.TemporaryDirectory() as name:
        todo = [(data / "scenes" / raster, "") for raster in RASTERS]
        todo += ten_images(data, Path(name))
        figure, axes = plt.subplots(len(todo), 1, figsize=(9, 1.05 * len(todo)), dpi=100)
        for axis, (path, label) in zip(axes, todo, strict=True):
            scene = read_scene(path, bands=RASTERS.get(path.name))
            view = model.look(scene)
            text, cover = view.ask(prompts.CAPTION[0]).text, view.ask(prompts.CLASS[0]).text
            verdict = ("right" if cover == label else "**wrong**") if label else "?"
            print(f"| {path.name}{f' ({label})' if label else ''} | {text} | {cover} | {verdict} |")
            thumbnail = np.clip(resize(scene.rgb, THUMBNAIL, THUMBNAIL), 0, 255).astype(np.uint8)
            axis.imshow(thumbnail, extent=(0, 1, 0, 1))
            axis.set(xlim=(0, 9), ylim=(0, 1))
            axis.set_axis_off()
            axis.text(1.15, 0.72, label or path.name, weight="bold", va="center")
            axis.text(1.15, 0.42, text, va="center")
            axis.text(1.15, 0.14, f"land cover: {cover}", va="center", color="0.35")
        (docs / "img").mkdir(exist_ok=True)
        figure.tight_layout(pad=0.3)
        figure.savefig(docs / "img" / "answers.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
