"""``gmrt watch``: every image answered once, whatever happens to the process, the disk or the bundle."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from gmrt.cli import journal as journals
from gmrt.cli import watch as watching
from gmrt.cli.journal import NAME, Journal, Source
from gmrt.cli.watch import CUT_OFF, SUFFIX, Watcher
from gmrt.georsmllm.scenes import generate, write_scene
from gmrt.runtime.errors import SceneReadError


class Killed(BaseException):
    """Ends a run where SIGKILL would: no handler of ours catches it."""


@dataclass
class FakeModel:
    """Stands for a loaded model, as far as a watcher looks; counts what it was asked about."""

    asked: list[str] = field(default_factory=list)
    bad: str = ""
    notes: tuple[str, ...] = ()

    def look(self, path: Path, bands: str | None = None) -> FakeModel:  # noqa: ARG002
        """See an image, or fail on the bad one."""
        self.asked.append(path.name)
        if path.name == self.bad:
            raise SceneReadError("damaged")
        return self

    def ask(self, _prompt: str, **_options: object) -> FakeModel:
        """Answer."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """What an answer prints."""
        return {"text": "a river"}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder where three files with an image's ending have arrived."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.tif").write_bytes(bytes(number + 1))
    return folder


def make_watcher(folder: Path, journal: Journal, model: FakeModel) -> Watcher:
    """A watcher that has seen the folder once, so that what is in it counts as whole."""
    watcher = Watcher(model, folder, ("describe",), journal, None, {}, threading.Event())  # type: ignore[arg-type]
    watcher.ready()
    return watcher


def run_once(folder: Path, model: FakeModel) -> None:
    """One run of a watcher over what is there."""
    with Journal(folder) as journal:
        watcher = make_watcher(folder, journal, model)
        for item in watcher.ready():
            watcher.answer(*item)


def states(folder: Path) -> list[tuple[str, str]]:
    """The journal's whole lines as (image, state)."""
    path = folder / NAME
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(entry["image"], entry["state"]) for entry in map(json.loads, lines)]


def assert_each_answered_once(folder: Path, images: int) -> None:
    """One whole answer and one settled line for each image, and nothing half-written."""
    answers = sorted(folder.glob(f"*{SUFFIX}"))
    assert len(answers) == images
    for path in answers:
        record = json.loads(path.read_text())
        assert path.name == record["image"] + SUFFIX
        assert len(record["answers"]) == 1
        assert record["source"] == Source.of((folder / record["image"]).stat())._asdict()
    settled = [image for image, state in states(folder) if state == "answered"]
    assert sorted(settled) == sorted({path.name.removesuffix(SUFFIX) for path in answers})
    assert {path.suffix for path in folder.iterdir()} <= {".tif", ".json", ".jsonl"}


def crash_points(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """End the run before (an odd ``at``) or after one of the calls that change the storage, counted from the first."""
    calls = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if 2 * calls - 1 == at:
                raise Killed
            result = real(*words, **named)
            if 2 * calls == at:
                raise Killed
            return result

        return call

    monkeypatch.setattr(os, "fsync", wrap(os.fsync))
    monkeypatch.setattr(os, "write", wrap(os.write))
    monkeypatch.setattr(Path, "replace", wrap(Path.replace))


@pytest.mark.parametrize("at", range(1, 40))
def test_a_kill_at_every_step_repeats_and_loses_nothing(inbox: Path, at: int) -> None:
    """Guards against an answer that is lost, doubled or half-written when the process ends between two steps."""
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        crash_points(patch, at)
        run_once(inbox, FakeModel())
        assert at > 38  # every smaller number is a step
    published = {path: path.stat().st_mtime_ns for path in inbox.glob(f"*{SUFFIX}")}
    again = FakeModel()
    run_once(inbox, again)
    assert_each_answered_once(inbox, 3)
    assert {path: path.stat().st_mtime_ns for path in published} == published
    assert {path.name.removesuffix(SUFFIX) for path in published}.isdisjoint(again.asked)


def test_steps_come_in_their_order(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a rename before the content is on the storage, and a journal that runs ahead of the answer."""
    steps: list[str] = []
    real = {"fsync": os.fsync, "replace": Path.replace}

    def fsync(handle: int) -> None:
        steps.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")  # noqa: PTH115
        real["fsync"](handle)

    def replace(path: Path, target: Path) -> Path:
        steps.append(f"rename {target.name}")
        return real["replace"](path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    for name in ("1.tif", "2.tif"):
        (inbox / name).unlink()
    run_once(inbox, FakeModel())
    # The first synchronises the folder that holds a new journal.
    assert steps == [
        "fsync inbox",
        "fsync .gmrt-watch.partial",
        "rename 0.tif.answer.json",
        "fsync inbox",
        f"fsync {NAME}",
    ]


def test_journal_survives_a_torn_line_and_zeros(inbox: Path) -> None:
    """Guards against a journal that cannot be read after a loss of power, and one that glues a line to half a line."""
    run_once(inbox, FakeModel())
    path = inbox / NAME
    path.write_bytes(bytes(20) + b"\n" + path.read_bytes() + b'{"image": "3.t')
    again = FakeModel()
    (inbox / "3.tif").write_bytes(b"new")
    run_once(inbox, again)
    assert again.asked == ["3.tif"]
    last = path.read_bytes().splitlines()[-1]
    assert json.loads(last)["image"] == "3.tif"


def test_answers_may_be_taken_away(inbox: Path) -> None:
    """Guards against work that is repeated because an answer was sent on and deleted."""
    run_once(inbox, FakeModel())
    for path in inbox.glob(f"*{SUFFIX}"):
        path.unlink()
    again = FakeModel()
    run_once(inbox, again)
    assert again.asked == []


def test_a_new_version_of_an_image_is_a_new_image(inbox: Path) -> None:
    """Guards against an answer about pixels that are no longer there."""
    run_once(inbox, FakeModel())
    (inbox / "1.tif").write_bytes(b"another version")
    again = FakeModel()
    run_once(inbox, again)
    assert again.asked == ["1.tif"]


def test_a_growing_image_is_left_alone(inbox: Path) -> None:
    """Guards against an answer about half an image: one that is still written, hidden, or changes while it is read."""
    model = FakeModel()
    (inbox / ".4.tif").write_bytes(b"hidden until it is renamed")
    (inbox / "5.tif.part").write_bytes(b"named otherwise until it is renamed")
    with Journal(inbox) as journal:
        watcher = make_watcher(inbox, journal, model)
        (inbox / "0.tif").write_bytes(b"longer than before")
        ready = watcher.ready()
        assert [name for name, _ in ready] == ["1.tif", "2.tif"]
        (inbox / "1.tif").write_bytes(b"changed since it was found whole")
        (inbox / "2.tif").unlink()
        for item in ready:
            watcher.answer(*item)
    assert list(inbox.glob(f"*{SUFFIX}")) == []


def test_an_unreadable_image_is_said_and_passed(inbox: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against one damaged image that stops all that follow, or that is tried again for ever."""
    model = FakeModel(bad="0.tif")
    run_once(inbox, model)
    assert model.asked == ["0.tif", "1.tif", "2.tif"]
    assert "0.tif: damaged" in capfd.readouterr().err
    record = json.loads((inbox / f"0.tif{SUFFIX}").read_text())
    assert record["error"] == {"type": "SceneReadError", "message": "damaged"}
    run_once(inbox, model)
    assert len(model.asked) == 3


def test_an_image_that_ends_the_process_is_left_out(inbox: Path) -> None:
    """Guards against an image that takes the machine's memory and is begun again at every restart."""

    class Deadly(FakeModel):
        def look(self, path: Path, bands: str | None = None) -> FakeModel:
            if path.name == "0.tif":
                raise Killed
            return super().look(path, bands)

    model = Deadly()
    for _ in range(CUT_OFF):
        with pytest.raises(Killed):
            run_once(inbox, model)
    assert model.asked == ["1.tif", "2.tif"]  # after the first time they come before it
    run_once(inbox, model)
    assert "left out" in json.loads((inbox / f"0.tif{SUFFIX}").read_text())["error"]["message"]


@pytest.mark.parametrize("refused", ["publish", "journal"])
def test_a_full_disk_is_waited_for(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refused: str
) -> None:
    """Guards against an answer that is lost, asked for twice, or half-written because there was no room for it."""
    monkeypatch.setattr(watching, "_RETRY", 0.0)
    left = 3
    real = {"fsync": os.fsync, "write": os.write}

    def refuse(name: str) -> Callable[..., Any]:
        def call(handle: int, *rest: Any) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                if rest:
                    real[name](handle, rest[0][:7])  # a full disk takes a part of a line
                raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](handle, *rest)

        return call

    with Journal(inbox) as journal:
        model = FakeModel()
        watcher = make_watcher(inbox, journal, model)
        name = "fsync" if refused == "publish" else "write"
        monkeypatch.setattr(os, name, refuse(name))
        for item in watcher.ready():
            watcher.answer(*item)
    assert model.asked == ["0.tif", "1.tif", "2.tif"]
    assert_each_answered_once(inbox, 3)
    said = capfd.readouterr().err
    assert said.count("no room left") == 1
    assert "there is room again" in said


def test_two_watchers_do_not_share_a_folder(inbox: Path) -> None:
    """Guards against two processes that write the same journal."""
    with Journal(inbox), pytest.raises(typer.BadParameter, match="another gmrt watch"):
        Journal(inbox)


def test_a_removed_or_replaced_bundle_is_noticed(bundle: Path, tmp_path: Path) -> None:
    """Guards against answers of a bundle that is no longer there, and graphs of two bundles in one answer."""
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    present = watching.still_there(copy)
    present()
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").unlink()
    with pytest.raises(FileNotFoundError, match="was removed"):
        present()
    (copy / "bundle.json").write_text(text)
    with pytest.raises(ValueError, match="was replaced"):
        present()


@pytest.mark.parametrize(
    ("words", "clue"),
    [(("missing",), "no folder"), ((".", "-o", "missing"), "no folder"), ((".", "--ask", ""), "empty")],
)
def test_watch_refuses(
    gmrt: Callable, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], clue: str
) -> None:
    """Guards against a watcher that waits for hours with a question or a folder that cannot work."""
    monkeypatch.chdir(tmp_path)
    run = gmrt("watch", *words, "--bundle", bundle)
    assert run.status == 2
    assert clue in run.err
    assert len(run.err.splitlines()) == 1


# The real process.


@pytest.fixture
def start(bundle: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start ``gmrt watch`` on a folder; what is left of it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(folder: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gmrt", "watch", str(folder), "--settle", "0.05", "--max-tokens", "2", *words]
        process = subprocess.Popen(
            [*command, "--bundle", str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def storm(  # noqa: PLR0915 - a scene from beginning to end
    folder: Path, start: Callable[[Path], subprocess.Popen[str]], *, images: int, kills: int, seed: int
) -> int:
    """Kill the real process at random moments while images arrive; returns how many kills fell on work in hand.

    Some of the moments lie in its start, the others in its work. Half of the images are written in place, slowly, half
    under another name and renamed. Asserts that every image is answered exactly once: no answer is ever replaced, none
    is missing, and nothing half-written is left.
    """
    rng = random.Random(seed)
    drawn = folder.parent / "drawn.tif"
    write_scene(generate(0, size=64, kind="river"), drawn)
    data = drawn.read_bytes()
    done = threading.Event()
    killed = 0

    def arrive() -> None:
        for number in range(images):
            path = folder / f"{number:03}.tif"
            if number % 2:
                (folder / f".{path.name}").write_bytes(data)
                (folder / f".{path.name}").rename(path)
            else:
                with path.open("wb", buffering=0) as file:
                    for at in range(0, len(data), 1 + len(data) // 4):
                        file.write(data[at : at + 1 + len(data) // 4])
                        time.sleep(0.01)
            while killed < number * kills / images and not done.is_set():
                time.sleep(0.02)  # so that images still arrive when the last kills come

    arriving = threading.Thread(target=arrive, daemon=True)
    arriving.start()
    seen: dict[str, tuple[int, int]] = {}
    hits, entries = 0, states(folder)
    first = start(folder)
    assert first.stderr is not None
    first.stderr.readline()
    begin = time.monotonic()
    wait_for(lambda: any(folder.glob(f"*{SUFFIX}")))
    work = time.monotonic() - begin
    first.kill()
    first.communicate()
    for _ in range(kills - 1):
        process = start(folder)
        assert process.stderr is not None
        late = rng.random() < 0.4
        if late:
            process.stderr.readline()  # it has loaded and begins to look
        time.sleep(rng.uniform(0, 1.5 * work if late else 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        entries, before = states(folder), len(entries)
        hits += len(entries) > before and entries[-1][1] == "begun"
        for path in folder.glob(f"*{SUFFIX}"):
            status = path.stat()
            assert seen.setdefault(path.name, (status.st_ino, status.st_mtime_ns)) == (
                status.st_ino,
                status.st_mtime_ns,
            )
            json.loads(path.read_text())
    done.set()
    arriving.join()
    last = start(folder)
    assert last.stderr is not None
    assert "watching" in last.stderr.readline()  # its signal handlers are in place
    wait_for(lambda: len(list(folder.glob(f"*{SUFFIX}"))) == images)
    last.terminate()
    last.communicate(timeout=30)
    assert last.returncode == 0
    assert_each_answered_once(folder, images)
    for name, version in seen.items():
        status = (folder / name).stat()
        assert (status.st_ino, status.st_mtime_ns) == version
    return hits


def test_a_short_storm_of_kills(inbox: Path, start: Callable) -> None:
    """Guards against an image lost, answered twice or half answered when the real process is killed."""
    for path in inbox.iterdir():
        path.unlink()
    storm(inbox, start, images=4, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_long_storm_of_kills(inbox: Path, start: Callable) -> None:
    """Guards against the rare moment that a short storm misses: 200 kills while 100 images arrive."""
    for path in inbox.iterdir():
        path.unlink()
    hits = storm(inbox, start, images=100, kills=200, seed=2)
    print(f"\n{hits} of 200 kills came while an image was being answered")  # noqa: T201


def test_sigterm_ends_it_after_the_image_in_hand(inbox: Path, start: Callable) -> None:
    """Guards against a service that systemd has to kill, and a restart that repeats work."""
    for path in inbox.iterdir():
        path.unlink()
    write_scene(generate(0, size=64, kind="river"), inbox / "a.tif")
    process = start(inbox)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{inbox / 'a.tif'}{SUFFIX}\n"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_half_written_answers_are_removed_by_the_next_run(inbox: Path) -> None:
    """Guards against temporary files that pile up, one for each loss of power."""
    (inbox / journals._PART).write_text("half an ans")
    run_once(inbox, FakeModel())
    assert_each_answered_once(inbox, 3)
