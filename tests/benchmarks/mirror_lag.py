"""`make bench-mirror-lag`: seconds from a commit on a master to its row on a mirror, with a packet every five.

Everything runs as processes of their own: bridge, worker, scheduler and feed of the master, sync of the mirror.
"""

import argparse
import os
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psycopg

from ops.demo import replica
from ops.demo.place import Processes
from ops.settings import Settings
from ops.wiring import ensure_database, open_runtime
from producers.capture.service import install
from tests.benchmarks.harness import report, say

INTERVAL = 5
# So long nobody waits: the edit is lost.
_LOST_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=40, help="edits, at random moments")
    given = parser.parse_args()
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="mbe-bench-")))
        home.chmod(0o755)
        settings = Settings(mbevents_home=home, replication_type="RT_MASTER")
        parts = closing.enter_context(open_runtime(settings, create=True, progress=say))
        ensure_database(parts, say)
        mirror = replica.make(parts)
        install(parts.database_url, replication_type="RT_MASTER")
        changed = {**mirror.masters(), "REPLICATION_EXPORT_INTERVAL": str(INTERVAL)}
        processes = Processes(home, changed, later=replica.PROCESSES)
        closing.callback(processes.close)
        processes.start()
        replica.start(processes, mirror, parts.feed_tokens.create("mirror"))
        with psycopg.connect(parts.database_url, autocommit=True) as master, mirror.connect() as there:
            seconds = _measure(master, there, given.n)
    report(
        {
            "n": len(seconds),
            "interval_s": INTERVAL,
            "p50_s": median(seconds),
            "p99_s": quantiles(seconds, n=100, method="inclusive")[98],
            "max_s": max(seconds),
            "processors": os.cpu_count() or 0,
        }
    )


def _measure(master: "psycopg.Connection[Any]", there: "psycopg.Connection[Any]", n: int) -> list[float]:
    seconds: list[float] = []
    row = master.execute("SELECT min(id) FROM artist").fetchone()
    assert row is not None
    artist = int(row[0])
    _edit(master, artist, "the first")
    _wait(there, artist, "the first")
    say("The mirror follows.")
    for number in range(n):
        # Anywhere between two packets.
        time.sleep(random.uniform(0.2, INTERVAL))
        text = f"edit {number}"
        _edit(master, artist, text)
        committed = time.perf_counter()
        seconds.append(_wait(there, artist, text) - committed)
        say(f"{number + 1} of {n}: {seconds[-1]:.2f} s")
    return seconds


def _edit(master: "psycopg.Connection[Any]", artist: int, text: str) -> None:
    master.execute("UPDATE artist SET comment = %s WHERE id = %s", (text, artist))


def _wait(there: "psycopg.Connection[Any]", artist: int, text: str) -> float:
    deadline = time.perf_counter() + _LOST_SECONDS
    while there.execute("SELECT comment FROM artist WHERE id = %s", (artist,)).fetchone() != (text,):
        if time.perf_counter() > deadline:
            raise SystemExit(f"{text!r} did not arrive within {_LOST_SECONDS:.0f} s.")
        time.sleep(0.01)
    return time.perf_counter()


if __name__ == "__main__":
    main()
