"""The same questions about many images: everything in order, nothing lost, and memory that does not grow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gmrt.runtime import series as series_module
from gmrt.runtime.ahead import made_ahead
from gmrt.runtime.errors import BusyError, ConstraintError, SceneNotFoundError
from gmrt.runtime.model import Model
from gmrt.runtime.scene import Scene, scene_from_array

PROMPTS = ("describe the scene", "forest?", "how many boats?")


def noise(seed: int) -> Scene:
    """A scene of noise."""
    return scene_from_array(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def readers() -> list[str]:
    """The reader threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name == "gmrt-reader"]


@pytest.mark.parametrize("held", [0, 30_000, 1 << 30])
def test_outcomes_are_those_of_single_questions(model: Model, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """Guards against answers that are filed with another image, and images that come out of order or not at all."""
    monkeypatch.setattr(series_module, "HELD_BYTES", held)
    scenes = [noise(seed) for seed in range(7)]
    alone = [[model.look(scene).ask(prompt, max_tokens=9).text for prompt in PROMPTS] for scene in scenes]
    found = list(model.ask_each(iter(scenes), PROMPTS, max_tokens=9))
    assert [outcome.source for outcome in found] == scenes
    assert [[answer.text for answer in outcome.answers] for outcome in found] == alone
    assert all(outcome.view is not None and outcome.error is None for outcome in found)
    single = list(model.ask_each(scenes[:2], PROMPTS[0], max_tokens=9))
    assert [[answer.text for answer in outcome.answers] for outcome in single] == [[texts[0]] for texts in alone[:2]]
    assert readers() == []


def test_one_image_that_cannot_be_read_stops_nothing(model: Model, tmp_path: Path) -> None:
    """Guards against a folder that ends at its first bad file, or a bad file that is passed over in silence."""
    missing = tmp_path / "none.tif"
    sources: list[Path | Scene] = [missing, noise(0), missing, missing, noise(1), missing]
    found = list(model.ask_each(sources, PROMPTS[:2], max_tokens=4))
    assert [outcome.source for outcome in found] == sources
    assert [isinstance(outcome.error, SceneNotFoundError) for outcome in found] == [
        source is missing for source in sources
    ]
    assert [len(outcome.answers) for outcome in found] == [0, 2, 0, 0, 2, 0]
    assert [outcome.view is None for outcome in found] == [outcome.error is not None for outcome in found]
    assert [len(o.answers) for o in model.ask_each([missing], "describe")] == [0]
    assert list(model.ask_each([], "describe")) == []


def test_held_images_do_not_grow_with_their_number(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a whole folder in memory: how far reading is ahead of what has been given out."""
    monkeypatch.setattr(series_module, "HELD_BYTES", 20_000)  # three scenes
    read = 0

    def counted() -> Iterator[Scene]:
        nonlocal read
        for seed in range(30):
            read += 1
            yield noise(seed)

    for given, _ in enumerate(model.ask_each(counted(), PROMPTS[0], max_tokens=6)):
        assert read - given <= 3 + series_module.AHEAD + 3
    assert read == 30


def test_closing_stops_the_work(model: Model) -> None:
    """Guards against a reader that goes on, and a model that stays busy, when nobody wants the rest."""
    running = model.ask_each((noise(seed) for seed in range(1000)), PROMPTS[0], max_tokens=4)
    assert next(running).answers
    with pytest.raises(BusyError):
        model.look(noise(0))
    running.close()
    assert readers() == []
    assert model.look(noise(0)).ask("forest?", max_tokens=3).text is not None


def test_failures_of_the_caller_are_raised(model: Model) -> None:
    """Guards against an error of the source of images that is taken for its end, and options that are refused late."""

    def broken() -> Iterator[Scene]:
        yield noise(0)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(model.ask_each(broken(), PROMPTS[0], max_tokens=3))
    with pytest.raises(ConstraintError):
        model.ask_each([], PROMPTS[0], max_tokens=0)
    assert readers() == []


def test_made_ahead_keeps_order_and_bound() -> None:
    """Guards against a queue without a bound, and results in the order of completion."""
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item * item

    results = made_ahead(range(100), make, 3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(made) <= 5 + 3 + 1
    results.close()
    assert readers() == []
    with pytest.raises(ZeroDivisionError):
        list(made_ahead([1, 0], lambda item: 1 // item, 1))
