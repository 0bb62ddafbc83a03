"""What a long-running command has done, so that it survives a loss of power: durable files and a journal of lines.

A file is published in four steps, each on the storage before the next begins:

1. the content goes to a temporary name in the same folder, and the file is synchronised (``fsync``);
2. the temporary name is renamed to the final one, which the file system does wholly or not at all;
3. the folder is synchronised, because the rename is a change of the folder and not of the file;
4. a line is appended to the journal, and the journal is synchronised.

A loss before 2 leaves a temporary file that the next run removes, between 2 and 4 a published file that the journal
does not know; the reader of the journal therefore looks for the file before it does the work again. A line of the
journal counts when it ends in a line feed, so a torn one is cut off.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import typer

NAME = ".gmrt-watch.jsonl"
_PART = ".gmrt-watch.partial"
"""The one temporary name in a folder: the journal's lock leaves one writer, so a next run finds what this one left."""

State = Literal["begun", "answered", "failed"]


class Source(NamedTuple):
    """Which version of a file: its size in bytes and the time of its last change in ns."""

    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Source:
        """The version that a ``stat`` saw."""
        return cls(status.st_size, status.st_mtime_ns)


class Journal:
    """The journal of one output folder, locked while it is open.

    Raises typer.BadParameter when another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        from gmrt.runtime.files import sync

        self.folder = folder
        self._path = folder / NAME
        self._settled: dict[str, tuple[Source, State]] = {}
        self._begun: dict[tuple[str, Source], int] = {}
        fresh = not self._path.exists()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._file, folder)
            if fresh:
                sync(folder)
            (folder / _PART).unlink(missing_ok=True)
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:  # noqa: PYI034 - Self comes with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, which gives the lock back."""
        os.close(self._file)

    def settled(self, name: str, source: Source) -> bool:
        """Whether this version of a file has been answered, or has failed for good."""
        held = self._settled.get(name)
        return held is not None and held[0] == source

    def cut_off(self, name: str, source: Source) -> int:
        """How many times work on this version was begun and never came to an end."""
        return self._begun.get((name, source), 0)

    def begin(self, name: str, source: Source) -> None:
        """Note that work begins; not synchronised, because it is there for a process that dies."""
        self._append(name, source, "begun", sync=False)

    def settle(self, name: str, source: Source, state: Literal["answered", "failed"]) -> None:
        """Note how it ended; on the storage when this returns."""
        self._append(name, source, state, sync=True)

    def publish(self, path: Path, content: str) -> None:
        """Write a file of the folder, steps 1 to 3 above; leaves nothing behind when it raises OSError."""
        from gmrt.runtime.files import sync

        part = self.folder / _PART
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync(self.folder)

    def _append(self, name: str, source: Source, state: State, *, sync: bool) -> None:
        line = json.dumps({"image": name, "bytes": source.bytes, "mtime_ns": source.mtime_ns, "state": state}) + "\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        data = line.encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)  # half a line would spoil the next one
            raise
        self._count(name, source, state)

    def _count(self, name: str, source: Source, state: State) -> None:
        if state == "begun":
            self._begun[name, source] = self._begun.get((name, source), 0) + 1
        else:
            self._settled[name] = (source, state)
            self._begun.pop((name, source), None)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        for line in data[:whole].splitlines():
            # A line that was not synchronised may come back as zeros after a loss of power: it then tells nothing.
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._count(entry["image"], Source(entry["bytes"], entry["mtime_ns"]), entry["state"])


def _lock(file: int, folder: Path) -> None:
    """Take the lock that the kernel gives back when this process ends, however it ends."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise typer.BadParameter(
            f"another gmrt watch writes into {folder}: stop it, or give another --output"
        ) from None
