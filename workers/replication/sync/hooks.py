"""Executables of the operator's, run after each packet."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from events.errors import UsageError

# A hook is none that has to know it.
_SECRETS = ("REPLICATION_ACCESS_TOKEN", "REPLICATION_ACCESS_TOKEN_FILE")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a hook may take: `seconds`; `grace` once `stop` is set; no longer once `hurry` is."""

    seconds: float
    stop: threading.Event
    hurry: threading.Event
    grace: float

    def wait(self, process: "subprocess.Popen[bytes]") -> int | None:
        """Its exit code, or None when it takes too long."""
        deadline, stopping = time.monotonic() + self.seconds, False
        while not self.hurry.is_set():
            if self.stop.is_set() and not stopping:
                deadline, stopping = min(deadline, time.monotonic() + self.grace), True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            with suppress(subprocess.TimeoutExpired):
                return process.wait(min(left, 0.2))
        return None


class Hooks(NamedTuple):
    """The files of a folder, by name; `idle` are those that are not executable."""

    run: Sequence[Path]
    idle: Sequence[Path]


def find_hooks(folder: Path) -> Hooks:
    """Raises UsageError."""
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise UsageError(f"REPLICATION_HOOKS: the folder {folder} cannot be read: {error.strerror}.") from None
    files = [path for path in found if path.is_file() and not path.name.startswith(".")]
    executable = [path for path in files if os.access(path, os.X_OK)]
    return Hooks(executable, [path for path in files if path not in executable])


def run_hooks(folder: Path, number: int, patience: Patience) -> list[str]:
    """Run every executable file of a folder, by name; what went wrong, in words."""
    try:
        hooks = find_hooks(folder)
    except UsageError as error:
        # It was there when we began, and the packet is applied.
        return [str(error)]
    return [told for path in hooks.run if (told := _run(path, number, patience)) is not None]


def _run(path: Path, number: int, patience: Patience) -> str | None:
    environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    try:
        process = subprocess.Popen(
            [str(path.absolute()), str(number)],
            env={**environment, "REPLICATION_SEQUENCE": str(number)},
            stdin=subprocess.DEVNULL,
            # Our own output is data.
            stdout=2,
            # Ctrl-C is for us, who let it finish.
            start_new_session=True,
        )
    except OSError as error:
        return f"The hook {path.name} could not be run: {error.strerror}."
    began = time.monotonic()
    code = patience.wait(process)
    if code is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"The hook {path.name} was killed: it did not end within {time.monotonic() - began:.0f} s."
    return None if code == 0 else f"The hook {path.name} failed with exit code {code}."
