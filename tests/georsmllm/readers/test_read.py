"""What holds for every reader: missing data, names, splits, the limit on bad records, and the way to an example."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from gmrt.georsmllm import readers
from gmrt.georsmllm.data import DatasetError
from gmrt.georsmllm.objects import SceneLabels
from gmrt.georsmllm.readers import READERS, BadRecord, Record, load, read, to_example

ROOT = Path(__file__).resolve().parents[3]


def captions(*names: str) -> dict[str, object]:
    """A captions file for images of these names."""
    return {"images": [{"filename": name, "split": "train", "sentences": [{"raw": "a field"}]} for name in names]}


@pytest.mark.parametrize("name", READERS)
def test_missing_data_fails_early(name: str, tmp_path: Path) -> None:
    """Guards against a stack trace, or silence, when the path is wrong or the folder is not the dataset."""
    with pytest.raises(DatasetError, match=r"nothing at .*docs/datasets.md"):
        read(name, tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError) as caught:
        read(name, tmp_path / "folder")
    assert str(tmp_path / "folder") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_reader_names_the_others(tmp_path: Path) -> None:
    """Guards against a typing error that is answered with a KeyError."""
    with pytest.raises(DatasetError, match=r"no reader 'ucm'.*ucm-captions.*parquet"):
        read("ucm", tmp_path)


def test_unknown_split_names_the_others(write: Callable[..., Path], pictures: Callable[..., None]) -> None:
    """Guards against an empty dataset because a split is called "val" here and "validation" there."""
    file = write("dataset.json", captions("1.tif"))
    pictures("1.tif")
    with pytest.raises(DatasetError, match=r"no split 'validation': it has train"):
        read("ucm-captions", file, split="validation")
    with pytest.raises(DatasetError, match=r"names no splits"):
        read("eurosat", file.parent, split="train")


def test_bad_records_are_skipped_up_to_the_limit(write: Callable[..., Path], pictures: Callable[..., None]) -> None:
    """Guards against a dataset that shrinks in silence: what is skipped is named, and only so much may be."""
    file = write("dataset.json", captions("1.png", *(f"gone-{i}.png" for i in range(10))))
    pictures("images/1.png")
    result = read("ucm-captions", file)
    assert [record.name for record in result.records] == ["1.png"]
    assert len(result.bad) == 10
    assert result.bad[0] == BadRecord("dataset.json", "image 1", f"there is no image gone-0.png in {file.parent}")
    with pytest.raises(DatasetError, match=r"10 entries .* at most 9 .*dataset.json, image 1: .*; …\. .*limit_bad"):
        read("ucm-captions", file, limit_bad=9)
    write("dataset.json", captions("1.png", *(f"gone-{i}.png" for i in range(11))))
    with pytest.raises(DatasetError, match=r"11 entries"):
        read("ucm-captions", file)


def test_one_percent_of_a_large_set_may_be_bad(write: Callable[..., Path], pictures: Callable[..., None]) -> None:
    """Guards against a default limit that stops at ten whatever the size of the set."""
    data = captions("1.png", *(f"gone-{i}.png" for i in range(15)))
    data["images"][0]["sentences"] *= 1485  # type: ignore[index]
    pictures("1.png")
    assert len(read("rsicd", write("dataset_rsicd.json", data)).bad) == 15


def test_nothing_usable_is_an_error(write: Callable[..., Path]) -> None:
    """Guards against a training on nothing when every image is missing."""
    with pytest.raises(
        DatasetError, match=r"nothing that rsicd can use: dataset_rsicd.json, image 0: there is no image"
    ):
        read("rsicd", write("dataset_rsicd.json", captions("1.jpg")))


def test_listing_decodes_nothing(write: Callable[..., Path]) -> None:
    """Guards against a reader that opens every image: a broken one is only found when it is loaded."""
    write("images/1.jpg", b"not an image")
    record = read("rsicd", write("dataset_rsicd.json", captions("1.jpg"))).records[0]
    assert isinstance(record.images[0], Path)
    with pytest.raises(ValueError, match=r"1.jpg"):
        load(record.images[0])


def test_examples_hold_encoded_images(tmp_path: Path, pictures: Callable[..., None]) -> None:
    """Guards against TIFF bytes in an example, which the field's decoder does not take, and against changed pixels."""
    pictures("1.png", width=6, height=4)
    png = tmp_path / "1.png"
    assert to_example(Record("1", (png,))).image == png.read_bytes()
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)
    tif = tmp_path / "1.tif"
    with rasterio.open(
        tif, "w", driver="GTiff", width=6, height=4, count=3, dtype="uint8", photometric="RGB", crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as dataset:  # fmt: skip
        dataset.write(rgb)
    example = to_example(Record("1", (tif,)))
    np.testing.assert_array_equal(load(example.image).rgb, rgb.transpose(1, 2, 0))


def test_pairs_and_objects_survive_in_an_example(tmp_path: Path, pictures: Callable[..., None]) -> None:
    """Guards against a pair whose images change places, and against objects lost before requests are made of them."""
    pictures("before.png", width=6)
    pictures("after.png", width=7)
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    pair = to_example(Record("1", (before, after)))
    assert (pair.image, pair.after, pair.labels) == (before.read_bytes(), after.read_bytes(), None)
    labels = SceneLabels(exhaustive=frozenset({"car"}))
    assert to_example(Record("1", (before,), labels)).labels is labels
    with pytest.raises(DatasetError, match=r"has 3 images: an example is one image or a pair"):
        to_example(Record("1", (before, before, after)))


@pytest.mark.parametrize("module", sorted(Path(readers.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_modules_are_short_and_say_where_the_layout_is_documented(module: Path) -> None:
    """Guards against a layout that nobody can check, and against a reader that grows into a framework."""
    source = module.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
    if re.search(r"^def read_\w+\(path: Path, split", source, re.MULTILINE):
        assert "https://" in (ast.get_docstring(ast.parse(source)) or "")


def test_every_reader_is_in_the_manual() -> None:
    """Guards against a reader that nobody finds."""
    manual = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [name for name in READERS if f"`{name}`" not in manual] == []
