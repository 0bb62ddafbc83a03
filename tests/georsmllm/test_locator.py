"""The locator in training: targets out of answers, the same numbers as the runtime's, and a loss that teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gmrt.georsmllm.config import GeoRSMLLMConfig
from gmrt.georsmllm.locator import Locator, located, locator_loss, locator_targets
from gmrt.georsmllm.model import GeoRSMLLMForConditionalGeneration
from gmrt.georsmllm.packing import Turn, collate, pack
from gmrt.georsmllm.presets import build
from gmrt.georsmllm.processor import GeoRSMLLMProcessor
from gmrt.runtime.locator import FINE
from gmrt.runtime.locator import Locator as FieldLocator
from gmrt.runtime.peaks import find_regions
from gmrt.runtime.points import Region, format_regions, parse_regions

WIDTH, PLACES, SIDE = 32, 24, 16
ANSWERS = (
    "<box> 100 100 299 299 <box> 600 500 899 799",
    "<point> 500 500",
    "<obb> 300 200 700 600 600 700 200 300",
    "none",
)


def made(seed: int = 0) -> Locator:
    """A small locator."""
    torch.manual_seed(seed)
    return Locator(WIDTH, PLACES, SIDE)


def test_answers_become_targets() -> None:
    """Guards against rows and columns that change places, and against sizes that are claimed of a point."""
    targets = locator_targets([located(text, single=text.count("<") == 1) for text in ANSWERS], SIDE)
    assert targets["places"].tolist() == [[0, 3, 3], [0, 10, 12], [1, 8, 8], [2, 7, 7]]
    assert targets["known"].tolist() == [
        [True, False, False],
        [True, False, False],
        [False, False, False],
        [True, True, False],
    ]
    assert targets["single"].tolist() == [False, True, True, False]
    assert targets["wanted"].shape == (4, 16, 16)
    assert targets["wanted"][3].max() == 0
    assert float(targets["wanted"][0, 10, 12]) == 1
    box = targets["shapes"][1]
    assert box[2:4].exp().tolist() == pytest.approx([0.299 * 16, 0.299 * 16], rel=1e-3)
    turned = targets["shapes"][3]
    assert turned[4:6].exp().tolist() == pytest.approx([0.4 * 2**0.5 * 16, 0.1 * 2**0.5 * 16], rel=1e-3)
    assert turned[6:8].tolist() == pytest.approx([0, 1], abs=1e-6)  # 45 degrees


@pytest.mark.parametrize(("corners", "expected"), [(4, False), (5, True), (12, True)])
def test_round_things_are_told_from_square_ones(corners: int, expected: bool) -> None:
    """Guards against houses that are drawn as ellipses, and tanks as squares."""
    turns = (np.arange(corners) + 0.5) / corners * 2 * np.pi
    points = [(500 + 300 * np.cos(turn), 400 + 200 * np.sin(turn)) for turn in turns]
    answer = format_regions([Region("poly", tuple((round(x), round(y)) for x, y in points))])
    (told,) = located(answer, single=False).rectangles
    assert bool(told[4]) is expected


def test_desk_and_field_compute_the_same() -> None:
    """Guards against a head that is trained as one thing and run as another, for images and for pairs."""
    head = made()
    field = FieldLocator({name: value.numpy() for name, value in head.state_dict().items()})
    rng = torch.Generator().manual_seed(1)
    for images in (1, 2):
        embeds, hidden = torch.randn(images, PLACES, SIDE, SIDE, generator=rng), torch.randn(WIDTH, generator=rng)
        last = embeds[-1:]
        first = last if images == 1 else embeds[:1]
        with torch.inference_mode():
            maps, shapes, single = head(hidden[None], first, last, torch.zeros(1, dtype=torch.long))
        theirs = field.maps(hidden.numpy(), field.look(embeds.numpy()))
        np.testing.assert_allclose(maps[0], theirs[0], atol=1e-4)
        np.testing.assert_allclose(shapes[0], theirs[1], atol=1e-4)
        assert float(single[0]) == pytest.approx(theirs[2], abs=1e-4)


def test_an_unchanged_pair_is_a_single_image() -> None:
    """Guards against a difference that is not zero where nothing has changed."""
    head, embeds = made(), torch.randn(1, PLACES, SIDE, SIDE)
    queries, owner = torch.randn(2, WIDTH), torch.zeros(2, dtype=torch.long)
    alone = head(queries, embeds, embeds, owner)
    pair = head(queries, embeds.clone(), embeds, owner)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, pair, strict=True))


def test_a_few_steps_teach_it() -> None:
    """Guards against a loss whose gradient points elsewhere: three answers are learnt and found again."""
    head, cells = made(), torch.randn(1, PLACES, SIDE, SIDE)
    queries, owner = torch.randn(len(ANSWERS), WIDTH), torch.zeros(len(ANSWERS), dtype=torch.long)
    targets = locator_targets([located(text, single=text.count("<") == 1) for text in ANSWERS], SIDE)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(250):
        loss = locator_loss(*head(queries, cells, cells, owner), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        maps, shapes, single = head(queries, cells, cells, owner)
    kinds = ("box", "point", "obb", "box")
    for index, (answer, kind) in enumerate(zip(ANSWERS, kinds, strict=True)):
        found = find_regions(maps[index].numpy(), shapes[index].numpy(), float(single[index]), kind).regions
        wanted = parse_regions(answer)
        assert len(found) == len(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            assert np.abs(np.array(ours.bounds) - np.array(theirs.bounds)).max() < 60


@pytest.fixture(scope="module")
def parts() -> tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor]:
    """A tiny model with a locator, and its processor."""
    plain, processor = build("tiny-llama")
    torch.manual_seed(0)
    tower = {"model_type": "efficientnet_lite", "image_size": 64, "neck": 16, "places": PLACES}
    config = GeoRSMLLMConfig(**{**plain.config.to_dict(), "vision_config": tower, "shuffle": 1})
    return GeoRSMLLMForConditionalGeneration(config), processor


TURNS = (
    Turn("describe", "two ships"),
    Turn("locate the ships", "<box> 100 100 299 299 <box> 600 500 899 799", form="box"),
    Turn("point at the ship on the left", "<point> 200 200", form="point", single=True),
    Turn("locate the cars as rotated boxes", "none", form="obb"),
    Turn("how many ships are there?", "2", counted="<box> 100 100 299 299 <box> 600 500 899 799"),
)


def test_a_location_is_opened_and_not_spelt(
    parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor],
) -> None:
    """Guards against digits in the labels, and against a query that is another position than the tag's."""
    _, processor = parts
    row = pack(processor, TURNS, locator=True)
    spelt = pack(processor, TURNS)
    assert len(spelt.ids) > len(row.ids)
    assert processor.backend.decode(row.ids[row.branch == 5].tolist()).endswith("? <value> count")
    assert "2" in processor.backend.decode(spelt.ids[spelt.branch == 5].tolist())
    assert spelt.located == ()
    tags = [processor.backend.token_to_id(tag) for tag in ("<box>", "<point>", "<obb>", "<value>")]
    assert [int(row.labels[at + 1]) for at, _ in row.located] == tags
    assert [int(row.branch[at]) for at, _ in row.located] == [2, 3, 4, 5]
    assert [answer.single for _, answer in row.located] == [False, True, False, False]
    assert [len(answer.boxes) for _, answer in row.located] == [2, 1, 0, 2]


def test_images_and_pairs_learn_in_one_batch(
    parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor],
) -> None:
    """Guards against a query that looks at another row's image, and against parts that no gradient reaches."""
    model, processor = parts
    rows = [pack(processor, TURNS, images, locator=True) for images in (1, 2, 1)]
    batch = collate(rows, 0, model.config.grid)
    embeds = torch.randn(4, model.config.image_tokens, int(model.config.text_config.hidden_size))
    places = torch.randn(4, PLACES, model.config.grid * FINE, model.config.grid * FINE)
    whole = model(image_embeds=embeds, image_places=places, **batch)
    whole.loss.backward()
    locator, decoder = model.locator, model.decoder.model
    for part in (locator.cells, locator.changes, locator.query, decoder.layers[0].mlp.up_proj):
        assert part.weight.grad is not None
        assert float(part.weight.grad.abs().max()) > 0
    model.zero_grad()
    # One row's question, alone: of the three images in the batch only its own may get a gradient from the locator.
    alone = collate(rows[1:2], 0, model.config.grid)
    leaf = places.clone().requires_grad_()
    maps, shapes, single = model.locator(torch.randn(1, embeds.shape[2]), leaf[[0, 1]], leaf[[0, 2]], torch.tensor([1]))
    (maps.sum() + shapes.sum() + single.sum()).backward()
    assert [bool(each.abs().max() > 0) for each in leaf.grad] == [False, True, True, False]
    assert alone["images"].tolist() == [2]


def test_a_loaded_model_finds_what_it_found(
    parts: tuple[GeoRSMLLMForConditionalGeneration, GeoRSMLLMProcessor], tmp_path: Path
) -> None:
    """Guards against a part that is neither saved nor made anew: loading left the planes of the place uninitialised."""
    model, _ = parts
    model.eval().save_pretrained(tmp_path)
    again = GeoRSMLLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    side = model.config.grid * FINE
    places, hidden = torch.randn(1, PLACES, side, side), torch.randn(64)
    for ours, theirs in zip(model.locate(hidden, places), again.locate(hidden, places), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nothing_to_find_is_a_loss_too() -> None:
    """Guards against a division by the number of things where there are none, as in a batch of "none"."""
    head, cells = made(), torch.randn(1, PLACES, SIDE, SIDE)
    targets = locator_targets([located("none", single=False)], SIDE)
    loss = locator_loss(*head(torch.randn(1, WIDTH), cells, cells, torch.zeros(1, dtype=torch.long)), targets)
    assert torch.isfinite(loss)
    loss.backward()
    assert head.query.weight.grad is not None
