"""``gmrt infer`` on Earth: files with places, parts of an image, tiles that go on, series."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from fabricate import make_bundle, small

from gmrt.georsmllm.scenes import generate

SIDE = 256
BOXES = ("--points", "box")


@pytest.fixture(scope="session")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that finds something in most images; what, is chance."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "finder", small(locator=True), seed=1).path


@pytest.fixture
def ask(gmrt: Callable, finder: Path) -> Callable:
    """Run ``gmrt infer`` with the bundle that finds."""
    return lambda *words: gmrt("infer", *words, "--bundle", finder, "--max-tokens", 4)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A scene of 256 pixels with a quarter of nodata, and two quarters that are the same."""
    path = tmp_path / "large.tif"
    farm = generate(1, size=SIDE // 2, kind="tank farm").image.transpose(2, 0, 1).clip(1, 255)
    pixels = np.zeros((3, SIDE, SIDE), np.uint8)
    pixels[:, :128, :128] = pixels[:, 128:, 128:] = farm
    pixels[:, :128, 128:] = farm[:, ::-1]
    write(path, pixels)
    return path


def write(path: Path, pixels: np.ndarray, **options: object) -> None:
    """Write a georeferenced scene."""
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:32631", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000)}
    with rasterio.open(path, "w", "GTiff", **shape, **place, **options) as dataset:
        dataset.write(pixels)


def test_every_form_holds_the_same_places(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against forms that disagree, and against a name that does not say what is written."""
    printed = json.loads(ask(large, "where?", *BOXES, "--format", "geojson").out)
    files = [tmp_path / f"a.{suffix}" for suffix in ("geojson", "gpkg", "csv")]
    for file in files:
        run = ask(large, "where?", *BOXES, "-o", file)
        assert (run.status, run.out) == (0, ""), run.err
    assert json.loads(files[0].read_text()) == printed
    assert files[1].read_bytes().startswith(b"SQLite format 3")
    assert len(files[2].read_text().splitlines()) == len(printed["features"]) + 1
    assert len(printed["features"]) > 0
    assert all(feature["geometry"]["type"] == "Polygon" for feature in printed["features"])


def test_a_name_that_says_json_gets_json(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against plain text in a file whose name says JSON."""
    assert ask(large, "where?", *BOXES, "-o", tmp_path / "a.json").status == 0
    assert json.loads((tmp_path / "a.json").read_text())["prompt"] == "where?"
    assert ask(large, "where?", *BOXES, "--format", "geojson", "-o", tmp_path / "b.json").status == 0
    assert json.loads((tmp_path / "b.json").read_text())["type"] == "FeatureCollection"


def test_a_name_that_promises_another_form_is_refused(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against lines of text in a file that says it is a shapefile."""
    run = ask(large, "where?", *BOXES, "-o", tmp_path / "a.shp")
    assert (run.status, run.out, len(run.err.splitlines())) == (2, "", 1)
    assert "answers are not written as .shp" in run.err
    assert not (tmp_path / "a.shp").exists()


def test_a_mask_is_written_beside(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against a mask off the grid of the image, or one without a word what its values mean."""
    run = ask(large, "where?", *BOXES, "--mask", tmp_path / "mask.tif")
    assert "mask.tif: 1: where?" in run.err
    with rasterio.open(tmp_path / "mask.tif") as mask, rasterio.open(large) as source:
        assert (mask.shape, mask.transform, mask.crs) == (source.shape, source.transform, source.crs)
        assert set(np.unique(mask.read(1))) == {0, 1}


def test_an_image_without_a_place_says_so(ask: Callable, folder: Path) -> None:
    """Guards against pixels that pass for degrees."""
    run = ask(folder / "b.png", "where?", *BOXES, "--format", "geojson")
    found = json.loads(run.out)
    assert "no georeference" in run.err
    assert "no georeference" in found["note"]
    assert all(feature["geometry"] is None for feature in found["features"])


def test_a_part_answers_in_the_whole(ask: Callable, large: Path) -> None:
    """Guards against places of a part in coordinates of the part."""
    (part,) = ask(large, "where?", *BOXES, "--region", "128,0,256,128", "--format", "json").records
    (other,) = ask(large, "where?", *BOXES, "--region", "128,128,256,256", "--format", "json").records
    assert part["places"]
    for found, (left, top) in ((part, (128, 0)), (other, (128, 128))):
        for place in found["places"]:
            assert all(left <= x <= left + 128 and top <= y <= top + 128 for x, y in place["pixels"])
    shown = [[round(x * SIDE / 1000) for x, _ in point["points"]] for point in part["points"]]
    wanted = [[round(place["pixels"][0][0]), round(place["pixels"][2][0])] for place in part["places"]]
    assert np.abs(np.array(shown) - wanted).max() <= 1


def test_tiles_are_accounted_for(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against a tile that is lost: each is done, empty or failed, and the same pixels are asked about once."""
    overlay = tmp_path / "o.png"
    run = ask(large, "where?", *BOXES, "--tiles", "--tile-size", 128, "--format", "json", "--overlay", overlay)
    (record,) = run.records
    tiles = record["tiles"]
    assert (run.status, tiles["planned"], tiles["overlap"]) == (0, 9, 64)
    assert (tiles["done"], tiles["empty"], tiles["failed"]) == (8, 1, [])
    assert tiles["repeated"] >= 1
    assert f"{tiles['merged']} more were the same across a seam" in run.err
    assert overlay.exists()


def test_words_come_as_a_table(ask: Callable, large: Path) -> None:
    """Guards against a description of a large scene that is that of one tile, or tiles that overlap for nothing."""
    choice = ("--choices", "port,river")
    run = ask(large, "what is it?", *choice, "--tiles", "--tile-size", 128)
    whole = ask(large, "what is it?", *choice).out
    first, *table = run.out.splitlines()
    assert first in ("port", "river")
    assert first == whole.strip()
    assert [line.partition(": ")[0] for line in table] == ["0,0,128,128", "128,0,128,128", "128,128,128,128"]
    found = json.loads(ask(large, "what is it?", *choice, "--tiles", "--tile-size", 128, "--format", "geojson").out)
    assert [feature["properties"]["kind"] for feature in found["features"]] == ["image"] * 4


class StoppedError(Exception):
    """What cuts a run off."""


def test_a_cut_run_goes_on_to_the_same_result(
    ask: Callable, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against work that is done twice, a torn line that spoils the rest, and another result than in one go."""
    from gmrt.runtime import walk  # the function that tiles meet the model in is counted and cut

    words = (large, "where?", *BOXES, "--tiles", "--tile-size", 64)
    whole, cut = tmp_path / "whole.geojson", tmp_path / "cut.geojson"
    asked = []

    def counted(*arguments: object) -> object:
        asked.append(arguments)
        if len(asked) == limit:
            raise StoppedError
        return ask_tile(*arguments)

    ask_tile, limit = walk.ask, 0
    monkeypatch.setattr(walk, "ask", counted)
    assert ask(*words, "-o", whole).status == 0
    all_of_them = len(asked)
    asked.clear()
    limit = all_of_them // 2
    with pytest.raises(StoppedError):
        ask(*words, "-o", cut)
    journal = tmp_path / "cut.geojson.tiles.jsonl"
    assert not cut.exists()
    with journal.open("a") as torn:
        torn.write('{"tile": [0, 0')
    assert ask(large, "another question", *BOXES, "--tiles", "--tile-size", 64, "-o", cut).status == 2
    asked.clear()
    limit = 0
    assert ask(*words, "-o", cut).status == 0
    assert len(asked) < all_of_them
    assert cut.read_text() == whole.read_text()
    assert not journal.exists()


def test_a_damaged_tile_fails_alone(ask: Callable, tmp_path: Path) -> None:
    """Guards against one bad block that ends a run, or that nobody hears of; the next run tries it again."""
    path, output = tmp_path / "damaged.tif", tmp_path / "a.geojson"
    pixels = np.random.default_rng(0).integers(1, 255, (3, 256, 256), np.uint8)
    write(path, pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate", interleave="pixel")
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    run = ask(path, "where?", *BOXES, "--tiles", "--tile-size", 64, "-o", output)
    assert run.status == 1
    assert "failed: " in run.err
    assert "there is no answer about the whole scene" in run.err
    assert json.loads(output.read_text())["features"]
    assert (tmp_path / "a.geojson.tiles.jsonl").exists()


def test_dates_in_order_are_pairs(ask: Callable, large: Path, tmp_path: Path) -> None:
    """Guards against a third date that is dropped, and a change without a place on the first image's grid."""
    run = ask(large, large, large, "what changed?", "--choices", "a,b")
    assert len(run.out.splitlines()) == 2
    assert run.out.startswith(f"{large} → {large}: ")
    mask = tmp_path / "m.tif"
    run = ask(large, large, "what changed?", "--choices", "a,b", "--format", "geojson", "--mask", mask)
    assert 'asked as well, for the places: "outline the changes"' in run.err
    assert {feature["properties"]["prompt"] for feature in json.loads(run.out)["features"]} >= {"what changed?"}
    assert mask.exists()
