"""``optimum-cli export gmrt``: found by optimum's command line, and doing what ``gmrt export`` does."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optimum.commands.base import RootOptimumCLICommand
from optimum.commands.export.base import ExportCommand
from optimum.commands.optimum_cli import register_optimum_cli_subcommand

from gmrt.export import pipeline
from gmrt.runtime.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]
PLACE = "optimum.commands.register"


def parse(*arguments: str) -> Namespace:
    """What optimum's own parser makes of a command line, with the sub-command registered as optimum does it."""
    file = ROOT / "export" / Path(*PLACE.split(".")) / "register_gmrt.py"
    spec = importlib.util.spec_from_file_location("register_gmrt", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = RootOptimumCLICommand("optimum-cli")
    register_optimum_cli_subcommand(ExportCommand, root)
    ((command, parent),) = module.REGISTER_COMMANDS
    assert parent is ExportCommand
    register_optimum_cli_subcommand(command, root.registered_subcommands[0])
    return root.parser.parse_args(["export", "gmrt", *arguments])


def test_the_arguments_reach_the_export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against an option that is parsed and not passed on, and against anything but the path on stdout."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def export(*given: Any, progress: Any, **options: Any) -> Any:
        progress(100, 600)
        calls.append((given, options))
        return SimpleNamespace(top1=0.5, positions=2)

    monkeypatch.setattr(pipeline, "export_bundle", export)
    args = parse("model", "out", "--precision", "int8", "--target", "tensorrt", "--calibration", "images")
    args.func(args).run()
    assert calls == [(("model", "out"), {"precision": "int8", "target": "tensorrt", "calibration": "images"})]
    out, err = capsys.readouterr()
    assert out == "out\n"
    assert "50.00% of 2 tokens" in err


def test_bad_input_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a traceback where ``gmrt export`` says one line and ends with 2."""

    def export(*_given: Any, **_options: Any) -> Any:
        raise CheckpointError("model: no checkpoint there")

    monkeypatch.setattr(pipeline, "export_bundle", export)
    args = parse("model", "out", "--precision", "int8")
    with pytest.raises(SystemExit) as ended:
        args.func(args).run()
    assert ended.value.code == CheckpointError.exit_code == 2
    assert capsys.readouterr().err.endswith("gmrt: model: no checkpoint there\n")


@pytest.mark.parametrize("wrong", [("--precision", "int3"), ("--precision", "int8", "--target", "fpga"), ()])
def test_wrong_words_are_refused(wrong: tuple[str, ...]) -> None:
    """Guards against a precision or a target that is found out after the long work."""
    with pytest.raises(SystemExit):
        parse("model", "out", *wrong)


def test_packaging_puts_it_where_optimum_looks() -> None:
    """Guards against a wheel without the plug-in, one whose ``__init__`` would hide others', and doubled folders."""
    setuptools = pytest.importorskip("setuptools")
    from setuptools.config.pyprojecttoml import apply_configuration

    made = apply_configuration(setuptools.Distribution(), ROOT / "pyproject.toml")
    assert made.package_dir[PLACE] == "export/optimum/commands/register"
    assert not list((ROOT / "export" / "optimum").rglob("__init__.py"))
    packages = set(made.packages)
    assert {PLACE, "gmrt", "gmrt.cli", "gmrt.runtime.backends", "gmrt.export"} <= packages
    ours = packages - {PLACE, "gmrt.georsmllm.recipes"}  # recipes are data: presets as YAML
    assert all((ROOT / Path(*name.split(".")) / "__init__.py").is_file() for name in ours)
