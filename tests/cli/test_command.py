"""The command as a whole, and its sub-commands besides ``infer`` and ``export``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio

import gmrt as package
from gmrt.cli import options, verify
from gmrt.georsmllm.scenes import STYLES_TEST, STYLES_TRAIN
from gmrt.runtime import bundle as bundles
from gmrt.runtime.errors import MissingExtraError
from gmrt.runtime.model import SHIPPED


def test_help_names_every_sub_command(gmrt: Callable) -> None:
    """Guards against a sub-command that is written and not wired."""
    run = gmrt("--help")
    assert run.status == 0
    for name in ("infer", "export", "verify", "eval", "train", "sample", "doctor"):
        assert name in run.out


def test_version(gmrt: Callable) -> None:
    """Guards against a version in two places."""
    assert gmrt("--version").out == f"gmrt {package.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    """Guards against a slow start: help needs no numpy, no session, no rich and no pydantic."""
    code = """
import sys
from gmrt.cli import main
main(["infer", "--help"])
print({"numpy", "onnxruntime", "rasterio", "tokenizers", "jinja2", "rich", "torch"} & set(sys.modules), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "set()\n"


def test_sample_is_georeferenced(gmrt: Callable, tmp_path: Path) -> None:
    """Guards against a sample that shows nothing of what the command does with georeferences, or has no truth."""
    path = tmp_path / "scene.tif"
    run = gmrt("sample", path, "--size", 64, "--seed", 3, "--kind", "river")
    assert (run.status, run.out) == (0, f"{path}\n")
    known = json.loads((tmp_path / "scene.json").read_text())
    assert (known["kind"], known["seed"]) == ("river", 3)
    assert {"task": "class", "kind": "river"}.items() <= known["requests"][1].items()
    with rasterio.open(path) as dataset:
        assert dataset.crs is not None
        assert (dataset.width, dataset.height, dataset.count) == (64, 64, 3)


def test_sample_keeps_styles_of_training_apart(gmrt: Callable, tmp_path: Path) -> None:
    """Guards against a look at the model on scenes whose style it has learnt, unless they are asked for."""
    for words, split in (((), STYLES_TEST), (("--split", "train"), STYLES_TRAIN)):
        assert gmrt("sample", tmp_path / "scene.tif", "--size", 64, *words).status == 0
        style = json.loads((tmp_path / "scene.json").read_text())["style"]
        assert style in {one.name for one in split}


@pytest.mark.parametrize(
    ("name", "words", "clue"),
    [
        ("scene.tif", ("--kind", "castle"), "castle"),
        ("scene.tif", ("--size", 3), "64"),
        ("scene.tif", ("--size", "big"), "--size"),
        ("scene.tif", ("--seed", -1), "seed"),
        ("scene.tif", ("--split", "validation"), "--split"),
        ("scene.jpg", (), ".tif"),
        ("nowhere/scene.tif", (), "nowhere"),
    ],
)
def test_sample_refuses(gmrt: Callable, tmp_path: Path, name: str, words: tuple[object, ...], clue: str) -> None:
    """Guards against a half-written file, or a traceback, on a bad option or path."""
    run = gmrt("sample", tmp_path / name, *words)
    assert run.status == 2
    assert clue in run.err
    assert len(run.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_verify_compares_files_and_answers(gmrt: Callable, tiny_bundle: Path) -> None:
    """Guards against a check that passes without looking: it names the bundle, and counts the tokens it compared."""
    run = gmrt("verify", tiny_bundle, "--format", "json")
    assert run.status == 0, run.err
    (report,) = run.records
    assert report["id"] == json.loads((tiny_bundle / "bundle.json").read_text())["id"]
    assert report["golden"]["matched"] == report["golden"]["firm"] > 0
    assert report["passed"]
    assert report["failures"] == []
    assert [graph["graph"] for graph in report["kernels"]] == ["vision", "decoder", "decoder"]
    assert len(report["not_checked"]) == 1
    assert "--checkpoint" in report["not_checked"][0]


def test_verify_says_what_it_did_not_check(gmrt: Callable, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a device without the export's packages that says a bundle is sound without having looked."""
    monkeypatch.setattr(verify, "find_spec", lambda _name: None)
    run = gmrt("verify", tiny_bundle)
    assert run.status == 0
    assert "integer kernels" not in run.out
    assert run.err.count("gmrt: note: not checked: ") == 2


def test_verify_notices_another_answer(gmrt: Callable, tiny_bundle: Path, tmp_path: Path) -> None:
    """Guards against an exit status of 0 when the bundle's golden answers no longer come out."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = json.loads((copy / "bundle.json").read_text())
    golden = manifest["parity"]["golden"][0]
    golden["top"] = [(token + 1) % manifest["vocab_size"] for token in golden["top"]]
    (copy / "bundle.json").write_text(json.dumps(manifest))
    run = gmrt("verify", copy)
    assert run.status == 1
    assert "golden answers: " in run.out
    assert "gmrt: failed: golden answers: " in run.err


def test_export_writes_a_bundle(gmrt: Callable, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Guards against a sub-command that does not hand its options on."""
    run = gmrt("export", tiny_checkpoint, "--precision", "fp32", "-o", tmp_path / "out")
    assert (run.status, run.out) == (0, f"{tmp_path / 'out'}\n"), run.err
    assert json.loads((tmp_path / "out" / "bundle.json").read_text())["precision"] == "fp32"


@pytest.mark.parametrize(
    "words",
    [("export", "missing", "--precision", "int8"), ("export", "--precision", "int7"), ("export",)],
    ids=["no checkpoint", "unknown precision", "no precision"],
)
def test_export_refuses(gmrt: Callable, words: tuple[str, ...]) -> None:
    """Guards against a traceback, or minutes of work, before a wrong argument is noticed."""
    pytest.importorskip("torch")
    run = gmrt(*words)
    assert (run.status, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1


def test_verify_refuses_a_folder_without_a_bundle(gmrt: Callable, tmp_path: Path) -> None:
    """Guards against a traceback from the first missing file."""
    run = gmrt("verify", tmp_path)
    assert run.status == 2
    assert "bundle" in run.err
    assert len(run.err.splitlines()) == 1


def test_doctor_accepts_this_environment(gmrt: Callable, bundle: Path) -> None:
    """Guards against a check that reports trouble where the tests themselves run."""
    run = gmrt("doctor", "--bundle", bundle, "--format", "json")
    (report,) = run.records
    assert (run.status, report["ok"]) == (0, True), report
    assert {"python", "onnxruntime", "cpu", "memory", "bundle"} <= {check["name"] for check in report["checks"]}


def test_doctor_refuses_two_distributions(gmrt: Callable, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an environment in which onnxruntime and onnxruntime-gpu overwrite each other's files."""
    both = [SimpleNamespace(name=name, version="1.0") for name in ("onnxruntime", "onnxruntime_gpu")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: both)
    run = gmrt("doctor", "--bundle", bundle)
    assert run.status == 1
    assert "overwrite each other" in run.out


def test_doctor_says_how_int8_runs_here(gmrt: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a slower mode that is announced for a bundle which is fitted to this CPU, as the shipped is."""
    shipped = bundles.verify(SHIPPED)
    plain = replace(shipped, vision=replace(shipped.vision, fits_16_bits=False))
    for saturates, found, words in ((True, shipped, "fast mode"), (True, plain, "slower"), (False, plain, "")):
        monkeypatch.setattr("gmrt.runtime.backends.machine.int8_products_saturate", lambda: saturates)  # noqa: B023
        monkeypatch.setattr("gmrt.runtime.bundle.verify", lambda _: found)  # noqa: B023
        run = gmrt("doctor")
        assert words in run.out
        assert ("slower" in run.out) == (words == "slower")
        assert ("fast mode" in run.out) == (words == "fast mode")


@pytest.mark.parametrize("words", [("eval", "missing", "missing.parquet"), ("train", "missing.yaml")])
def test_eval_and_train_refuse(gmrt: Callable, words: tuple[str, ...]) -> None:
    """Guards against a traceback when the dataset or the recipe is not there."""
    pytest.importorskip("torch")
    run = gmrt(*words)
    assert (run.status, run.out) == (2, "")
    assert words[-1] in run.err
    assert len(run.err.splitlines()) == 1


def test_missing_extra_says_what_to_install() -> None:
    """Guards against `No module named 'torch'` as the answer to `gmrt export` in a lean install."""
    with pytest.raises(MissingExtraError, match=r"torch.*pip install.*\[export,cpu\]"), options.needing("export,cpu"):
        raise ModuleNotFoundError("No module named 'torch._C'", name="torch._C")


def test_missing_module_of_ours_stays_a_bug() -> None:
    """Guards against a typing error of ours that is reported as a missing extra."""
    with pytest.raises(ModuleNotFoundError), options.needing("export,cpu"):
        raise ModuleNotFoundError("No module named 'gmrt.exprot'", name="gmrt.exprot")
