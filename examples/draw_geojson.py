"""Draw the places of a GeoJSON file over its image, by a reader and a projection that are not ours.

    gmrt sample farm.tif --kind "tank farm" --seed 1
    gmrt infer farm.tif "locate the storage tanks" -o tanks.geojson
    python examples/draw_geojson.py farm.tif tanks.geojson docs/img/geojson.png

geopandas reads the file and takes it from WGS 84 to the image's CRS, matplotlib draws it over the image as rasterio
places it. What lies right here lies right in a GIS.
"""

from __future__ import annotations

import sys

import geopandas
import matplotlib as mpl
import rasterio
from rasterio.plot import plotting_extent

mpl.use("agg")
from matplotlib import pyplot


def main(image: str, places: str, out: str) -> None:
    """Draw ``places`` over ``image`` into ``out``."""
    with rasterio.open(image) as source:
        pixels = source.read([1, 2, 3]).transpose(1, 2, 0)
        found = geopandas.read_file(places).to_crs(source.crs)
        figure, axes = pyplot.subplots(figsize=(4.2, 4), layout="constrained")
        axes.imshow(pixels, extent=plotting_extent(source))
        found.boundary.plot(ax=axes, color="yellow", linewidth=1.5)
        axes.set_xlabel(f"easting, {source.crs.to_string()}")
        axes.set_ylabel("northing")
        axes.tick_params(labelsize=6)
        axes.ticklabel_format(useOffset=False, style="plain")
        figure.savefig(out, dpi=70)


if __name__ == "__main__":
    main(*sys.argv[1:])
