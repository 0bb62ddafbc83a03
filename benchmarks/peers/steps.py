"""Setting a peer up: steps that are skipped where what they make is there, so that an interrupted setup goes on.

Progress and the output of the programs go to stderr. A step makes its product under another name and renames it when it
is complete.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from gmrt.runtime.errors import GmrtError

INSIDE = Path(__file__).resolve().parent / "inside"


class SetupError(GmrtError):
    """A peer cannot be set up: what is missing or failed, and what to do."""


def once(product: Path, what: str, make: Callable[[Path], None]) -> Path:
    """Make ``product`` (a file or a folder) with ``make``, which writes to the path that it is given; skip if there."""
    if product.exists():
        return product
    print(f"setting up: {what}", file=sys.stderr)
    product.parent.mkdir(parents=True, exist_ok=True)
    partial = product.with_name(f"{product.name}.part")
    _remove(partial)
    make(partial)
    if not partial.exists():
        raise SetupError(f"{what}: ended without {product.name}; its output above says why")
    partial.rename(product)
    return product


def call(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a program of a setup; what it prints goes to stderr.

    Raises:
        SetupError: the program is not installed, or it failed.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise SetupError(f"{words[0]} is not installed, and this peer is built with it: install it and run this again")
    done = subprocess.run(words, check=False, stdout=sys.stderr, env={**outside(), **(env or {})})
    if done.returncode:
        raise SetupError(f"{' '.join(words[:4])} … failed with status {done.returncode}: its output stands above")


def outside() -> dict[str, str]:
    """This process's variables for a program that is not ours: without where our modules are looked for."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def environment(folder: Path, *requirements: str, beside: Path | None = None) -> Path:
    """Make a virtual environment that holds ``requirements``, and return its python.

    ``beside`` is the python of another environment, whose packages are seen behind this one's own: torch is large, and
    is needed only to convert a model.
    """
    python, stamp = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(requirements) + "\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"setting up: {folder} with {', '.join(requirements)}", file=sys.stderr)
    call(sys.executable, "-m", "venv", folder)
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    if beside is not None:
        path = f"{packages(beside)}\n"
        (packages(python) / "beside.pth").write_text(path, encoding="utf-8")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def packages(python: Path) -> Path:
    """Where an environment's packages lie."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run((python, "-c", code), check=True, text=True, stdout=subprocess.PIPE).stdout.strip())


def fetch(folder: Path, requirement: str, *options: str) -> Path:
    """The one file that the package index has for a requirement, without what it depends on."""

    def download(partial: Path) -> None:
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
        call(*command, *options, "--dest", partial, requirement)

    place = once(folder, f"download of {requirement}", download)
    files = sorted(path for path in place.iterdir() if path.is_file())
    if len(files) != 1:
        raise SetupError(
            f"{place}: one file of {requirement} was looked for, {len(files)} are there: remove the folder"
        )
    return files[0]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
