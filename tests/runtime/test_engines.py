"""Engines of a bundle: what is asked of TensorRT, where it goes, and what is said when it does not fit.

No TensorRT is needed: a stand-in builds a file of a few bytes. What needs the library skips by name.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fabricate import reseal

from gmrt.cli import main
from gmrt.runtime import engines
from gmrt.runtime.bundle import verify
from gmrt.runtime.engines import Device, EngineJob, build_engine, find_engine, plan_engines, trtexec_line
from gmrt.runtime.errors import BundleError, ProviderError

ORIN = Device("10.3.0", "8.7")
MIB = 1 << 20
GOOD = """
import json, sys
from pathlib import Path
job = json.load(sys.stdin)
for done in range(3):
    print(json.dumps({"phase": "build", "done": done, "total": 2}), flush=True)
Path(job["plan"]).write_bytes(b"engine of " + Path(job["onnx"]).name.encode())
"""
BAD = "import sys; sys.stdin.read(); sys.exit('no tactic')"
KILLED = "import os, signal, sys; sys.stdin.read(); os.kill(os.getpid(), signal.SIGKILL)"

REMOVED = {
    # "Removed Python APIs and Replacements", TensorRT 10.x to 11.x, as far as the names are in reach of a builder:
    # https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-reference.html
    "FP16",
    "INT8",
    "FP8",
    "BF16",
    "INT4",
    "FP4",
    "OBEY_PRECISION_CONSTRAINTS",
    "PREFER_PRECISION_CONSTRAINTS",
    "DIRECT_IO",
    "int8_calibrator",
    "set_calibration_profile",
    "get_calibration_profile",
    "set_quantization_flag",
    "get_quantization_flag",
    "quantization_flags",
    "clear_quantization_flag",
    "algorithm_selector",
    "platform_has_fast_fp16",
    "platform_has_fast_int8",
    "device_memory_size",
    "device_memory_size_v2",
    "set_flag",
    "precision",
    "set_output_type",
    "add_plugin_v2",
}


def profile(name: str, component: str, **shapes: tuple[int, ...]) -> dict[str, object]:
    """A profile of one shape as the manifest has it."""
    return {"name": name, "component": component, "shapes": {key: [list(s)] * 3 for key, s in shapes.items()}}


@pytest.fixture
def standard(altered: Path) -> Path:
    """A bundle that says it is for TensorRT, with two capacities."""
    profiles = [profile("vision", "vision", pixels=(1, 3, 32, 32))]
    for capacity in (128, 256):
        cache = {f"past_{kind}.{layer}": (1, 2, capacity, 16) for layer in range(2) for kind in ("key", "value")}
        for kind, steps in (("prefill", 64), ("decode", 1)):
            named = profile(f"{kind}-{capacity}", "decoder", inputs_embeds=(1, steps, 64), **cache)
            profiles.append(named)
    reseal(altered, target="tensorrt", profiles=profiles)
    return altered


def jobs_of(root: Path) -> dict[str, EngineJob]:
    """The engines of a bundle by name."""
    return {job.name: job for job in plan_engines(root, verify(root), workspace=64 * MIB)}


def build(root: Path, job: EngineJob, code: str = GOOD, device: Device = ORIN) -> tuple[Path, list[tuple[int, int]]]:
    """Build with a stand-in for TensorRT."""
    told: list[tuple[int, int]] = []
    command = (sys.executable, "-c", code)
    plan = build_engine(root, job, device, lambda done, total: told.append((done, total)), command=command)
    return plan, told


def test_an_engine_for_each_graph_and_capacity(standard: Path) -> None:
    """Guards against a capacity without an engine, and a decode profile apart from its prefill."""
    jobs = jobs_of(standard)
    assert list(jobs) == ["vision", "decoder-128", "decoder-256"]
    assert [len(job.profiles) for job in jobs.values()] == [1, 2, 2]


def test_trtexec_lines_are_complete(standard: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against a line that cannot be pasted: every profile with all its inputs, and no weak typing."""
    assert main(["build", str(standard), "--dry-run", "--workspace", "512MiB"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3
    words = shlex.split(lines[1])
    assert words[0] == "trtexec"
    assert {"--stronglyTyped", "--memPoolSize=workspace:512M", "--profile=0", "--profile=1"} <= set(words)
    assert not {"--fp16", "--int8", "--best"} & set(words)
    least = [word for word in words if word.startswith("--minShapes=")]
    assert len(least) == 2
    assert "inputs_embeds:1x1x64" in least[1]
    assert "past_value.1:1x2x128x16" in least[1]
    assert Path(words[1].removeprefix("--onnx=")).is_file()


def test_an_engine_is_published_whole_and_kept(standard: Path) -> None:
    """Guards against an engine that is built twice, one without its record, and a bundle whose id it changes."""
    before = verify(standard).id
    job = jobs_of(standard)["decoder-256"]
    plan, told = build(standard, job)
    assert plan.read_bytes() == b"engine of decoder.onnx"
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert find_engine(standard, job, ORIN) == plan
    assert build(standard, job, code=BAD) == (plan, [])  # kept: nothing was run
    assert verify(standard).id == before


@pytest.mark.parametrize(("code", "clue"), [(BAD, "built no engine"), (KILLED, "swap file")])
def test_a_failed_build_leaves_nothing(standard: Path, code: str, clue: str) -> None:
    """Guards against half an engine that the next run takes for one, and a kill for want of memory without a word."""
    job = jobs_of(standard)["vision"]
    with pytest.raises(ProviderError, match=clue):
        build(standard, job, code)
    assert list((standard / "engines").iterdir()) == []
    with pytest.raises(ProviderError, match=r"none has been built: run gmrt build"):
        find_engine(standard, job, ORIN)


@pytest.mark.parametrize(
    ("device", "change", "clue"),
    [
        (Device("10.16.0", "8.7"), {}, "TensorRT 10.3.0 and this is 10.16.0"),
        (Device("10.3.0", "11.0"), {}, "compute capability 8.7"),
        (ORIN, {"sha256": "0" * 64}, "another export"),
        (ORIN, {"profiles": ({"pixels": ((1, 3, 64, 64),) * 3},)}, "other shapes"),
    ],
)
def test_a_stale_or_foreign_engine_is_answered_with_the_command(
    standard: Path, device: Device, change: dict[str, object], clue: str
) -> None:
    """Guards against an engine of another JetPack, board or export that is loaded, or refused without a way out."""
    job = jobs_of(standard)["decoder-128"]
    build(standard, job)
    with pytest.raises(ProviderError, match=clue) as refused:
        find_engine(standard, replace(job, **change), device)
    assert str(refused.value).endswith(f"run gmrt build {standard}")


def test_an_engine_is_found_whatever_workspace_it_was_built_with(standard: Path) -> None:
    """Guards against an engine built with --workspace 512MiB that answering, which has no such option, never finds."""
    job = jobs_of(standard)["vision"]
    plan, _ = build(standard, job)
    assert find_engine(standard, replace(job, workspace=0), ORIN) == plan
    plan.unlink()
    with pytest.raises(ProviderError, match="run gmrt build"):
        find_engine(standard, replace(job, workspace=0), ORIN)


def test_a_spoilt_record_is_not_trusted(standard: Path) -> None:
    """Guards against an engine whose record was edited, or torn by a loss of power."""
    job = jobs_of(standard)["vision"]
    plan, _ = build(standard, job)
    (plan.parent / "engine.json").write_text(json.dumps(job.record(ORIN) | {"tensorrt": "9"}))
    with pytest.raises(ProviderError, match="TensorRT 9"):
        find_engine(standard, job, ORIN)
    (plan.parent / "engine.json").write_text("{")
    assert build(standard, job)[1] != []


def test_a_bundle_for_the_cpu_has_no_engines(altered: Path) -> None:
    """Guards against an hour of building a graph with operators that TensorRT does not know."""
    with pytest.raises(BundleError, match="--target tensorrt"):
        plan_engines(altered, verify(altered), workspace=MIB)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_without_tensorrt_one_sentence_says_where_it_comes_from(
    standard: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a traceback from `import tensorrt`, and a user who does not know that JetPack brings it."""
    assert main(["build", str(standard)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "TensorRT is not installed" in line
    assert "JetPack" in line


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="TensorRT is not installed here")
def test_with_tensorrt_the_device_is_named() -> None:
    """Guards against a fingerprint that leaves out what an engine is bound to."""
    found = engines.this_device()
    assert found.tensorrt.split(".")[0].isdigit()
    assert found.capability.count(".") == 1


def test_no_name_is_used_that_tensorrt_11_removed() -> None:
    """Guards against a builder that has to be written again for the next JetPack."""
    folder = Path(engines.__file__).parent
    sources = [(folder / name).read_text(encoding="utf-8") for name in ("enginebuild.py", "backends/cuda.py")]
    trees = [ast.walk(ast.parse(source)) for source in sources]
    names = {node.attr for tree in trees for node in tree if isinstance(node, ast.Attribute)}
    assert {"STRONGLY_TYPED", "build_serialized_network", "add_optimization_profile", "execute_async_v3"} <= names
    assert names & REMOVED == set()


def test_lines_name_what_the_engine_is_built_from(standard: Path) -> None:
    """Guards against two builders of one engine: the line and the job read the same graph and shapes."""
    job = jobs_of(standard)["vision"]
    assert f"--onnx={standard / job.onnx}" in trtexec_line(standard, job)
    assert "--minShapes=pixels:1x3x32x32" in trtexec_line(standard, job)
