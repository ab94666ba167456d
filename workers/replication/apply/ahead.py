"""Reading ahead: what is next is made while what is here is worked on."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], *, depth: int) -> Generator[Item, None, None]:
    """The same items, made in a thread, at most `depth` of them waiting. Close it when stopping before the end: it
    returns once the thread has ended, which is after the item that it is making."""
    made: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(what: tuple[Item] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                made.put(what, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put((item,))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (got := made.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got[0]
    finally:
        stop.set()
        thread.join()
        close = getattr(items, "close", None)
        if close is not None:
            close()
