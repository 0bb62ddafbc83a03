"""What a tower is shown: labels that turn with the picture, maps, masks, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training import pair, scene

from gmrt.georsmllm.data import Example, Question
from gmrt.georsmllm.features import turned
from gmrt.georsmllm.objects import SceneLabels, SceneObject
from gmrt.georsmllm.scenes.raster import STRIPS, coverage
from gmrt.georsmllm.warmup.targets import GRID, LEAST, ORIENTATIONS, tags_of, targets, turn_labels, vocabulary

SIDE = 48


def thing(points: list[tuple[float, float]], **words: str) -> SceneObject:
    """An object of one category."""
    return SceneObject("ship", tuple(points), "poly", words)


def drawn(labels: SceneLabels) -> np.ndarray:
    """The first object as a picture: how much of each pixel it covers, [SIDE, SIDE]."""
    out = np.zeros((SIDE, SIDE))
    patch = coverage(labels.objects[0].points * SIDE, SIDE, SIDE)
    out[patch.rows, patch.columns] = patch.planes[0]
    return out


fractions = st.floats(0.05, 0.95)
triangles = st.lists(st.tuples(fractions, fractions), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(triangles, st.integers(0, 7))
def test_labels_turn_as_pixels_do(points: list[tuple[float, float]], turn: int) -> None:
    """Guards against targets beside the objects in turned pictures: seven of eight would teach the tower nothing.

    Steep edges are drawn in strips, so that a turned picture may differ along an edge, never by a pixel.
    """
    labels = SceneLabels(objects=(thing(points),))
    np.testing.assert_allclose(drawn(turn_labels(labels, turn)), turned(drawn(labels), turn), atol=1 / STRIPS)


@pytest.mark.parametrize("turn", range(8))
def test_words_for_a_direction_turn_too(turn: int) -> None:
    """Guards against a horizontal ship that is called so when it has been turned upright."""
    points = [(0.1, 0.4), (0.9, 0.4), (0.9, 0.5), (0.1, 0.5)]
    given_labels = SceneLabels(objects=(thing(points, orientation="horizontal", colour="red"),))
    (after,) = turn_labels(given_labels, turn).objects
    wide = after.box[2] - after.box[0] > after.box[3] - after.box[1]
    assert after.attributes == {"orientation": "horizontal" if wide else "vertical", "colour": "red"}


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_rectangle_turns_too(turn: int) -> None:
    """Guards against sides that change places with the picture, and an angle that goes the other way round."""
    points = [(0.3, 0.2), (0.7, 0.6), (0.6, 0.7), (0.2, 0.3)]
    labels = SceneLabels(objects=(thing(points),))
    example = Example("a", b"", labels=labels)
    long, short, cosine, sine = targets(example, vocabulary([example]), turn).rectangles[0]
    assert np.exp([long, short]) == pytest.approx([0.4 * 2**0.5 * GRID, 0.1 * 2**0.5 * GRID], rel=1e-4)
    falls = turn % 2 == (turn >= 4)  # from the top left to the bottom right, as in the picture as it is
    assert [cosine, sine] == pytest.approx([0, 1 if falls else -1], abs=1e-6)
    bare = replace(example, labels=SceneLabels(objects=(replace(labels.objects[0], exact="box"),)))
    assert np.isnan(targets(bare, vocabulary([bare]), turn).rectangles).all()


def test_an_object_is_where_it_is() -> None:
    """Guards against rows and columns that change places, by an object worked out by hand."""
    points = [(0.5, 0.25), (0.75, 0.25), (0.75, 0.375), (0.5, 0.375)]
    labels = SceneLabels(objects=(thing(points, orientation="horizontal"),), exhaustive=frozenset({"ship"}))
    example = Example("a", b"", labels=labels)
    made = targets(example, vocabulary([example]))
    assert made.places.tolist() == [[0, 10, 20]]
    np.testing.assert_allclose(made.boxes, [[0.0, 0.0, np.log(8), np.log(4)]], atol=1e-6)
    assert made.heat[0, 10, 20] == made.heat.max() == 1
    assert made.mask[0].sum() == pytest.approx(32)
    assert made.mask[0, 8:12, 16:24].min() == pytest.approx(1)
    assert made.orientation.tolist() == [ORIENTATIONS.index("horizontal")]
    assert made.colour.tolist() == [-1]
    assert made.heat.shape == made.mask.shape == (1, GRID, GRID)


def test_what_is_not_labelled_is_not_known() -> None:
    """Guards against an unlabelled ship that is taught as empty water."""
    all_listed, some_listed = scene(1), replace(scene(1), labels=replace(scene(1).labels, exhaustive=frozenset()))
    bare = Example("bare", b"")
    names = vocabulary([all_listed, scene(0)])
    assert targets(all_listed, names).known.all()
    assert not targets(some_listed, names).known.any()
    made = targets(bare, names)
    assert not made.known.any()
    assert made.scene_class == -1
    assert np.isnan(np.concatenate([made.tags, made.covers, made.measures])).all()
    assert (targets(all_listed, names).scene_class, targets(scene(0), names).scene_class) == (1, 0)
    assert targets(all_listed, names).measures.tolist() == pytest.approx([0.7])


def test_words_of_captions_and_answers_are_tags() -> None:
    """Guards against a word in one of two captions taught as always there, and a question taught as not asked."""
    asked = (Question("Is it rural?", "yes", "qa"), Question("How many?", "2", "qa"), Question("A pond?", "no", "qa"))
    example = Example("a", b"", captions=("a big ship", "the ship"), questions=asked)
    assert tags_of(example) == {"a": 0.5, "big": 0.5, "the": 0.5, "ship": 1.0, "is it rural": 1.0, "a pond": 0.0}
    names = vocabulary([example] * LEAST)
    assert set(names.tags) == set(tags_of(example))
    assert vocabulary([example] * (LEAST - 1)).tags == ()
    other = targets(Example("b", b"", captions=("a pond",)), names)
    known = dict(zip(names.tags, other.tags.tolist(), strict=True))
    assert (known["a"], known["ship"]) == (1.0, 0.0)
    assert np.isnan([known["is it rural"], known["a pond"]]).all()


def test_a_place_is_not_known_when_the_picture_is_turned() -> None:
    """Guards against teaching that a mirrored picture's ship is still on the left."""
    asked = (Question("Is there a ship on the left?", "yes", "qa"),)
    example = Example("a", b"", captions=("ships on the left",), questions=asked)
    names = vocabulary([example] * LEAST)
    upright = dict(zip(names.tags, targets(example, names, 0).tags.tolist(), strict=True))
    mirrored = dict(zip(names.tags, targets(example, names, 4).tags.tolist(), strict=True))
    assert set(upright.values()) == {1.0}
    unknown = {tag for tag, value in mirrored.items() if np.isnan(value)}
    assert unknown == {tag for tag in names.tags if "left" in tag}
    assert len(unknown) == 2


def test_nothing_is_learnt_of_one_picture_from_what_is_said_of_two() -> None:
    """Guards against "what is new" taught of the picture before, where it is not."""
    both = replace(pair(0), captions=("a ship is new",), questions=(Question("Is a ship gone?", "no", "qa"),))
    assert tags_of(both) == {}
    names = vocabulary([replace(both, after=None)] * LEAST)
    assert np.isnan(targets(both, names).tags).all()
