"""The prediction of memory: counts everything once, bounds the cache, and comes close to what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fabricate import Fabricated, small

from gmrt.runtime.bundle import verify
from gmrt.runtime.errors import MemoryLimitError
from gmrt.runtime.memory import BASELINE, SHORTEST_TALK, plan_memory, read_status
from gmrt.runtime.model import load


def test_every_file_that_is_loaded_is_counted_once(fabricate: Callable[..., Fabricated]) -> None:
    """Guards against a part of the bundle that the plan forgets: a head, a scale, a locator."""
    made = fabricate(small(locator=True))
    manifest = verify(made.path)
    texts = manifest.files[manifest.template].bytes
    plan = plan_memory(manifest, prefixes=0)
    assert sum(plan.stored.values()) == sum(entry.bytes for entry in manifest.files.values()) - texts
    assert {"decoder", "vision", "embeddings", "tokenizer", "other"} == set(plan.stored)


def test_a_limit_leaves_room_for_all_images_of_a_prompt(fabricated: Fabricated) -> None:
    """Guards against a limit that lets a model load and then refuses the first question about a pair."""
    manifest = verify(fabricated.path)
    plan = plan_memory(manifest, prefixes=0)
    assert plan.image_tokens == manifest.prompt.max_images * manifest.image.tokens
    fixed = plan.weights + plan.workspace + plan.images
    least = fixed + plan.cache(plan.image_tokens + SHORTEST_TALK)
    assert plan.capacity_within(least) == plan.image_tokens + SHORTEST_TALK
    with pytest.raises(MemoryLimitError, match="raise max_memory"):
        plan.capacity_within(least - plan.bytes_per_token)
    assert plan_memory(manifest, prefixes=0, images=1).image_tokens == manifest.image.tokens
    assert load(fabricated.path, max_memory="1GiB").max_capacity == manifest.cache.max_length


def test_more_of_anything_takes_more(fabricated: Fabricated) -> None:
    """Guards against a component that is computed and not added."""
    manifest = verify(fabricated.path)
    one, two = (plan_memory(manifest, prefixes=0, images=count) for count in (1, 2))
    assert BASELINE < one.peak() < two.peak()
    assert one.peak(200) - one.peak(100) == 100 * manifest.cache.bytes_per_token


def test_each_kind_of_graph_has_its_own_factor(fabricated: Fabricated) -> None:
    """Guards against one factor for all: a half-precision tower is widened, an 8-bit one is not."""
    plan = plan_memory(verify(fabricated.path), prefixes=0)
    loaded = {name: plan.loaded[name] / plan.stored[name] for name in ("vision", "tokenizer", "decoder")}
    assert loaded["tokenizer"] == pytest.approx(7, rel=0.01)
    assert loaded["vision"] < loaded["decoder"]
    eight = replace(verify(fabricated.path), precision="int8")
    found = plan_memory(eight, prefixes=0)
    assert found.loaded["vision"] / found.stored["vision"] == pytest.approx(1.12, rel=0.01)
    assert found.loaded["decoder"] / found.stored["decoder"] == pytest.approx(1.22, rel=0.01)


def test_the_prefix_of_the_images_is_counted(fabricated: Fabricated) -> None:
    """Guards against a copy of the images' rows that the store keeps and the peak leaves out."""
    plan = plan_memory(verify(fabricated.path), prefixes=0)
    without = BASELINE + plan.weights + plan.workspace + plan.images + plan.cache(100)
    assert plan.peak(100) - without == plan.image_tokens * plan.bytes_per_token > 0


@pytest.mark.skipif(read_status("VmHWM") is None, reason="no /proc/self/status")
def test_the_prediction_comes_close(fabricated: Fabricated, tmp_path: Path) -> None:
    """Guards against a baseline that no longer fits what is imported: within a quarter of the process's own VmHWM."""
    image = tmp_path / "scene.tif"
    code = """
import sys
from gmrt.cli import main
from gmrt.runtime.memory import read_status
assert main(["sample", sys.argv[1], "--size", "64"]) == 0
"""
    subprocess.run([sys.executable, "-c", code, str(image)], check=True, capture_output=True)
    code = """
import json, sys
from gmrt.cli import main
from gmrt.runtime.memory import read_status
assert main(["infer", sys.argv[1], "describe", "--bundle", sys.argv[2], "--max-tokens", "4"]) == 0
print(json.dumps(read_status("VmHWM")))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(image), str(fabricated.path)], check=True, capture_output=True, text=True
    )
    measured = json.loads(run.stdout.splitlines()[-1])
    predicted = plan_memory(verify(fabricated.path), prefixes=0, images=1).peak()
    assert predicted == pytest.approx(measured, rel=0.25)
