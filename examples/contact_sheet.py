"""Lay generated scenes out on sheets, to see at a glance what a model would be trained on.

    python examples/contact_sheet.py docs/img

writes `scenes-train.png`, `scenes-held-out.png`, `scenes-sensors.png` and `scenes-pairs.png` there. With a folder of
pictures as a second argument it also writes `composed.png`: drawn objects on those pictures, their outlines marked.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.scenes import KINDS, STYLES_TEST, compose, generate, generate_pair

ByteArray = npt.NDArray[np.uint8]
SENSORS = ("rgb", "rgbn", "sar", "thermal")
GAP = 4


def shown(image: ByteArray) -> Image.Image:
    """A picture as one can look at it: near infrared as red, one band as grey."""
    if image.shape[2] == 1:
        return Image.fromarray(image[:, :, 0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(image[:, :, [3, 0, 1] if image.shape[2] == 4 else [0, 1, 2]]))


def marked(picture: Image.Image, objects: list[SceneObject], colour: str) -> Image.Image:
    """A picture with the outlines of objects."""
    pen = ImageDraw.Draw(picture)
    for one in objects:
        pen.polygon([(x * picture.width, y * picture.height) for x, y in one.outline], outline=colour, width=2)
    return picture


def sheet(rows: list[list[Image.Image]], tile: int, path: Path) -> None:
    """Write pictures in rows, each ``tile`` pixels wide, as a PNG of 256 colours."""
    columns = max(len(row) for row in rows)
    page = Image.new("RGB", (columns * (tile + GAP) - GAP, len(rows) * (tile + GAP) - GAP), "white")
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            small = picture.resize((tile, tile), Image.Resampling.LANCZOS)
            page.paste(small, (across * (tile + GAP), down * (tile + GAP)))
    page.quantize(240, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def chunks(pictures: list[Image.Image], width: int) -> list[list[Image.Image]]:
    """Pictures in rows of ``width``."""
    return [pictures[start : start + width] for start in range(0, len(pictures), width)]


def main(folder: Path, backgrounds: Path | None = None) -> None:
    """Write the sheets."""
    kinds = [kind for kind in KINDS if kind != "runway"]
    train = [shown(generate(seed, kind=kind).image) for kind in kinds for seed in (1, 3)]
    sheet(chunks(train, 6), 128, folder / "scenes-train.png")
    held_out = [
        shown(generate(seed, kind=kind, style=STYLES_TEST[seed % 2]).image) for kind in kinds for seed in (2, 5)
    ]
    sheet(chunks(held_out, 6), 128, folder / "scenes-held-out.png")
    seen = [
        [shown(generate(6, kind=kind, sensor=sensor).image) for kind in ("airport", "marina", "tank farm", "housing")]
        for sensor in SENSORS
    ]
    sheet(seen, 150, folder / "scenes-sensors.png")
    pairs = [pair for pair in (generate_pair(seed) for seed in range(20)) if pair.changes][:5]
    before = [marked(shown(p.before.image), [c.object for c in p.changes if c.kind != "added"], "red") for p in pairs]
    after = [
        marked(shown(p.after.image), [c.object for c in p.changes if c.kind != "removed"], "yellow") for p in pairs
    ]
    sheet([before, after], 170, folder / "scenes-pairs.png")
    if backgrounds is not None:
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(backgrounds.iterdir())[:12]]
        scenes = [compose(picture, seed) for seed, picture in enumerate(pictures)]
        composed = [marked(shown(scene.image), list(scene.labels.objects), "yellow") for scene in scenes]
        sheet(chunks(composed, 4), 180, folder / "composed.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
