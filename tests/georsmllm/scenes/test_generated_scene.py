"""Generated scenes: the labels are true of the pixels, and the same seed makes the same scene."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from gmrt.georsmllm.conditions import And, Attribute, Category, Not, is_ambiguous
from gmrt.georsmllm.scenes import KINDS, STYLES_TEST, STYLES_TRAIN, generate, write_scene
from gmrt.georsmllm.scenes.captions import number, plural
from gmrt.georsmllm.scenes.item import GROUND
from gmrt.georsmllm.scenes.labels import CATEGORIES, SURFACES, labelled, labels_of, size_words, valid_mask
from gmrt.georsmllm.scenes.plan import BUILT_UP, COVERS
from gmrt.georsmllm.scenes.render import render
from gmrt.georsmllm.scenes.scene import place
from gmrt.runtime.errors import SceneError

RGB = [0, 1, 2]
seeds = st.integers(0, 10_000)
kinds = st.sampled_from(KINDS)
EVERY_KIND = [(kind, 3 + index % 2) for index, kind in enumerate(KINDS)]  # held-out styles and trained ones in turn


def digest(scene) -> str:
    """A short name for everything in a scene."""
    labels = repr((scene.labels.objects, scene.labels.captions, scene.labels.fractions, scene.labels.measures))
    return hashlib.sha256(scene.image.tobytes() + scene.cover.tobytes() + labels.encode()).hexdigest()


@given(seeds, st.sampled_from(["rgb", "rgbn", "sar", "thermal"]))
@settings(max_examples=6, deadline=None)
def test_a_seed_makes_the_same_scene_twice(seed, sensor):
    """Guards against chance from outside the seed."""
    first, second = generate(seed, size=128, sensor=sensor), generate(seed, size=128, sensor=sensor)
    assert digest(first) == digest(second)
    assert digest(first) != digest(generate(seed + 1, size=128, sensor=sensor))


def test_a_seed_makes_the_same_scene_in_another_process():
    """Guards against an order that depends on how Python hashes words."""
    code = (
        "import hashlib; from gmrt.georsmllm.scenes import generate; s = generate(7, size=128);"
        "l = s.labels; r = repr((l.objects, l.captions, l.fractions, l.measures));"
        "print(hashlib.sha256(s.image.tobytes() + s.cover.tobytes() + r.encode()).hexdigest())"
    )
    for salt in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
            timeout=60,
        )
        assert ran.stdout.strip() == digest(generate(7, size=128))


@pytest.mark.parametrize(("kind", "seed"), EVERY_KIND)
def test_outlines_cover_what_is_drawn(plan_of, outline_mask, drawn_mask, kind, seed):
    """Guards against an outline beside, larger or smaller than the drawing: IoU of both masks at least 0.9."""
    plan, _ = plan_of(kind, seed)
    valid = valid_mask(plan)
    overlaps = []
    for item, outline in labelled(plan):
        told = outline_mask(outline, plan.size) & valid
        if told.sum() >= 40:
            drawn = drawn_mask(plan, item) & valid
            overlaps.append((told & drawn).sum() / (told | drawn).sum())
    assert overlaps
    assert min(overlaps) > 0.8
    assert np.mean(overlaps) > 0.93
    assert np.mean(np.array(overlaps) >= 0.9) > 0.85


@given(seeds, kinds)
@settings(max_examples=12, deadline=None)
def test_without_the_object_the_pixels_in_its_outline_differ(plan_of, outline_mask, seed, kind):
    """Guards against a label on something that is not there, or that something else hides."""
    plan, look = plan_of(kind, seed)
    found = [(item, outline) for item, outline in labelled(plan) if item.stage != GROUND]
    if not found:
        return
    item, outline = found[seed % len(found)]
    full = render(plan, look, RGB).signals
    rest = replace(plan, items=tuple(other for other in plan.items if other is not item))
    changed = np.abs(full - render(rest, look, RGB).signals).max(axis=0) > 2
    inside = outline_mask(outline, plan.size) & valid_mask(plan)
    assert changed[inside].mean() > 0.7


@pytest.mark.parametrize(("kind", "seed"), EVERY_KIND)
def test_nothing_labelled_is_mostly_hidden(plan_of, outline_mask, kind, seed):
    """Guards against an object under a tree or another object that the picture no longer shows."""
    plan, _ = plan_of(kind, seed)
    found = [(item, outline) for item, outline in labelled(plan) if item.stage != GROUND]
    order = sorted(range(len(found)), key=lambda index: found[index][0].stage)
    covered = np.zeros((plan.size, plan.size), bool)
    for index in reversed(order):  # from the top down
        mask = outline_mask(found[index][1], plan.size)
        if mask.sum() >= 20:
            assert (mask & covered).sum() <= 0.3 * mask.sum(), found[index][0].category
        covered |= mask


@given(seeds, kinds)
@settings(max_examples=10, deadline=None)
def test_what_is_listed_is_what_is_drawn(plan_of, seed, kind):
    """Guards against a count that differs from the list, and against objects too small or too cut off to count."""
    plan, look = plan_of(kind, seed)
    labels = labels_of(plan, render(plan, look, RGB), valid_mask(plan), "rgb")
    drawn = Counter(item.category for item in plan.items if item.category)
    listed = Counter(one.category for one in labels.objects)
    assert {name: drawn[name] for name in drawn if name in labels.exhaustive} == {
        name: listed[name] for name in listed if name in labels.exhaustive
    }
    for one in labels.objects:
        assert one.category in CATEGORIES
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        if one.category not in SURFACES:
            assert max(x1 - x0, y1 - y0) * plan.size >= 5


@given(seeds, kinds)
@settings(max_examples=8, deadline=None)
def test_fractions_are_those_of_the_mask(seed, kind):
    """Guards against shares that count nodata, or come from areas on paper instead of pixels."""
    scene = generate(seed, size=128, kind=kind)
    seen = scene.cover[scene.valid]
    names = list(COVERS)
    for name, share in scene.labels.fractions.items():
        assert share == pytest.approx((seen == names.index(name)).mean(), abs=1e-9)
    assert sum(scene.labels.fractions.values()) == pytest.approx(1.0)
    built = sum(scene.labels.fractions.get(name, 0.0) for name in BUILT_UP)
    assert scene.labels.measures["built-up fraction"] == pytest.approx(built)
    assert 0 <= scene.labels.measures["mean height"] < 30


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_captions_count_right(seed):
    """Guards against a caption whose number, or "no", is not the number of objects listed."""
    scene = generate(seed, size=128)
    counts = Counter(one.category for one in scene.labels.objects)
    values = {number(n): n for n in range(400)}
    assert scene.labels.captions
    assert len(set(scene.labels.captions)) == len(scene.labels.captions)
    colours = "white|grey|black|red|blue|green|yellow|brown"
    for caption in scene.labels.captions:
        for category in CATEGORIES:
            pattern = rf"\b(\w+) (?:(?:{colours}) )?{plural(category)}\b"
            for word in re.findall(pattern, caption.lower()):
                if word in values:
                    assert values[word] == counts[category], caption
                elif word in ("few", "several", "many"):
                    assert counts[category] >= 3, caption


def test_colours_are_told_only_where_they_show():
    """Guards against "the red car" in a radar or thermal image."""
    for sensor in ("sar", "thermal"):
        scene = generate(5, kind="parking lot", sensor=sensor)
        assert scene.labels.objects
        assert not any("colour" in one.attributes for one in scene.labels.objects)
        assert not any(re.search(r"\b(white|red|blue|grey)\b", caption) for caption in scene.labels.captions)
    assert all(
        "colour" in one.attributes for one in generate(5, kind="parking lot").labels.objects if one.category == "car"
    )


@pytest.mark.parametrize(("sensor", "bands"), [("rgb", 3), ("rgbn", 4), ("sar", 1), ("thermal", 1)])
def test_sensors_give_their_bands(sensor, bands):
    """Guards against a band too few, values that touch nodata, and pictures without contrast."""
    scene = generate(2, kind="housing", sensor=sensor)
    assert scene.image.shape == (256, 256, bands)
    assert scene.image.dtype == np.uint8
    assert len(scene.bands) == bands
    assert (scene.image[scene.valid] > 0).all()
    assert (scene.image[~scene.valid] == 0).all()
    assert scene.image[scene.valid].std() > 8


def test_near_infrared_shows_vegetation():
    """Guards against a fourth band that is a copy of the others."""
    scenes = (generate(seed, kind="river", sensor="rgbn") for seed in range(20))
    scene = next(scene for scene in scenes if scene.labels.fractions.get("grass", 0) > 0.2 and scene.valid.all())
    red, infrared = scene.image[..., 0].astype(float), scene.image[..., 3].astype(float)
    index = (infrared - red) / (infrared + red + 1e-6)
    names = list(COVERS)
    grass, water = scene.cover == names.index("grass"), scene.cover == names.index("water")
    assert index[grass].mean() > index[water].mean() + 0.3


def test_held_out_styles_share_nothing_with_training():
    """Guards against a drawing, a palette, a texture or a field that is trained on and tested with."""
    for attribute in ("textures", "fields"):
        train = {name for style in STYLES_TRAIN for name in getattr(style, attribute)}
        test = {name for style in STYLES_TEST for name in getattr(style, attribute)}
        assert train
        assert test
        assert not train & test
    categories = STYLES_TRAIN[0].drawings.keys()
    for category in categories:
        train = {name for style in STYLES_TRAIN for name in style.drawings[category]}
        test = {name for style in STYLES_TEST for name in style.drawings[category]}
        assert train
        assert test
        assert not train & test
    colours = [{c for style in group for c in style.palette.colours()} for group in (STYLES_TRAIN, STYLES_TEST)]
    assert not colours[0] & colours[1]


def test_held_out_styles_draw_from_other_seeds():
    """Guards against a test scene with the layout of a training scene of the same seed."""
    trained = generate(11, kind="tank farm", style=STYLES_TRAIN[0])
    tested = generate(11, kind="tank farm", style=STYLES_TEST[0])
    assert trained.gsd != tested.gsd


def test_size_words_need_a_difference():
    """Guards against "the large tank" among equals."""
    assert size_words([5.0]) == [""]
    assert size_words([5.0, 6.0, 7.0]) == ["", "", ""]
    assert size_words([4.0, 8.1, 16.0]) == ["small", "medium", "large"]


def test_size_words_keep_clear_of_the_steps():
    """Guards against a word for a thing that half of all people would call by the next one."""
    first, second = 4 * 4 ** (1 / 3), 4 * 4 ** (2 / 3)
    assert size_words([4.0, first * 0.96, first * 1.04, second * 0.96, second * 1.04, 16.0]) == [
        *("small", "", "", "", "", "large"),
    ]
    assert size_words([4.0, first * 0.94, first * 1.06, second * 0.94, second * 1.06, 16.0]) == [
        *("small", "small", "medium", "medium", "large", "large"),
    ]


def test_no_question_turns_on_a_size_that_is_not_told():
    """Guards against "how many small tanks" answered as if a tank between small and medium were not small."""
    scene = generate(3, kind="tank farm")
    tanks = [one for one in scene.labels.objects if one.category == "storage tank"]
    told = [replace(one, attributes={"size": word}) for one, word in zip(tanks, ("small", "large"), strict=False)]
    untold = replace(tanks[2], attributes={})
    ship = replace(tanks[2], category="ship", attributes={"size": "small"})
    for word in ("small", "large"):
        tank = And((Category("storage tank"), Attribute("size", word)))
        assert not is_ambiguous(tank, told)
        assert is_ambiguous(tank, [*told, untold])
        assert is_ambiguous(And((Category("storage tank"), Not(Attribute("size", word)))), [*told, untold])
        assert not is_ambiguous(And((Category("ship"), Attribute("size", word))), [ship, untold])


@pytest.mark.parametrize("sensor", ["rgb", "sar"])
def test_written_scene_reads_back(tmp_path, sensor):
    """Guards against a GeoTIFF that lost its place, its bands or its nodata."""
    seed = next(s for s in range(60) if not generate(s, size=64).valid.all())
    scene = generate(seed, size=96, sensor=sensor)
    path = tmp_path / "scene.tif"
    write_scene(scene, path)
    with rasterio.open(path) as dataset:
        assert (dataset.read().transpose(1, 2, 0) == scene.image).all()
        assert dataset.crs.to_string() == scene.crs
        assert dataset.transform == scene.transform
        assert dataset.descriptions == scene.bands
        assert dataset.nodata == (None if scene.valid.all() else 0)
        assert "no real place" in dataset.tags()["TIFFTAG_IMAGEDESCRIPTION"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.tif"]


def test_place_has_the_plans_resolution(plan_of):
    """Guards against a georeference that disagrees with the GSD."""
    plan, _ = plan_of("river", 1)
    crs, transform = place(plan, 1)
    assert crs.startswith("EPSG:326")
    assert transform.a == -transform.e == plan.gsd


@pytest.mark.parametrize(
    ("how", "words"),
    [({"kind": "moon"}, "kind"), ({"sensor": "sonar"}, "sensor"), ({"size": 8}, "pixels wide"), ({"seed": -1}, "seed")],
)
def test_wrong_arguments_are_refused(how, words):
    """Guards against a traceback from the depths for a slip at the top."""
    with pytest.raises(SceneError, match=words):
        generate(**({"seed": 1} | how))


def test_writing_into_nowhere_is_refused(tmp_path):
    """Guards against a stack trace, or a folder made by accident."""
    with pytest.raises(SceneError, match="no folder"):
        write_scene(generate(1, size=64), tmp_path / "missing" / "scene.tif")
