"""Servers as processes: found by a pid whose command line was checked, never by a name."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil


def find(pid: int, arguments: Sequence[str]) -> psutil.Process | None:
    """The process of that pid if these arguments stand together in its command line.

    A zombie is no process any more: containers often have no init that reaps them.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        line = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    found = any(line[i : i + len(arguments)] == list(arguments) for i in range(len(line)))
    return process if found else None


def of_child(child: subprocess.Popen[bytes] | None) -> psutil.Process | None:
    """A child that was started and has not come far enough to have a pid file."""
    if child is None or child.poll() is not None:
        return None
    try:
        return psutil.Process(child.pid)
    except psutil.NoSuchProcess:
        return None


def gone(process: psutil.Process) -> bool:
    """Whether it ended; `is_running` compares start times, so a reused pid does not count."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stop(process: psutil.Process, signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait its seconds; True once the process is gone."""
    for number, seconds in signals:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return True
        if wait_until(lambda: gone(process), seconds):
            return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.01) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def disown(child: subprocess.Popen[bytes] | None) -> None:
    """Let a child outlive us on purpose: Popen would warn about a process that it believes forgotten."""
    if child is not None and child.poll() is None:
        child.returncode = 0
