"""A user's own images and a table of what is known about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from gmrt.georsmllm.data import DatasetError, Question
from gmrt.georsmllm.readers import to_example
from gmrt.georsmllm.table import read_table
from gmrt.runtime.raster import encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PNG in a folder inside, and a GeoTIFF."""
    rgb = np.full((8, 8, 3), 90, np.uint8)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(encode_png(rgb))
    (tmp_path / "note.png").write_text("no image")
    with rasterio.open(
        tmp_path / "b.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8", photometric="RGB",
        crs="EPSG:32631", transform=rasterio.Affine(1, 0, 0, 0, -1, 8),
    ) as out:  # fmt: skip
        out.write(rgb.transpose(2, 0, 1))
    return tmp_path


def table(folder: Path, text: str) -> Path:
    """Write the table."""
    path = folder / "captions.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_rows_about_one_image_add_up(folder: Path) -> None:
    """Guards against a second caption that replaces the first, and against the marks and quotes that sheets write."""
    text = (
        "Image, caption,class,question,answer\n"
        'sub/a.png,"a quay, seen from above",OpenWater,How many  ships?,3\n'
        "b.tif,a field,,,\n\n"
        'sub/a.png,"two\nlines",,,\n'
        "sub/a.png,two lines,open water,Is it rural?,no"
    )
    first, second = read_table(table(folder, text), folder)
    assert (first.name, first.images) == ("sub/a.png", (folder / "sub" / "a.png",))
    assert first.labels.scene_class == "open water"
    assert first.labels.captions == ("a quay, seen from above", "two lines")
    assert first.questions == (
        Question("How many ships?", "3", "qa", "count"),
        Question("Is it rural?", "no", "qa", "other"),
    )
    assert second.labels.captions == ("a field",)
    assert to_example(second).image.startswith(b"\x89PNG")


def test_every_bad_row_is_named(folder: Path) -> None:
    """Guards against a table that has to be mended one error at a time."""
    text = (
        "image,caption,class,question,answer\n"
        "sub/a.png,fine,water,,\n"
        "gone.png,a lake,,,\n"
        "note.png,text,,,\n"
        ",a lake,,,\n"
        "b.tif,,,,\n"
        "b.tif,,,how many?,\n"
        "sub/a.png,,land,,\n"
        "b.tif,one, two, three, four, five\n"
    )
    with pytest.raises(DatasetError) as caught:
        read_table(table(folder, text), folder)
    message = str(caught.value)
    assert "7 rows that cannot be used" in message
    for part in (
        f"line 3: there is no image gone.png in {folder}",
        "line 4: ",
        "line 5: names no image",
        "line 6: says nothing about b.tif",
        "line 7: has a question without its answer",
        "line 8: says that sub/a.png is 'land', and an earlier line 'water'",
        "line 9: has 6 values for 5 columns; a text with a comma stands in double quotes",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must open with a line of column names"),
        ("file,text\na.png,x\n", "it has 'file,text'"),
        ("image;caption\na.png;x\n", "separated by commas"),
        ("image,caption,caption\n", "must open with"),
        ("image,caption\n", "no rows below"),
    ],
)
def test_a_table_without_its_columns_is_refused(folder: Path, text: str, message: str) -> None:
    """Guards against a KeyError for a sheet that was saved with semicolons."""
    with pytest.raises(DatasetError, match=message):
        read_table(table(folder, text), folder)
