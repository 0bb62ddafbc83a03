"""The rules of the house: which way imports point, how lean the field is, how long a module may be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fabricate import make_bundle

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("runtime", "georsmllm", "calibration", "export", "benchmarks", "models")
FLOORS = ("runtime", "georsmllm", "calibration", "export", "cli")  # a floor imports itself and what is below it
FOLDERS = {name: ROOT / name for name in ("runtime", "georsmllm", "calibration", "export", "benchmarks")} | {
    "cli": ROOT / "gmrt" / "cli"
}
NETWORK = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "socketserver", "xmlrpc", "asyncio", "telnetlib"}
DESK = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "optimum", "safetensors", "peft", "accelerate"}


def sources(folder: Path) -> Iterator[Path]:
    """Python files below a folder."""
    yield from sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def project_sources() -> list[Path]:
    """Every Python file of the project, each once."""
    folders = [
        ROOT / name for name in ("runtime", "georsmllm", "calibration", "export", "benchmarks", "examples", "tests")
    ]
    return [*(ROOT / "gmrt").glob("*.py"), *sources(ROOT / "gmrt" / "cli"), *(p for f in folders for p in sources(f))]


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names that a file imports; ``from a import b`` counts as ``a.b``; inside functions too unless top_only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in _statements(tree, top_only=top_only):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _statements(node: ast.AST, *, top_only: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if top_only and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child, top_only=top_only)


def floor_of(name: str) -> str | None:
    """The folder of ours that a dotted import name belongs to."""
    parts = name.split(".")
    return parts[1] if parts[0] == "gmrt" and len(parts) > 1 and parts[1] in FOLDERS else None


@pytest.mark.parametrize("floor", FLOORS)
def test_no_arrow_points_up(floor: str) -> None:
    """Guards against a field runtime that drags the desk along: no floor imports one above it, not even lazily."""
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"benchmarks"}
    wrong = {
        f"{path.relative_to(ROOT)} → {name}"
        for path in sources(FOLDERS[floor])
        for name in imports(path)
        if floor_of(name) in above
    }
    assert not wrong


def test_benchmarks_and_public_names_import_the_runtime_only() -> None:
    """Guards against `import gmrt` or a benchmark that needs the desk's extras."""
    paths = [*sources(FOLDERS["benchmarks"]), ROOT / "gmrt" / "__init__.py"]
    wrong = {
        f"{path.name} → {name}"
        for path in paths
        for name in imports(path)
        if floor_of(name) not in (None, "runtime", "benchmarks")
    }
    assert not wrong


def test_runtime_imports_no_desk_library_and_no_network() -> None:
    """Guards against a torch, an onnx or a socket that slips into the field, even inside a function."""
    wrong = {
        f"{path.relative_to(ROOT)} → {name}"
        for path in sources(FOLDERS["runtime"])
        for name in imports(path)
        if name.partition(".")[0] in NETWORK | DESK
    }
    assert not wrong


def test_command_imports_lazily() -> None:
    """Guards against a slow start: a sub-command's file loads the standard library, typer, and our errors, no more."""
    allowed = ("typer", "gmrt.cli", "gmrt.runtime.errors")
    wrong = {
        f"{path.name} → {name}"
        for path in sources(FOLDERS["cli"])
        for name in imports(path, top_only=True)
        if name.partition(".")[0] not in sys.stdlib_module_names and name != "gmrt" and not name.startswith(allowed)
    }
    assert not wrong


def test_folders_are_imported_through_the_package() -> None:
    """Guards against a second copy of every class, which a bare `import runtime` from the root would make."""
    bare = set(LINKS)
    wrong = {
        f"{path.relative_to(ROOT)} → {name}"
        for path in project_sources()
        for name in imports(path)
        if name.partition(".")[0] in bare
    }
    assert not wrong


@pytest.mark.parametrize("name", LINKS)
def test_links_are_links(name: str) -> None:
    """Guards against a checkout or an edit that turned a link into a second copy of the folder."""
    link = ROOT / "gmrt" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"  # noqa: PTH115 (Path.readlink drops nothing, but says less in a failure)
    assert link.is_dir()


def test_modules_stay_readable() -> None:
    """Guards against the 2 000-line module: 500 lines at most."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in project_sources()
    }
    assert len(lengths) > 20
    assert {name: lines for name, lines in lengths.items() if lines > 500} == {}


def test_every_version_bound_has_its_reason() -> None:
    """Guards against a bound that nobody dares to lift: each stands on a line with a comment that says why."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    bound = re.compile(r'"([\w.-]+(\[[\w,]+\])?)?\s*(>=|<=|==|~=|!=|<|>)\s*\d')
    bounds = [line for line in lines if bound.search(line)]
    assert len(bounds) >= 8
    assert [line for line in bounds if "  # " not in line] == []


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


WITHOUT_THE_DESK = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(DESK)!r}:
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, Refuse())
from gmrt.cli import main
sys.exit(main(sys.argv[1:]))
"""

WITHOUT_A_SOCKET = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"the runtime opened a socket: {event} {arguments}")

sys.addaudithook(refuse)
from gmrt.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("code", [WITHOUT_THE_DESK, WITHOUT_A_SOCKET], ids=["no-torch", "no-socket"])
def test_lean_install_answers(code: str, tmp_path: Path) -> None:
    """Guards against a lazy import of torch, and a call home, on the way from a GeoTIFF to an answer."""
    bundle = make_bundle(tmp_path / "bundle").path
    scene = tmp_path / "scene.tif"
    drawn = run_python(code, "sample", str(scene), "--size", "64")
    assert drawn.returncode == 0, drawn.stderr
    result = run_python(
        code, "infer", str(scene), "describe", "--bundle", str(bundle), "--format", "json", "--max-tokens", "4"
    )
    assert result.returncode == 0, result.stderr
    assert '"finish_reason"' in result.stdout


def test_guards_would_notice() -> None:
    """Guards against a guard that lets everything through."""
    torch = run_python(WITHOUT_THE_DESK.replace("from gmrt.cli", "import torch\nfrom gmrt.cli"))
    socket = run_python(WITHOUT_A_SOCKET.replace("from gmrt.cli", "import socket\nsocket.socket()\nfrom gmrt.cli"))
    assert "torch is not installed" in torch.stderr
    assert "opened a socket" in socket.stderr
