"""make bench-bridge: how fast the bridge brings committed changes to the log, the channels and the queues.

A backlog of changes waits in a database of the real schema: edited artists, recordings and works, half in transactions
of one to ten rows, half in bulk transactions of a thousand. A bridge in a process of its own drains it, with a
subscriber on all channels. 50,000 and 200,000 changes alternate on fresh databases, three times; medians.

    events_per_s      events written, published and enqueued by second of the whole drain
    peak_rss_mb       of the bridge's process, at 200,000
    ratio_200k_50k    time for 200,000 changes over the time for 50,000 (linear is 4)
"""

import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, LiteralString

import hiredis
import psycopg
import redis

from events.log import service as event_log
from events.queues.factory import make_broker
from events.telemetry import NoTelemetry
from ops.stack import Stack
from producers.bridge.adapters import RedisPublisher
from producers.bridge.service import Bridge, BridgeOptions
from producers.capture.service import install
from tests.benchmarks.harness import report, say, servers

SMALL, LARGE, ROUNDS = 50_000, 200_000, 3
ENTITIES = 40_000


def main() -> None:
    times: dict[int, list[float]] = {SMALL: [], LARGE: []}
    rates, peaks = [], []
    with servers() as stack:
        _template(stack)
        for _ in range(ROUNDS):
            for changes in (SMALL, LARGE):
                result = _round(stack, changes)
                times[changes].append(result["seconds"])
                if changes == LARGE:
                    rates.append(result["events"] / result["seconds"])
                    peaks.append(result["peak_rss_mb"])
                say(f"{changes} changes: {json.dumps(result)}")
    small, large = statistics.median(times[SMALL]), statistics.median(times[LARGE])
    report(
        {
            "events_per_s": round(statistics.median(rates)),
            "peak_rss_mb": statistics.median(peaks),
            "seconds_50k": small,
            "seconds_200k": large,
            "ratio_200k_50k": large / small,
        }
    )


def _template(stack: Stack) -> None:
    """The real schema with enough entities to change, and capture installed."""
    from ops.stack import ensure_musicbrainz

    ensure_musicbrainz(stack, database="template", progress=say)
    with psycopg.connect(stack.database_url("template"), autocommit=True) as connection:
        say(f"Making {ENTITIES} artists, recordings and works.")
        credit = connection.execute("SELECT id FROM artist_credit LIMIT 1").fetchone()
        assert credit is not None
        n = {"n": ENTITIES, "credit": credit[0]}
        rows: dict[LiteralString, LiteralString] = {
            "artist (gid, name, sort_name)": "'artist ' || i, 'artist ' || i",
            "recording (gid, name, artist_credit)": "'recording ' || i, %(credit)s",
            "work (gid, name)": "'work ' || i",
        }
        for table, values in rows.items():
            insert: LiteralString = f"INSERT INTO {table} SELECT gen_random_uuid(), {values}"
            connection.execute(f"{insert} FROM generate_series(1, %(n)s) i", n)
        install(connection)
        connection.execute("VACUUM ANALYZE")


def _round(stack: Stack, changes: int) -> dict[str, Any]:
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS bench (FORCE)")
        admin.execute("CREATE DATABASE bench TEMPLATE template")
        admin.execute("ALTER DATABASE bench SET search_path = musicbrainz, public")
    url = stack.database_url("bench")
    client = redis.Redis.from_url(stack.redis_url(6))
    client.flushall()
    _change(url, changes)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT xid) FROM dbmirror2.pending_data").fetchone()
        assert row is not None
        assert row[0] == changes, f"{row[0]} rows captured, not {changes}"
        connection.execute("CHECKPOINT")
        assert stack.redis is not None
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        subscriber = multiprocessing.get_context("spawn").Process(
            target=_subscribe, args=(str(stack.redis.socket), theirs), daemon=True
        )
        subscriber.start()
        ours.recv()
        child = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bridge", "--drain", url, stack.redis_url(6), stack.redis_url(5)],
            capture_output=True,
            text=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        head = event_log.head(connection)
        assert head.position == head.published == result["events"], head
        # Every event of the log is in exactly one message, and reached the subscriber.
        queued = sum(len(json.loads(body)["kwargs"]["events"]) for body in client.hvals("MB:caches.msgs"))
        assert queued == head.position, f"{queued} of {head.position} events are in the queue"
        ours.send(head.position)
        heard = ours.recv()
        assert heard == head.position, f"{heard} of {head.position} events were heard"
    subscriber.join(10)
    client.close()
    return {**result, "transactions": row[1]}


def _change(url: str, changes: int) -> None:
    """Commit changes as edits do; each is one captured row. In one session: who commits is not what is measured."""
    small, bulk = changes // 2, changes - changes // 2
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        # Updates of rows that the schema's own triggers leave alone, so that the number of rows is known.
        connection.execute(
            f"""
            DO $$
            DECLARE
                done int := 0; n int; bulk int; i int := 0; tables text[] := ARRAY['artist', 'recording', 'work'];
            BEGIN
                WHILE done < {small} LOOP
                    i := i + 1;
                    n := least(1 + i % 10, {small} - done);
                    EXECUTE format('UPDATE %I SET comment = %L WHERE id IN (SELECT id FROM %I WHERE id > %s
                                    ORDER BY id LIMIT %s)', tables[1 + i % 3], 'c' || i, tables[1 + i % 3],
                                   (SELECT min(id) FROM artist) + (i * 37) % 30000, n);
                    GET DIAGNOSTICS n = ROW_COUNT;
                    done := done + n;
                    COMMIT;
                END LOOP;
            END $$"""
        )
        ids = [row[0] for row in connection.execute("SELECT id FROM recording ORDER BY id DESC LIMIT 30000").fetchall()]
        for start in range(0, bulk, 1000):
            chosen = [ids[(start + k) % len(ids)] for k in range(min(1000, bulk - start))]
            connection.execute("UPDATE recording SET name = name || '!' WHERE id = ANY (%s)", (chosen,))


def _drain(database_url: str, broker_url: str, channels_url: str) -> None:
    channels = redis.Redis.from_url(channels_url)
    publisher = RedisPublisher(channels, make_broker(broker_url), "MB")
    bridge = Bridge(database_url, publisher, options=BridgeOptions(source="mb://bench"), telemetry=NoTelemetry())
    began = time.perf_counter()
    events = bridge.drain()
    seconds = time.perf_counter() - began
    report({"events": events, "seconds": seconds, "peak_rss_mb": _peak_mb(), "cpu_s": time.process_time()})


def _peak_mb() -> float:
    """Not getrusage's, which begins with what the parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _subscribe(path: str, pipe: Connection) -> None:
    """Count what arrives, as cheaply as can be: the subscriber is not what is measured."""
    reader = hiredis.Reader()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        server.sendall(b"PSUBSCRIBE MB:events:*\r\n")
        server.recv(1024)
        pipe.send("ready")
        server.settimeout(0.2)
        heard = 0
        expected: int | None = None
        deadline = 0.0
        while expected is None or (heard < expected and time.monotonic() < deadline):
            try:
                reader.feed(server.recv(1 << 20))
            except TimeoutError:
                if expected is None and pipe.poll():
                    expected, deadline = pipe.recv(), time.monotonic() + 20
                continue
            while reader.gets() is not False:
                heard += 1
        pipe.send(heard)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drain"]:
        _drain(*sys.argv[2:5])
    else:
        main()
