"""The warm-up on a few fabricated pictures and an untrained tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import scene

from gmrt.georsmllm import trainer
from gmrt.georsmllm.data import DatasetError, Example
from gmrt.georsmllm.lite import EfficientNetLite
from gmrt.georsmllm.locator import Locator, over_places
from gmrt.georsmllm.objects import SceneObject
from gmrt.georsmllm.recipe import RecipeError, Stage
from gmrt.georsmllm.sources import Mixture
from gmrt.georsmllm.warmup import run
from gmrt.georsmllm.warmup.heads import WarmUp, dense_losses, whole_losses
from gmrt.georsmllm.warmup.run import Views, warm_up
from gmrt.georsmllm.warmup.targets import GRID, targets, vocabulary
from gmrt.runtime.image import ImageSpec

SPEC = ImageSpec(height=256, width=256, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=64)
SCENES = tuple(scene(seed, size=64) for seed in range(4))
MIXTURE = Mixture(SCENES, np.zeros(4, np.int64), (1.0,))
STAGE = Stage("tower", {}, images=8, batch=2, learning_rate=1e-3, warm_up=True)


def tower() -> EfficientNetLite:
    """An untrained tower, the same every time."""
    torch.manual_seed(0)
    return EfficientNetLite(64, 24)


def outlined(things: Sequence[SceneObject]) -> tuple[SceneObject, ...]:
    """The objects with their own shapes instead of boxes."""
    return tuple(replace(thing, exact="poly") for thing in things)


def test_a_perfect_tower_has_almost_no_loss() -> None:
    """Guards against a loss that pulls away from its targets: maps made of the targets themselves."""
    names = vocabulary(SCENES)
    told = [replace(one, labels=replace(one.labels, objects=outlined(one.labels.objects))) for one in SCENES]
    made = [targets(one, names, turn) for one, turn in zip(told, (0, 3, 5, 6), strict=True)]
    mask = torch.from_numpy(np.stack([t.mask for t in made]))
    heat = torch.full_like(mask, -20.0)
    boxes, rectangles, directions = (torch.zeros(4, n, GRID, GRID) for n in (4, 4, 3))
    colours = torch.zeros(4, len(names.colours), GRID, GRID)
    for image, one in enumerate(made):
        for (kind, row, column), box, turned, colour in zip(
            one.places, one.boxes, one.rectangles, one.colour, strict=True
        ):
            heat[image, kind, row, column] = 20.0
            boxes[image, :, row, column] = torch.from_numpy(box)
            rectangles[image, :, row, column] = torch.from_numpy(turned)
            colours[image, colour, row, column] = 20.0
    losses = dense_losses((heat, torch.logit(mask, 1e-6), boxes, rectangles, colours, directions), made)
    assert losses["orientation"] == 0  # nothing says one
    assert all(value < 0.02 for value in losses.values()), losses
    worse = dense_losses((-heat, torch.logit(1 - mask, 1e-6), boxes + 1, rectangles + 1, -colours, directions), made)
    assert all(worse[name] > 0.05 for name in ("heat", "mask", "box", "turned"))


def test_what_is_not_known_has_no_gradient() -> None:
    """Guards against pictures without labels that teach a tower that nothing is there."""
    names = vocabulary(SCENES)
    made = [targets(Example("bare", b""), names)]
    kinds, whole = len(names.categories), (len(names.classes), len(names.tags), len(names.covers), len(names.measures))
    maps = [torch.randn(1, n, GRID, GRID, requires_grad=True) for n in (kinds, kinds, 4, 4, len(names.colours), 3)]
    outputs = [torch.randn(1, n, requires_grad=True) for n in whole]
    sum({**dense_losses(maps, made), **whole_losses(outputs, made)}.values(), start=torch.zeros(())).backward()
    assert all(part.grad is None or not part.grad.any() for part in (*maps, *outputs))


def test_a_view_and_its_targets_turn_together() -> None:
    """Guards against items that depend on what was asked for before, and on one order for all passes."""
    names = vocabulary(SCENES)
    one, two = (Views(MIXTURE, names, SPEC, 64, 3) for _ in range(2))
    for item in (5, 0, 63):
        (a, x), (b, y) = one[item], two[item]
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(x.heat, y.heat)
    assert len({one[item][0].tobytes() for item in range(8)}) == 8


def test_nothing_to_learn_is_said_before_the_first_step(tmp_path: Path) -> None:
    """Guards against a warm-up without a single target, whose loss is zero from beginning to end."""
    bare = Mixture((replace(scene(0), labels=None, scene_class="", captions=("few words",)),), np.zeros(1, int), (1.0,))
    with pytest.raises(DatasetError, match="stage 'tower': a warm-up learns from"):
        warm_up(tower(), bare, SPEC, STAGE, tmp_path / "out", 0)
    with pytest.raises(RecipeError, match="a tower with neck and pyramid"):
        warm_up(EfficientNetLite(64), MIXTURE, SPEC, STAGE, tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_a_tower_learns_and_the_rest_stays(tmp_path: Path) -> None:
    """Guards against a warm-up that trains its heads only, or the blocks that should stay; and a lost result."""
    learner, before = tower(), tower()
    names = vocabulary(SCENES)
    pixels = torch.from_numpy(np.stack([Views(MIXTURE, names, SPEC, 4, 0)[item][0] for item in range(2)]))
    warm_up(learner, MIXTURE, SPEC, replace(STAGE, images=4), tmp_path, 0)
    moved = {name for name, value in before.state_dict().items() if not torch.equal(value, learner.state_dict()[name])}
    assert not {name for name in moved if name.startswith(("stem", "blocks.0.", "blocks.1.", "blocks.2."))}
    assert {name.split(".")[0] for name in moved} == {"blocks", "head", "neck", "pyramid"}
    assert not learner.training
    assert all(parameter.requires_grad for parameter in learner.parameters())
    again = tower()
    warm_up(again, MIXTURE, SPEC, replace(STAGE, images=4), tmp_path, 0)
    with torch.inference_mode():
        assert torch.equal(learner(pixels), again.eval()(pixels))
    with pytest.raises(RecipeError, match="is of another tower"):
        warm_up(EfficientNetLite(32, 24), MIXTURE, SPEC, STAGE, tmp_path, 0)


@pytest.mark.slow
def test_the_loss_falls() -> None:
    """Guards against heads or targets that do not fit each other: a few pictures can be learnt by heart."""
    names = vocabulary(SCENES)
    torch.manual_seed(0)
    model = WarmUp(tower(), 64, 24, names)
    pixels, made = zip(*(Views(MIXTURE, names, SPEC, 4, 0)[item] for item in range(4)), strict=True)
    batch, optimiser = torch.from_numpy(np.stack(pixels)), torch.optim.AdamW(model.parameters(), 2e-3)
    seen = []
    for _ in range(25):
        loss = model(batch, made)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    assert np.mean(seen[-3:]) < 0.5 * np.mean(seen[:3])


@pytest.mark.slow
def test_a_cut_warm_up_resumes_to_the_same_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a resumed warm-up that sees other pictures or forgets its optimiser."""
    monkeypatch.setattr(trainer, "SAVE_STEPS", 2)
    whole, cut = tower(), tower()
    warm_up(whole, MIXTURE, SPEC, STAGE, tmp_path / "whole", 0)

    class Cut(Exception):  # noqa: N818
        """Stands for a power cut."""

    calls: list[int] = []

    class UntilCut(Views):
        """Views until a power cut."""

        def __getitem__(self, item: int) -> Any:
            """Return the item, six times."""
            calls.append(item)
            if len(calls) > 6:
                raise Cut
            return super().__getitem__(item)

    with monkeypatch.context() as patch:
        patch.setattr(run, "Views", UntilCut)
        with pytest.raises(Cut):
            warm_up(cut, MIXTURE, SPEC, STAGE, tmp_path / "cut", 0)
    cut = tower()
    warm_up(cut, MIXTURE, SPEC, STAGE, tmp_path / "cut", 0)
    a, b = whole.state_dict(), cut.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_locator_begins_with_what_the_heads_read() -> None:
    """Guards against heads that are handed over in another order: centres, and geometry as the runtime reads it."""
    names = vocabulary(SCENES)
    torch.manual_seed(0)
    model, locator = WarmUp(tower(), 64, 24, names), Locator(32, 24, GRID)
    locator.adopt(model.readings())
    places = torch.randn(1, 24, GRID, GRID)
    with torch.inference_mode():
        heat, mask, boxes, turned, colours, directions = model.dense(places).split(model.parts, dim=1)
        _, shapes, _ = locator(torch.randn(1, 32), places, places, torch.zeros(1, dtype=torch.long))
        features = over_places(locator.cells, places)
    torch.testing.assert_close(shapes[:, :8], torch.cat([boxes, turned], dim=1))
    expected = torch.cat([heat, colours, directions, mask], dim=1)
    torch.testing.assert_close(features[:, : expected.shape[1]], expected)
