"""Ends waits on a connection whose other side went away without a word."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.5


class Watchdog:
    """`with watchdog.limit(5): …` fails with psycopg.OperationalError when it takes longer.

    It shuts the socket down, which a thread that waits on it notices at once; a signal or a cancel request would need
    the very server that does not answer.
    """

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._fd = os.dup(connection.fileno())
        self._deadline: float | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="bridge-watchdog", daemon=True).start()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def extend(self, seconds: float) -> None:
        """There was a sign of life: from now on it may take so long again."""
        self._deadline = time.monotonic() + seconds

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _run(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                log.warning("postgres_does_not_answer")
                self._shut_down()
                return

    def _shut_down(self) -> None:
        with self._lock:
            if self._fd < 0:
                return
            # It may be gone already.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._fd)) as shut:
                shut.shutdown(socket.SHUT_RDWR)
