"""``gmrt watch``: an answer beside every image that arrives in a folder, through kills and losses of power."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gmrt.cli.folder import SUFFIXES
from gmrt.cli.journal import Journal, Source
from gmrt.cli.options import BundleOption, ProviderOption
from gmrt.cli.output import say_notes
from gmrt.runtime.errors import (
    BundleError,
    BundleNotFoundError,
    PointsError,
    SceneError,
    SceneNotFoundError,
    SceneReadError,
)

if TYPE_CHECKING:
    from gmrt.runtime.model import Model

SUFFIX = ".answer.json"
"""What an answer's name adds to its image's: harbour.tif is answered in harbour.tif.answer.json."""

CUT_OFF = 10
"""An image that was begun this often and never answered is left out: it may be what ends the process."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRY = 10.0
"""Seconds between two attempts to write to a full disk."""


def _a_folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise typer.BadParameter(f"there is no folder {path}: make it first")
    return path


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", callback=_a_folder, help="Where images arrive.")],
    ask: Annotated[
        list[str] | None, typer.Option(metavar="PROMPT", help="What to ask of each image; 'describe' without it.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", callback=_a_folder, help="Write answers and journal here."),
    ] = None,
    bundle: BundleOption = None,
    bands: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="What to see as red, green and blue, as for infer.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="End an answer after this many tokens.")] = None,
    settle: Annotated[
        float,
        typer.Option(min=0.01, metavar="SECONDS", help="An image is whole when it has not changed for this long."),
    ] = 2.0,
    provider: ProviderOption = "cpu",
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse a bundle that would need more, for example 2GiB.")
    ] = None,
) -> None:
    """Write an answer beside each image that arrives; goes on after a restart without repeating work.

    Names that begin with a dot, and names that end in none of an image's endings, are left alone: write under such a
    name and rename when complete. SIGTERM and Ctrl-C end it after the image in hand.
    """
    from gmrt.runtime.model import SHIPPED, load
    from gmrt.runtime.request import Options, make_request

    prompts = tuple(ask or ("describe",))
    with Journal(output or folder) as journal, _asked_to_stop() as stopping:
        model = load(bundle, provider=provider, max_memory=max_memory)
        say_notes(model.notes)
        for prompt in prompts:  # a question that no image can answer is said now, not at the first image
            options = Options(max_tokens)
            make_request(prompt, options, bundle=model.bundle, images=1, max_capacity=model.max_capacity)
        watcher = Watcher(model, folder, prompts, journal, bands, {"max_tokens": max_tokens}, stopping)
        present = still_there(bundle or SHIPPED)
        typer.echo(f"gmrt: watching {folder}, answers into {journal.folder}", err=True)
        while not stopping.is_set():
            for name, source in watcher.ready():
                present()
                watcher.answer(name, source)
                if stopping.is_set():
                    break
            stopping.wait(settle)


class Watcher:
    """Finds images that are whole, and answers each version of each once.

    ``stopping`` ends waiting for room on a full disk, too; what was being written is then left to the next run.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        prompts: Sequence[str],
        journal: Journal,
        bands: str | None,
        decoding: Mapping[str, Any],
        stopping: threading.Event,
    ) -> None:
        self._model, self._folder, self._prompts, self._journal = model, folder, prompts, journal
        self._bands, self._decoding, self._stopping = bands, decoding, stopping
        self._seen: dict[str, Source] = {}

    def ready(self) -> list[tuple[str, Source]]:
        """The images that did not change since the last call and are not settled, oldest first.

        Those whose answering was cut off before come last, so that one that ends the process holds up no other.
        """
        found: dict[str, Source] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower().endswith(SUFFIXES):
                    try:
                        if entry.is_file():
                            found[entry.name] = Source.of(entry.stat())
                    except FileNotFoundError:  # taken away between the listing and the look
                        continue
        still = [item for item in found.items() if self._seen.get(item[0]) == item[1]]
        self._seen = found
        waiting = [item for item in still if not self._journal.settled(*item)]
        return sorted(waiting, key=lambda item: (self._journal.cut_off(*item), item[1].mtime_ns, item[0]))

    def answer(self, name: str, source: Source) -> None:
        """Answer one image and publish it, unless an earlier run published this version already."""
        path = self._journal.folder / (name + SUFFIX)
        published = _published(path)
        if published is not None and published.get("source") == source._asdict():
            state: Literal["answered", "failed"] = "failed" if "error" in published else "answered"
            self._persist(lambda: self._journal.settle(name, source, state))
            return
        attempts = self._journal.cut_off(name, source)
        if attempts >= CUT_OFF:
            message = f"left out: the process ended {attempts} times while it worked on this image"
            record: dict[str, Any] | None = {"error": {"type": "CutOff", "message": message}}
        else:
            self._persist(lambda: self._journal.begin(name, source))
            record = self._ask(name)
        if record is None or not self._unchanged(name, source):
            return  # gone or growing: the next look decides
        if "error" in record:
            typer.echo(f"gmrt: {self._folder / name}: {record['error']['message']}", err=True)
        text = json.dumps({"image": name, "source": source._asdict(), **record}, ensure_ascii=False) + "\n"
        self._persist(lambda: self._journal.publish(path, text))
        self._persist(lambda: self._journal.settle(name, source, "failed" if "error" in record else "answered"))
        typer.echo(path)

    def _ask(self, name: str) -> dict[str, Any] | None:
        """The record of an image: its answers, or what is wrong with it; None when it has been taken away."""
        path = self._folder / name
        try:
            view = self._model.look(path, bands=self._bands)
            say_notes(f"{path}: {note}" for note in view.notes)
            return {"answers": [self._answered(view, prompt) for prompt in self._prompts]}
        except SceneNotFoundError:
            return None
        except (SceneError, SceneReadError) as error:
            return {"error": {"type": type(error).__name__, "message": str(error)}}
        except MemoryError as error:
            message = f"out of memory: this image is too large for this machine ({error})"
            return {"error": {"type": "MemoryError", "message": message}}

    def _answered(self, view: Any, prompt: str) -> dict[str, Any]:
        try:
            record: dict[str, Any] = view.ask(prompt, **self._decoding).to_dict()
        except PointsError as error:
            return {"prompt": prompt, "error": str(error)}
        return record

    def _unchanged(self, name: str, source: Source) -> bool:
        try:
            return Source.of((self._folder / name).stat()) == source
        except FileNotFoundError:
            return False

    def _persist(self, action: Callable[[], None]) -> None:
        """Write; on a full disk say so once, wait for room and write again, so that the answer is not lost."""
        said = False
        while True:
            try:
                action()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if not said:
                    place = self._journal.folder
                    typer.echo(f"gmrt: {place}: no room left: waiting for it, nothing is lost", err=True)
                said = True
                if self._stopping.wait(_RETRY):
                    raise
            else:
                if said:
                    typer.echo(f"gmrt: {self._journal.folder}: there is room again", err=True)
                return


def still_there(bundle: Path) -> Callable[[], None]:
    """Return a check that raises when the bundle of now is no longer there, or is another one."""
    manifest = bundle / "bundle.json"
    held = manifest.stat()

    def check() -> None:
        try:
            now = manifest.stat()
        except FileNotFoundError:
            raise BundleNotFoundError(
                f"{bundle}: the bundle was removed: put it back and start again; images that wait are answered then"
            ) from None
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (held.st_ino, held.st_size, held.st_mtime_ns):
            raise BundleError(f"{bundle}: the bundle was replaced: start again to answer with the new one")

    return check


def _published(path: Path) -> dict[str, Any] | None:
    """The record that an earlier run published; None where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets; a second signal ends the process as it would without us."""
    asked = threading.Event()
    held = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, held[signal.Signals(number)])

    for number in held:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
