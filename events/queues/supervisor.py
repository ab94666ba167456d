"""Several worker processes, each started again when it dies."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import FrameType

import structlog

from .worker import PARENT

log = structlog.get_logger(__name__)


def supervise(n: int, argv: Sequence[str], *, stop_timeout: float = 40.0) -> int:
    """Run `n` processes of a command until SIGTERM or SIGINT, starting again each that dies; the exit code.

    One that ends with 0 is done and not started again; exit code 2 (it was asked for nonsense) ends all.
    """
    return _Supervisor(n, argv, stop_timeout).run()


class _Child:
    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._failures = 0
        self.started_at = 0.0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.done = False

    def start(self) -> None:
        self.started_at = time.monotonic()
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which passes it on once.
        self.process = subprocess.Popen(
            self._argv, env={**os.environ, PARENT: str(os.getpid())}, start_new_session=True
        )

    def died(self, code: int) -> None:
        lived = time.monotonic() - self.started_at
        self._failures = 1 if lived > 60 else self._failures + 1
        wait = min(30.0, 0.25 * 2**self._failures)
        self.start_at = time.monotonic() + wait
        self.process = None
        log.error("worker_died", exit_code=code, lived_seconds=round(lived, 1), starts_again_in_seconds=wait)


class _Supervisor:
    def __init__(self, n: int, argv: Sequence[str], stop_timeout: float) -> None:
        self._children = [_Child(argv) for _ in range(n)]
        self._stop_timeout = stop_timeout
        self._stop = threading.Event()
        self._code = 0

    def run(self) -> int:
        before = {each: signal.signal(each, self._stopped) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stop.is_set() and not all(child.done for child in self._children):
                self._look()
                self._stop.wait(0.2)
        finally:
            self._end()
            for each, handler in before.items():
                signal.signal(each, handler)
        return self._code

    def _stopped(self, _signal: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _look(self) -> None:
        for child in self._children:
            if child.done:
                continue
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    child.start()
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code == 0:
                child.done = True
            elif code == 2:
                self._code = code
                self._stop.set()
            else:
                child.died(code)

    def _end(self) -> None:
        running = [child.process for child in self._children if child.process and child.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_timeout
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker_killed", pid=process.pid)  # noqa: TRY400 (the traceback would tell nothing)
                process.kill()
                process.wait()
