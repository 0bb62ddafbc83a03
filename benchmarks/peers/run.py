"""Running a peer's program and reading what it prints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from gmrt.benchmarks.peers.steps import INSIDE, outside
from gmrt.runtime.errors import GmrtError


class PeerError(GmrtError, RuntimeError):
    """A peer's program failed, or printed something else than its timings."""

    exit_code = 1


def output_of(*command: object, log: bool = False) -> str:
    """What a program prints; with its log in it where ``log`` says so, and without it otherwise.

    Raises:
        PeerError: it failed; the message ends with the last that it printed.
    """
    words = [str(word) for word in command]
    errors = subprocess.STDOUT if log else subprocess.PIPE
    done = subprocess.run(
        words, check=False, text=True, errors="replace", stdout=subprocess.PIPE, stderr=errors, env=outside()
    )
    if done.returncode:
        raise PeerError(f"{Path(words[0]).name}: failed, and ended with {(done.stdout + (done.stderr or ''))[-500:]!r}")
    return done.stdout


def figures_of(python: Path, script: str, *arguments: object) -> dict[str, float]:
    """The figures that a script of ``inside/`` prints as its last line, run by a peer's python."""
    figures: dict[str, float] = json.loads(output_of(python, INSIDE / script, *arguments).strip().splitlines()[-1])
    return figures
