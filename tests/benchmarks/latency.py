"""make bench-latency: from the return of COMMIT to the cache key being gone, and what the whole system costs idle.

The whole system runs as `mbevents up` runs it, on servers of its own: bridge, worker and web in processes of their own.
An editor renames an artist whose entry is cached; the time is from the return of its COMMIT until the key is gone.
Between edits it is quiet for long enough that the bridge sleeps. Then nobody does anything, and the CPU time of all
processes, the servers too, is counted.

    p50_ms, p99_ms, max_ms   over n edits
    idle_cpu                 percent of one core
"""

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import redis

import ops.stack
from tests.benchmarks.harness import report, say
from tests.ports import free_port

EDITS = 400
IDLE_SECONDS = 30.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        home = Path(folder)
        # The same servers, so that we can say afterwards which processes are theirs.
        with _up(home) as system, ops.stack.start(home) as stack:
            times = _edits(stack.database_url(), stack.redis_url(0))
            say(f"{len(times)} edits done; idle for {IDLE_SECONDS:.0f} s.")
            time.sleep(5)
            assert stack.postgres is not None
            assert stack.redis is not None
            idle = _idle([system.pid, stack.postgres.pid, stack.redis.pid])
    centiles = statistics.quantiles(times, n=100, method="inclusive")
    report(
        {
            "n": len(times),
            "p50_ms": centiles[49],
            "p99_ms": centiles[98],
            "max_ms": max(times),
            "idle_cpu": sum(idle.values()),
            "idle_cpu_by_process": {name: round(percent, 2) for name, percent in sorted(idle.items())},
        }
    )


@contextmanager
def _up(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    listen = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "MBEVENTS_HOME": str(home), "WEB_LISTEN": listen}
    for name in ("DATABASE_URL", "REDIS_SERVER", "BROKER_URL"):
        environment.pop(name, None)
    say("Starting everything.")
    process = subprocess.Popen([sys.executable, "-m", "ops.cli", "up"], env=environment, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + 120
        while not _ready(listen):
            assert process.poll() is None, "mbevents up ended"
            assert time.monotonic() < deadline, "mbevents up is not ready"
            time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ready(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _edits(database_url: str, redis_url: str) -> list[float]:
    chosen = random.Random(31)
    times = []
    with psycopg.connect(database_url) as connection, redis.Redis.from_url(redis_url) as client:
        rows = connection.execute("SELECT id, gid::text FROM musicbrainz.artist ORDER BY id").fetchall()
        connection.commit()
        for n in range(EDITS):
            artist, mbid = chosen.choice(rows)
            key = f"MB:entity:artist:{mbid}"
            client.set(key, b"{}", ex=3600)
            # Long enough for the bridge to sleep; not in step with anybody's interval.
            time.sleep(chosen.uniform(0.25, 0.45))
            connection.execute("UPDATE musicbrainz.artist SET name = name || '!' WHERE id = %s", (artist,))
            connection.commit()
            began = time.perf_counter()
            while client.exists(key):
                assert time.perf_counter() - began < 10, "the key is still there after 10 s"
                # Two cores are for everybody: asking without a pause would take one of them from who is measured.
                time.sleep(0.0002)
            times.append((time.perf_counter() - began) * 1000)
            if n % 100 == 99:
                say(f"{n + 1} of {EDITS} edits: median {statistics.median(times):.1f} ms so far.")
    return times


def _idle(roots: list[int | None]) -> dict[str, float]:
    """Percent of one core by process, over some time in which nothing happens."""
    processes: dict[int, psutil.Process] = {}
    for root in roots:
        assert root is not None
        parent = psutil.Process(root)
        processes |= {each.pid: each for each in (parent, *parent.children(recursive=True))}
    before = {pid: sum(process.cpu_times()[:2]) for pid, process in processes.items()}
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    used: dict[str, float] = {}
    for pid, process in processes.items():
        # Short helpers of the server, such as autovacuum's, may have ended.
        if process.is_running():
            name = _name(process)
            used[name] = used.get(name, 0.0) + (sum(process.cpu_times()[:2]) - before[pid]) / seconds * 100
    return used


def _name(process: psutil.Process) -> str:
    line = process.cmdline()
    return line[-1] if "ops.cli" in line else process.name()


if __name__ == "__main__":
    main()
