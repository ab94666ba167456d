"""Several worker processes, each started again when it dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from events.queues import supervisor
from events.queues.supervisor import supervise
from tests.integration.events.queues.support import eventually

# Writes its pid into a folder and then does as it is told.
CHILD = """
import os, pathlib, signal, sys, time
folder, what = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / str(os.getpid())).touch()
if what == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what.startswith("exit"):
    sys.exit(int(what[4:]))
time.sleep(60)
"""

SUPERVISOR = """
import sys
from events.queues.supervisor import supervise
sys.exit(supervise(int(sys.argv[1]), sys.argv[2:], stop_timeout=1))
"""


@contextmanager
def supervising(folder: Path, what: str, n: int = 2) -> Iterator["subprocess.Popen[bytes]"]:
    child = [sys.executable, "-c", CHILD, str(folder), what]
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(n), *child])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)
        assert alive(folder) == set()


def seen(folder: Path) -> set[int]:
    return {int(each.name) for each in folder.iterdir()}


def alive(folder: Path) -> set[int]:
    return {pid for pid in seen(folder) if psutil.pid_exists(pid)}


def test_a_child_that_is_killed_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    with supervising(tmp_path, "sleep"):
        eventually(lambda: len(alive(tmp_path)) == 2)
        killed, other = sorted(seen(tmp_path))
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(seen(tmp_path)) == 3 and len(alive(tmp_path)) == 2)
        assert other in alive(tmp_path)


def test_all_end_when_the_supervisor_is_told_to(tmp_path: Path) -> None:
    with supervising(tmp_path, "sleep") as process:
        eventually(lambda: len(alive(tmp_path)) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert alive(tmp_path) == set()


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with supervising(tmp_path, "stubborn", 1) as process:
        eventually(lambda: len(alive(tmp_path)) == 1)
        time.sleep(0.3)  # for it to ignore the signal
        process.terminate()
        assert process.wait(10) == 0


def test_children_that_are_done_are_not_started_again(tmp_path: Path) -> None:
    assert supervise(3, [sys.executable, "-c", CHILD, str(tmp_path), "exit0"]) == 0
    assert len(seen(tmp_path)) == 3


def test_a_child_that_was_asked_for_nonsense_ends_all(tmp_path: Path) -> None:
    assert supervise(1, [sys.executable, "-c", CHILD, str(tmp_path), "exit2"]) == 2
    assert len(seen(tmp_path)) == 1


def test_a_child_that_keeps_dying_is_started_ever_more_slowly() -> None:
    child = supervisor._Child(["no-such-program"])
    waits = []
    for _ in range(10):
        child.started_at = time.monotonic()
        child.died(1)
        waits.append(child.start_at - time.monotonic())
    assert [round(wait, 1) for wait in waits[:4]] == [0.5, 1, 2, 4]
    assert round(waits[-1], 1) == 30


def test_a_child_that_lived_long_is_started_again_at_once() -> None:
    child = supervisor._Child(["no-such-program"])
    for _ in range(10):
        child.started_at = time.monotonic() - 61
        child.died(1)
    assert child.start_at - time.monotonic() <= 0.5
