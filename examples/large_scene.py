"""Write a GeoTIFF of 20 000 × 20 000 pixels to try ``gmrt infer --tiles`` on: a few tank farms in a sea of nodata.

    python examples/large_scene.py big.tif
    gmrt infer big.tif "locate the storage tanks" --tiles -o tanks.geojson

The farms are generated scenes of 1024 pixels; blocks without one are not stored, so that the file is small and a walk
spends its time where there is something to see. With ``--full`` every block holds a farm, each one drawn again, and a
walk asks about all of the 24 000 tiles.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.windows import Window

from gmrt.georsmllm.scenes import generate

SIDE = 20_000
FARM = 1024
SPOTS = ((0, 0), (7_300, 3_900), (12_345, 9_876), (SIDE - FARM, SIDE - FARM))
"""Where farms lie, as (column, row): in two corners, and across the borders of tiles."""


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", action="store_true", help="fill the scene")
    arguments = parser.parse_args()
    steps = range(0, SIDE - FARM + 1, FARM)
    spots = itertools.product(steps, steps) if arguments.full else SPOTS
    farms = [generate(seed, size=FARM, kind="tank farm").image.transpose(2, 0, 1) for seed in range(4)]
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "nodata": 0}
    stored = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "SPARSE_OK": True}
    place = {"crs": "EPSG:32631", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000)}
    with rasterio.open(arguments.out, "w", **profile, **stored, **place) as dataset:
        for number, (column, row) in enumerate(spots):
            dataset.write(farms[number % len(farms)].clip(1, 255), window=Window(column, row, FARM, FARM))
    print(f"{arguments.out}: {SIDE} × {SIDE} pixels, {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
