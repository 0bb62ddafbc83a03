"""Cyclic referring, with rules in the place of models: conditions describe, and conditions locate."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tank_farm import tank_farm

from gmrt.georsmllm.conditions import format_condition, parse_condition
from gmrt.georsmllm.cyclic import cycle, cyclic_agreement, keep
from gmrt.georsmllm.tasks.phrases import Phrases
from gmrt.runtime.points import Region

PHRASES = [Phrases(tank_farm(seed)) for seed in range(8)]
"""The images: scenes by number."""
BOXES = [[thing.as_region("box") for thing in phrases.measured.objects] for phrases in PHRASES]
PAIRS = [(scene, region) for scene, regions in enumerate(BOXES) for region in regions]


@cache
def describe(scene: int, region: Region) -> str:
    """A phrase that singles the thing out, when there is one."""
    condition = PHRASES[scene].referring(BOXES[scene].index(region), np.random.default_rng(0))
    return "" if condition is None else format_condition(condition, many=False)


def name_only(scene: int, region: Region) -> str:
    """The category alone, as a describer does that does not look."""
    return f"the {PHRASES[scene].measured.categories[BOXES[scene].index(region)]}"


def locate(scene: int, phrase: str) -> list[Region]:
    """What the phrase means in the scene."""
    return [thing.as_region("box") for thing in PHRASES[scene].measured.select(parse_condition(phrase))]


def short_sighted(scene: int, phrase: str) -> list[Region]:
    """Locates everything a quarter of the image too far to the right."""
    found = []
    for region in locate(scene, phrase):
        (x0, y0), (x1, y1) = region.points
        found.append(Region("box", ((min(x0 + 250, 999), y0), (min(x1 + 250, 999), y1))))
    return found


def test_what_is_described_well_comes_back() -> None:
    """Guards against a phrase for one thing that stands for another."""
    result = keep(PAIRS, describe, locate)
    assert set(result.outcomes) <= {"agrees", "no phrase"}
    assert result.outcomes["agrees"] == len(result.kept) > len(PAIRS) / 2
    assert result.rate == len(result.kept) / len(PAIRS)
    assert all(each.agreement == pytest.approx(1) for each in result.kept)
    assert str(result).startswith(f"kept {len(result.kept)} of {len(PAIRS)}")


def test_what_does_not_come_back_is_left_out() -> None:
    """Guards against data-making that keeps everything: each way to fail is told apart and counted."""
    vague = keep(PAIRS, name_only, locate)
    assert vague.outcomes["several"] > len(PAIRS) / 2
    assert vague.rate < keep(PAIRS, describe, locate).rate
    astray = keep(PAIRS, describe, short_sighted)
    assert astray.outcomes["elsewhere"] > len(PAIRS) / 2
    lost = keep(PAIRS, lambda *_: "the zeppelin", locate)
    assert lost.outcomes == {"nowhere": len(PAIRS)}
    assert lost.kept == ()


def test_the_metric_is_the_share_that_comes_back() -> None:
    """Guards against a metric that counts what cannot be kept."""
    cycles = [cycle(scene, region, describe, locate) for scene, region in PAIRS]
    values = cyclic_agreement(cycles)
    assert np.mean(values) == pytest.approx(keep(PAIRS, describe, locate).rate)
    assert cyclic_agreement([]) == []
    assert keep([], describe, locate).rate == 0
