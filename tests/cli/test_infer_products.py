"""``gmrt infer`` on products and composites: what is one scene, what was drawn, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from gmrt.runtime.raster import quiet


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A folder of four Sentinel-2 bands, and a mask beside them."""
    folder = tmp_path / "products" / "S2A_MSIL2A_20170613T101031"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("B02", "B03", "B04", "B08", "SCL"):
        profile = {"width": 32, "height": 32, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
        path = folder / f"{folder.name}_{name}.tif"
        with (
            quiet(),
            rasterio.open(path, "w", "GTiff", transform=Affine(10, 0, 5e5, 0, -10, 5e6), **profile) as dataset,
        ):
            dataset.write(rng.integers(0, 3000, (1, 32, 32), dtype=np.uint16))
    return folder


@pytest.fixture
def ask(gmrt: Callable, bundle: Path) -> Callable:
    """Run ``gmrt infer`` with the tiny bundle and short answers."""
    return lambda *words: gmrt("infer", *words, "--bundle", bundle, "--max-tokens", 4)


def test_a_product_folder_is_one_scene(ask: Callable, product: Path) -> None:
    """Guards against a Sentinel-2 folder that is answered band by band, each a grey picture."""
    (record,) = ask(product, "describe", "--format", "json").records
    assert record["image"] == str(product)
    assert record["scene"]["bands"] == ["B04", "B03", "B02"]
    assert record["scene"]["wavelengths_nm"] == [665, 560, 490]
    assert record["scene"]["composite"] == "true colour, by the names of the bands"
    assert any("Taken as one scene" in note for note in record["scene"]["notes"])


def test_a_folder_of_products_is_answered_product_by_product(ask: Callable, product: Path) -> None:
    """Guards against "no image in this folder" for a folder of SAFE directories."""
    (record,) = ask(product.parent, "describe").records
    assert record["image"] == str(product)


def test_a_composite_is_drawn_and_told(ask: Callable, product: Path) -> None:
    """Guards against --composite that is parsed and then forgotten, and against a wrong one's traceback."""
    run = ask(product, "describe", "--composite", "false-color", "--format", "json")
    assert run.records[0]["scene"]["bands"] == ["B08", "B04", "B03"]
    assert "false colour" in run.err
    assert ask(product, "describe", "--composite", "sar").status == 2
    assert ask(product, "describe", "--composite", "sepia").status == 2


def test_a_pair_tells_of_both(ask: Callable, product: Path) -> None:
    """Guards against products that cannot be a pair, and against one description for two images."""
    (record,) = ask(product, product, "what changed?", "--composite", "ndvi", "--format", "json").records
    assert [scene["bands"] for scene in record["scene"]] == [["B08", "B04"]] * 2
