"""How long a thread has for what it does, for those far below who would wait longer.

Ambient, since only a few of those who ask have a deadline, and what they ask through should know nothing of it.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# Of the time that is left, what one question may take: the others that follow it want some too.
SHARE = 0.25
# Seconds that any question gets, also one that comes when the time is over: what was taken is to be given back.
LEAST_SECONDS = 0.05

_due: ContextVar[float] = ContextVar("due", default=math.inf)


@contextmanager
def due_within(seconds: float) -> Iterator[None]:
    """What this thread does in the block is wanted within these seconds, or sooner if a block around it says so."""
    before = _due.set(min(_due.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _due.reset(before)


class Question(threading.local):
    """What this thread asks a server just now. `was_cut`: one of its waits was made shorter than it would have been."""

    was_cut = False
    _end = math.inf

    def begin(self) -> None:
        due = _due.get()
        if due != math.inf:
            now = time.monotonic()
            due = now + max((due - now) * SHARE, LEAST_SECONDS)
        self._end = due
        self.was_cut = False

    def end(self) -> None:
        self._end = math.inf

    def cut(self, seconds: float) -> float:
        """What of a wait of so many seconds it has time for. Raises TimeoutError."""
        end = self._end
        if end == math.inf:
            return seconds
        left = end - time.monotonic()
        if left >= seconds:
            return seconds
        self.was_cut = True
        if left <= 0:
            raise TimeoutError
        return left


class CutSocket:
    """A socket whose every wait is cut to what the question has time for."""

    def __init__(self, found: Any, question: Question, seconds: float) -> None:
        self._found = found
        self._question = question
        self._seconds = self._set = seconds
        found.settimeout(seconds)
        # What redis-py asks for with each command; by way of `__getattr__` it would cost a tenth of it.
        self.fileno = found.fileno
        self.pending = getattr(found, "pending", int)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def sendall(self, data: Any) -> None:
        self._cut()
        self._found.sendall(data)

    def recv(self, *args: Any) -> Any:
        self._cut()
        return self._found.recv(*args)

    def recv_into(self, buffer: Any) -> int:
        self._cut()
        return int(self._found.recv_into(buffer))

    def _cut(self) -> None:
        seconds = self._question.cut(self._seconds)
        if seconds != self._set:
            self._found.settimeout(seconds)
            self._set = seconds
