"""Child processes that run side by side: started again when they die, ended together."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import structlog

from events.queues.worker import PARENT

log = structlog.get_logger(__name__)

STOP_SECONDS = 40.0
_LONGEST_PAUSE = 30.0
# Exit codes for which starting again is no help: it was asked for nonsense, or the schema is another one.
_HOPELESS = (2, 3)


def own_command(*arguments: str) -> list[str]:
    """`mbevents` as a child of ours. Whatever folder we are in, an `ops` that lies there is not ours."""
    return [sys.executable, "-P", "-m", "ops.cli", *arguments]


class Child:
    """One command, which is to run always; with `finishes`, until it ends with 0.

    In `folder`, with what it says in `output`, or both as we have them.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        finishes: bool = False,
        folder: Path | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        self.name = name
        self.done = False
        self._command = list(command)
        self._finishes = finishes
        self._folder = folder
        self._output = output
        self._failures = 0
        self._started = 0.0
        self._start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.hopeless: int | None = None

    def look(self, environment: Mapping[str, str]) -> None:
        """Start it if it is due, and note if it ended."""
        if self.done:
            return
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self._started = time.monotonic()
                # A session of its own: Ctrl-C in the terminal reaches us alone, and we end it once.
                self.process = subprocess.Popen(
                    self._command,
                    env=dict(environment),
                    cwd=self._folder,
                    stdout=self._output,
                    stderr=self._output,
                    start_new_session=True,
                )
            return
        code = self.process.poll()
        if code is None:
            return
        self.process = None
        if code == 0 and self._finishes:
            self.done = True
            return
        if code in _HOPELESS:
            self.hopeless = code
            return
        lived = time.monotonic() - self._started
        self._failures = 1 if lived > 60 else self._failures + 1
        pause = min(_LONGEST_PAUSE, 0.25 * 2**self._failures)
        self._start_at = time.monotonic() + pause
        log.error("process_died", process=self.name, exit_code=code, starts_again_in_seconds=pause)


class Supervisor:
    """Runs children until `stop` is set or all are done; their environment names us, so that none outlives us."""

    def __init__(self, children: Sequence[Child], *, stop_seconds: float = STOP_SECONDS) -> None:
        self._children = children
        self._stop_seconds = stop_seconds

    def run(self, stop: threading.Event, environment: Mapping[str, str]) -> int | None:
        """The exit code of a child for which there is no hope, else None once all have ended."""
        told = {**environment, PARENT: str(os.getpid())}
        try:
            while not stop.is_set() and not all(child.done for child in self._children):
                for child in self._children:
                    child.look(told)
                    if child.hopeless is not None:
                        return child.hopeless
                stop.wait(0.2)
        finally:
            self._end()
        return None

    def _end(self) -> None:
        running = [(child, child.process) for child in self._children if child.process is not None]
        for _, process in running:
            process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for child, process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("process_killed", process=child.name)  # noqa: TRY400 (its traceback tells nothing)
                process.kill()
                process.wait()
