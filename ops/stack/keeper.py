"""Stops servers whose users all died without a word: a small process that waits for that, one for a home.

Run as a file, without anything but the standard library: it lives as long as the servers do.
"""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

EVERY_SECONDS = 1.0
KEPT = "kept"
_STOP = (
    "import sys; from pathlib import Path; from ops.stack.control import stop_servers; stop_servers(Path(sys.argv[1]))"
)


def main(home: Path, root: Path) -> None:
    """Until the servers are stopped, by whomever, or are to be kept."""
    keeper, start, users = (os.open(home / f"{name}.lock", os.O_RDWR) for name in ("keeper", "start", "users"))
    if not _locked(keeper):
        return
    while (home / "start.lock").exists():
        time.sleep(EVERY_SECONDS)
        # In this order, as everybody takes them; who has the first decides alone.
        if not _locked(start):
            continue
        if _locked(users):
            if not (home / KEPT).exists():
                _stop(home, root)
            return
        fcntl.flock(start, fcntl.LOCK_UN)


def _stop(home: Path, root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
    with (home / "keeper.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-c", _STOP, str(home)], env=environment, cwd="/", stdout=log, stderr=log, check=False
        )


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
