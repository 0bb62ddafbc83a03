"""``gmrt plan``, ``gmrt bench`` and ``gmrt build`` as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from boardtree import make_tree

from gmrt.cli.bench import measure
from gmrt.runtime.model import load
from gmrt.runtime.telemetry import Sampler, Sensors


def test_plan_names_metric_components_and_verdict(gmrt: Callable, bundle: Path) -> None:
    """Guards against a plan that leaves out what it counts, or whose parts do not add up to its peak."""
    run = gmrt("plan", bundle, "--board", "orin-nano", "--format", "json")
    (report,) = run.records
    assert (run.status, report["fits"], report["metric"]) == (0, True, "VmHWM")
    names = [part["name"] for part in report["components"]]
    assert {"python and libraries", "decoder", "vision", "embeddings", "workspace", "images (1)"} <= set(names)
    assert sum(part["loaded"] for part in report["components"]) == report["peak"]
    text = gmrt("plan", bundle).out
    assert "MemAvailable" in text
    assert "VmHWM" in text


def test_plan_that_does_not_fit_ends_with_one(gmrt: Callable, bundle: Path) -> None:
    """Guards against a script that goes on to load what cannot fit."""
    run = gmrt("plan", bundle, "--max-memory", "64MiB")
    assert run.status == 1
    assert "does NOT fit into 64 MiB" in run.out


@pytest.mark.parametrize("words", [("--board", "nano"), ("--max-memory", "much"), ("--images", "3")])
def test_plan_refuses(gmrt: Callable, bundle: Path, words: tuple[str, ...]) -> None:
    """Guards against a verdict about a board or a size that does not exist."""
    run = gmrt("plan", bundle, *words)
    assert run.status == 2
    assert len(run.err.splitlines()) == 1


def test_bench_does_fixed_work(gmrt: Callable, bundle: Path) -> None:
    """Guards against a benchmark whose work depends on when the model says it is done, or that is not one JSON line."""
    run = gmrt("bench", bundle, "--runs", 1, "--tokens", 5, "--board", "thor")
    assert run.status == 0, run.err
    report = json.loads(run.out.splitlines()[-1])
    assert report["work"]["decoded_tokens"] == 5
    assert report["decode_tokens_per_s"] == pytest.approx(4 / report["decode_ms"] * 1e3)
    assert report["first_token_ms"] >= report["tower_ms"] + report["prefill_ms"]
    assert report["peak"]["metric"] == "VmHWM"
    assert report["projected"] is None  # of no known preset


def test_bench_reports_a_boards_energy(bundle: Path, tmp_path: Path) -> None:
    """Guards against tokens per joule from a clock that includes the load, and rails that are not named."""
    root = make_tree(tmp_path, "agx-orin")
    report = measure(load(bundle), runs=1, tokens=5, sampler=lambda: Sampler(Sensors(root), seconds=0.01))
    board = report["board"]
    assert set(board["watts"]) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert board["tokens_per_joule"] * board["joules"] == pytest.approx(4)
    assert not board["throttled"]
