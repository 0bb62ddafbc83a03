"""Which bands become red, green and blue: `gmrt.runtime.bands`, without any file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmrt.runtime.bands import Band, choose
from gmrt.runtime.errors import SceneError

SENTINEL_2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def bands(*descriptions: str | None, colours: tuple[str, ...] = ()) -> list[Band]:
    """Bands with these descriptions, and colours where given."""
    shown = colours or ("undefined",) * len(descriptions)
    return [Band(i, colour, text) for i, (colour, text) in enumerate(zip(shown, descriptions, strict=True), 1)]


def tagged(*colours: str) -> list[Band]:
    """Bands with these colour interpretations and no names."""
    return bands(*[None] * len(colours), colours=colours)


@pytest.mark.parametrize(
    ("given_bands", "indexes"),
    [
        (tagged("red", "green", "blue"), (1, 2, 3)),
        (tagged("blue", "green", "red", "alpha"), (3, 2, 1)),
        (tagged("red", "green", "blue", "undefined"), (1, 2, 3)),
        (bands(*SENTINEL_2), (4, 3, 2)),
        (bands("Blue", "Green", "Red", "NIR"), (3, 2, 1)),
        (bands("Band 4 - Red", "Band 3 - Green", "Band 2 - Blue"), (1, 2, 3)),
        (bands("B", "G", "R"), (3, 2, 1)),
        # PlanetScope's eight bands: "coastal_blue", "green_i" and "rededge" are not the colours that they mention.
        (bands("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"), (6, 4, 2)),
        (bands("red edge 1", "red edge 2", "red", "green", "blue"), (3, 4, 5)),
    ],
)
def test_hints_are_followed(given_bands: list[Band], indexes: tuple[int, ...]):
    """A BGR file or a Sentinel-2 stack was once drawn in file order, which looks plausible and is wrong."""
    assert choose(given_bands).indexes == indexes


def test_names_win_over_a_contradicting_tag():
    """GDAL tags any three bytes a pixel as red, green, blue when they are saved, also blue, green, red."""
    stack = bands("B02", "B03", "B04", colours=("red", "green", "blue"))
    assert choose(stack).indexes == (3, 2, 1)
    assert "names" in choose(stack).composite


def test_false_colour_saved_as_rgb_is_said():
    """Bytes of nir, red, green carry GDAL's tag red, green, blue: calling that a natural picture would be a lie."""
    choice = choose(bands("nir", "red", "green", colours=("red", "green", "blue")))
    assert (choice.indexes, choice.name) == ((1, 2, 3), "false-color")
    assert "because it has no red, green and blue" in choice.composite


def test_a_product_name_that_contradicts_a_band_name_is_no_hint():
    """A NAIP file rewritten as nir, red, green, blue keeps its file name."""
    with pytest.raises(SceneError, match="--bands"):
        choose(bands("nir", None, None, None), stem="naip_2020")


@pytest.mark.parametrize(
    ("stem", "count", "indexes"),
    [
        ("20230401_153012_90_2460_3b_analyticms_sr", 4, (3, 2, 1)),
        ("20230401_153012_90_2460_3b_analyticms_sr_8b", 8, (6, 4, 2)),
        ("20230401_153012_90_2460_3b_analyticms_8b_sr", 8, (6, 4, 2)),
        ("wv03_scene_12", 8, (5, 3, 2)),
        ("20jun17wv02-m2as-0123_01_p001", 8, (5, 3, 2)),
        ("ge01_harbour", 4, (3, 2, 1)),
    ],
)
def test_products_are_known_by_their_file_names(stem: str, count: int, indexes: tuple[int, ...]):
    """Guards against a product of Planet or Maxar drawn in file order: none of them begins with red."""
    assert choose(tagged(*["undefined"] * count), stem=stem).indexes == indexes


@pytest.mark.parametrize("count", [2, 3, 4, 13])
def test_bands_without_any_hint_are_asked_about(count: int):
    """A wrong guess goes unnoticed; the sentence must name the file, the bands and the option."""
    with pytest.raises(SceneError, match=rf"^city\.tif: has {count} bands \(1, 2.*--bands") as error:
        choose(tagged(*["undefined"] * count), source="city.tif", stem="city")
    assert "\n" not in str(error.value)


def test_unpadded_landsat_names_are_not_read_as_sentinel():
    """The name B4 is red on Landsat 8 and near infrared on Landsat 5."""
    with pytest.raises(SceneError, match="'B4'"):
        choose(bands("B1", "B2", "B3", "B4", "B5", "B7"))


@pytest.mark.parametrize("ambiguous", [("red", "red", "green", "blue"), ("NDVI (red, nir)", "green", "blue")])
def test_two_bands_for_one_colour_are_no_hint(ambiguous: tuple[str, ...]):
    """The first of two red bands was taken, whichever date or orbit it came from."""
    with pytest.raises(SceneError):
        choose(bands(*ambiguous))


@pytest.mark.parametrize(
    ("stem", "count", "known"),
    [
        ("naip_20200831", 4, True),
        ("NAIP-2020", 4, True),
        ("m_3807708_sw_18_1_20111002", 4, True),
        ("rapideye_rgbn_20160101", 4, True),
        ("tile_rgb", 3, True),
        ("naip_20200831", 5, False),
        ("unaipped", 4, False),
        ("landsat_2020", 4, False),
        ("argbee", 3, False),
    ],
)
def test_product_names(stem: str, count: int, known: bool):
    """Only a whole word in the name and the published number of bands count as a hint."""
    unnamed = tagged("gray", *["undefined"] * (count - 1))
    if known:
        choice = choose(unnamed, stem=stem)
        assert choice.indexes == (1, 2, 3)
        assert "file name" in choice.composite
    else:
        with pytest.raises(SceneError):
            choose(unnamed, stem=stem)


def test_one_band_is_grey():
    """Grey with or without alpha needs no question."""
    assert choose(tagged("gray")).indexes == (1,)
    assert choose(tagged("gray", "alpha")).indexes == (1,)
    assert choose(bands("VV")).names == ("VV",)


@pytest.mark.parametrize(
    ("asked", "indexes"),
    [
        ("4,3,2", (4, 3, 2)),
        (" 4, 3 ,2 ", (4, 3, 2)),
        ([4, 3, 2], (4, 3, 2)),
        ("red,green,blue", (4, 3, 2)),
        ("blue=2,red=4,green=3", (4, 3, 2)),
        ("red=B08,green=red,blue=green", (8, 4, 3)),
        ("b8a", (9,)),
        ("3,3,3", (3, 3, 3)),
    ],
)
def test_the_caller_chooses(asked: str | list[int | str], indexes: tuple[int, ...]):
    """Numbers count from 1; names are those of the file or colours; the order of an assignment does not matter."""
    choice = choose(bands(*SENTINEL_2), asked=asked)
    assert choice.indexes == indexes
    assert "as asked" in choice.composite


@pytest.mark.parametrize(
    "asked",
    ["", "0", "13,1,1", "1,2", "1,2,3,4", "purple", "red=4", "red=4,green=3,3", "red=4,red=3,blue=2", "-1", "1,,2"],
)
def test_impossible_choices_are_refused(asked: str):
    """An index of 0 or -1 reached Python's indexing and silently took the last band."""
    with pytest.raises(SceneError):
        choose(bands(*SENTINEL_2), asked=asked)


@given(st.permutations(["red", "green", "blue", "nir", "alpha", "undefined"]))
def test_any_order_of_tags_is_undone(colours: list[str]):
    """Whatever the order of the bands, the names of those chosen are red, green, blue."""
    choice = choose(tagged(*colours))
    assert [colours[index - 1] for index in choice.indexes] == ["red", "green", "blue"]
    assert choice.names == ("red", "green", "blue")


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.text(max_size=20))
def test_any_text_gives_a_choice_or_one_sentence(descriptions: list[str], asked: str):
    """Descriptions come from strangers' files: none may raise anything but our own error."""
    try:
        choice = choose(bands(*descriptions), asked=asked)
    except SceneError:
        return
    assert all(1 <= index <= len(descriptions) for index in choice.indexes)
    assert len(choice.indexes) == len(choice.names)
