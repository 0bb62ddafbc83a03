"""How results leave the command: JSON lines, notes on stderr, and files that are written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer


def json_line(record: Mapping[str, Any]) -> str:
    """One object on one line, newline included."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def say_notes(notes: Iterable[str]) -> None:
    """Tell the user, on stderr, what is worth knowing about a result."""
    for note in notes:
        typer.echo(f"gmrt: note: {note}", err=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text, as UTF-8, or bytes: all of it or nothing new."""
    from gmrt.runtime.files import write_whole

    write_whole(path, content)
