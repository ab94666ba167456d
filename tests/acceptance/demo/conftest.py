"""The demo in a process of its own, with a folder for whatever it makes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import quick_folder


class Demo:
    """Everything of it is in `folder`, or has that in its environment or command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # None of these may be looked at: the first is no server, the second no URL, no server has the last ones.
        configured = {
            "DATABASE_URL": "postgresql://u@127.0.0.1:1/production",
            "REDIS_SERVER": "nonsense://",
            "PGOPTIONS": "-c default_transaction_read_only=on",
            "PGHOSTADDR": "127.0.0.1",
        }
        self._environment = {**os.environ, **configured, "TMPDIR": str(folder), "NO_COLOR": "1"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "ops.cli", "demo", *arguments],
            env=self._environment,
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self) -> list[str]:
        """What runs of it, and its files."""
        found = [str(path) for path in self.folder.iterdir()]
        for process in psutil.process_iter(["cmdline", "environ", "status", "pid"]):
            line = " ".join(process.info["cmdline"] or [])
            ours = str(self.folder) in line or (process.info["environ"] or {}).get("TMPDIR") == str(self.folder)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(f"{process.info['pid']}: {line}")
        return found


@pytest.fixture
def demo() -> Iterator[Demo]:
    folder = Path(tempfile.mkdtemp(prefix="mbe-", dir=quick_folder()))
    folder.chmod(0o755)
    made = Demo(folder)
    yield made
    # A demo that did not end has said so in its test; its servers are not to outlive it all the same.
    deadline = time.monotonic() + 20
    while len(made.left()) > 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    shutil.rmtree(folder, ignore_errors=True)
