"""Do the next things while this one is worked on: one thread, a bounded queue, results in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def made_ahead(items: Iterable[T], make: Callable[[T], U], depth: int) -> Generator[U, None, None]:
    """Yield ``make(item)`` of each item in order, made by one thread at most ``depth`` results ahead.

    ``items`` is iterated in that thread too. What either of them raises is raised here, in its place in the order.
    Closing the iterator stops the thread, which finishes the item it is at, and waits for it.
    """
    ready: queue.Queue[tuple[str, object]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(kind: str, value: object) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((kind, value), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                if stopped.is_set():
                    return
                hand_over("made", make(item))
        except BaseException as error:  # noqa: BLE001 - raised again where the results are wanted
            hand_over("failed", error)
        else:
            hand_over("ended", None)

    thread = threading.Thread(target=work, name="gmrt-reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "made":
                yield value  # type: ignore[misc]  # what make returned
            elif kind == "failed":
                raise value  # type: ignore[misc]  # what the thread caught
            else:
                return
    finally:
        stopped.set()
        thread.join()
