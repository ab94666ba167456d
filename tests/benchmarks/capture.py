"""make bench-capture: what capture costs an editor, beside what dbmirror2's own costs, on the real schema.

Databases side by side in one private server: nothing captured, dbmirror2 as MusicBrainz installs it (its SQL and its
triggers from the `mbdata` package), ours, and ours without any code of the hint. Each round measures all of them in
random order; medians over the rounds. All changes are to musicbrainz.artist, with all its constraints and triggers.

    single_row_ratio            added time per row, ours over dbmirror2's: statements of one row, ten to a transaction,
                                about what an edit does (bar: 0.45)
    one_row_transaction_ratio   the same, each row in a transaction of its own
    bulk_insert_ratio           a statement of many rows (bar: 0.45)
    bulk_update_ratio           (bar: 0.45)
    …_base_us, …_ours_us, …_dbmirror2_us   µs per row: without capture, and what each adds to that
    notify_ratio                throughput of four concurrent writers, with the hint over without (bar: 0.95)

The time is the processor's of the session's server process, where the system tells it (Linux), so that what else the
machine does counts less; notify_ratio is by the clock. The server does not sync to disk: that costs all the same,
and hides the rest. Pages of captured rows are reused, as where rows are exported or trimmed all the time. The bridge is
awake: its lock is held.
"""

import argparse
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

import ops.stack
from events.locks import AWAKE_KEY
from ops.stack import Stack
from producers.capture.service import install
from tests.benchmarks.harness import report, say

Connection = psycopg.Connection[tuple[object, ...]]

ROWS = 4_000
FIRST = 1_000_000
NEW = 2_000_000
BULK = 500
SINGLES = 200
WRITERS = 4

SETUP = f"""
SET session_replication_role = replica;
INSERT INTO musicbrainz.artist (id, gid, name, sort_name, comment)
SELECT {FIRST} + i, gen_random_uuid(), 'Some Artist ' || i, 'Artist, Some ' || i, 'of a benchmark'
FROM generate_series(1, {ROWS}) i;
SET session_replication_role = origin;
"""
# Pages to reuse: as many rows as a round and its successors write until the next vacuum.
PAGES = """
INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata)
SELECT 'musicbrainz.artist', 'u', 1, row_to_json(a), row_to_json(a)
FROM (SELECT * FROM musicbrainz.artist LIMIT 1) a, generate_series(1, 15000);
INSERT INTO dbmirror2.pending_ts SELECT i, now() FROM generate_series(1, 8000) i;
ALTER TABLE dbmirror2.pending_data SET (vacuum_truncate = off, autovacuum_enabled = off);
ALTER TABLE dbmirror2.pending_ts SET (vacuum_truncate = off, autovacuum_enabled = off);
"""
SINGLE = """
DO $$ BEGIN
    FOR i IN 1..{count} LOOP
        UPDATE musicbrainz.artist SET edits_pending = 1 - edits_pending WHERE id = {first} + i;
        IF i % {together} = 0 THEN COMMIT; END IF;
    END LOOP;
END $$
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="What capture costs an editor.")
    parser.add_argument("--rounds", type=int, default=60, help="measurements of each kind and database (default: 60)")
    rounds = parser.parse_args().rounds
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # Not TMPDIR of a deep folder: a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as home, ExitStack() as held:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        stack = held.enter_context(ops.stack.start(Path(home), redis=False, durable=False, progress=say))
        ops.stack.ensure_musicbrainz(stack, database="template", progress=say)
        say("Making the databases: none, dbmirror2, ours, ours without a hint.")
        makers: dict[str, Callable[[Connection], None]] = {
            "none": lambda _: None, "dbmirror2": dbmirror2, "ours": lambda c: void(install(c)), "silent": silent,
        }  # fmt: skip
        databases = {name: held.enter_context(make(stack, name, maker)) for name, maker in makers.items()}
        for name in ("ours", "silent"):
            bridge = held.enter_context(psycopg.connect(stack.database_url(name), autocommit=True))
            bridge.execute("SELECT pg_advisory_lock(%s)", (AWAKE_KEY,))
        result = added(databases, rounds) | notify(stack, 2 * rounds)
    report(result)


def void(_: object) -> None: ...


def make(stack: Stack, name: str, capture: Callable[[Connection], None]) -> Connection:
    """A database of its own with a capture; the connection that is measured."""
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template").format(sql.Identifier(name)))
    connection = psycopg.connect(stack.database_url(name), autocommit=True)
    connection.execute("SET search_path = musicbrainz, public")
    connection.execute(SETUP)
    capture(connection)
    connection.execute("SET search_path = musicbrainz, public")
    if name != "none":
        connection.execute(PAGES)
    tidy(connection, name)
    return connection


def dbmirror2(connection: Connection) -> None:
    """As MusicBrainz's own scripts install it."""
    spec = find_spec("mbdata")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "sql"
    connection.execute("CREATE SCHEMA dbmirror2")
    for name in ("dbmirror2/dbmirror2", "CreateReplicationTriggers2", "CreateCustomReplicationTriggers2"):
        script = re.sub(r"^\\.*$", "", (folder / f"{name}.sql").read_text(encoding="utf-8"), flags=re.MULTILINE)
        connection.execute(script.encode())


def silent(connection: Connection) -> None:
    """Ours without any code of the hint."""
    install(connection)
    connection.execute("CREATE OR REPLACE FUNCTION mbevents.hint() RETURNS boolean LANGUAGE sql RETURN false")


def tidy(connection: Connection, name: str) -> None:
    """What a measurement left goes away; its pages stay."""
    connection.execute("SET session_replication_role = replica")
    connection.execute(f"DELETE FROM artist WHERE id > {NEW}".encode())
    connection.execute(f"DELETE FROM artist_meta WHERE id > {NEW}".encode())
    tables = ["artist", "artist_meta"]
    if name != "none":
        tables += ["dbmirror2.pending_data", "dbmirror2.pending_ts"]
        connection.execute("DELETE FROM dbmirror2.pending_data; DELETE FROM dbmirror2.pending_ts")
    connection.execute("SET session_replication_role = origin")
    for table in tables:
        connection.execute(f"VACUUM {table}".encode())


def kinds() -> Mapping[str, Callable[[], tuple[str, int]]]:
    """What is measured: each makes a statement and says how many rows it changes."""

    def single(together: int) -> tuple[str, int]:
        first = FIRST + random.randrange(ROWS - SINGLES)
        return SINGLE.format(count=SINGLES, first=first, together=together), SINGLES

    def bulk_update() -> tuple[str, int]:
        first = FIRST + random.randrange(1, ROWS - BULK)
        where = f"id BETWEEN {first} AND {first + BULK - 1}"
        return f"UPDATE artist SET edits_pending = 1 - edits_pending WHERE {where}", BULK

    def bulk_insert() -> tuple[str, int]:
        return (
            "INSERT INTO artist (id, gid, name, sort_name, comment) SELECT "
            f"{NEW} + i, gen_random_uuid(), 'New ' || i, 'New, ' || i, 'n' FROM generate_series(1, {BULK}) i",
            BULK,
        )

    return {
        "single_row": lambda: single(10),
        "one_row_transaction": lambda: single(1),
        "bulk_update": bulk_update,
        "bulk_insert": bulk_insert,
    }


def added(databases: Mapping[str, Connection], rounds: int) -> dict[str, float]:
    """Time for each row that capture adds, and ratios."""
    compared = ("none", "dbmirror2", "ours")
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(-2, rounds):  # the first two warm up
        if number % 20 == 0:
            say(f"Round {number} of {rounds}.")
        for kind, make_statement in kinds().items():
            statement, rows = make_statement()
            for name in random.sample(compared, len(compared)):
                seconds = timed(databases[name], statement)
                if number >= 0:
                    times[kind, name].append(seconds / rows * 1e6)
        for name in compared:
            tidy(databases[name], name)
    figures: dict[str, float] = {"rounds": rounds}
    for kind in kinds():
        base, theirs, ours = (times[kind, name] for name in compared)
        figures[f"{kind}_ratio"] = round(
            statistics.median((o - b) / (t - b) for b, t, o in zip(base, theirs, ours, strict=True) if t > b), 3
        )
        figures[f"{kind}_base_us"] = round(statistics.median(base), 2)
        figures[f"{kind}_ours_us"] = round(statistics.median(o - b for b, o in zip(base, ours, strict=True)), 2)
        figures[f"{kind}_dbmirror2_us"] = round(statistics.median(t - b for b, t in zip(base, theirs, strict=True)), 2)
    return figures


def timed(connection: Connection, statement: str) -> float:
    """Seconds of the processor that the server's process spends on it; by the clock where nobody counts them."""
    schedule = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def now() -> float:
        try:
            return int(schedule.read_text().split()[0]) / 1e9
        except OSError:
            return time.perf_counter()

    before = now()
    connection.execute(statement.encode())
    return now() - before


def notify(stack: Stack, rounds: int) -> dict[str, float]:
    """Throughput of concurrent writers with the hint over that without."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as held:
        writers = {
            name: [
                held.enter_context(psycopg.connect(stack.database_url(name), autocommit=True)) for _ in range(WRITERS)
            ]
            for name in ("ours", "silent")
        }
        for number in range(-1, rounds):
            if number % 20 == 0:
                say(f"Four writers, round {number} of {rounds}.")
            for name in random.sample(list(writers), len(writers)):
                took = together(writers[name])
                if number >= 0:
                    seconds[name].append(took)
            if number % 5 == 0:
                for name, connections in writers.items():
                    connections[0].execute("SET search_path = musicbrainz, public")
                    tidy(connections[0], name)
    ratios = [without / with_ for with_, without in zip(seconds["ours"], seconds["silent"], strict=True)]
    per_second = WRITERS * SINGLES / statistics.median(seconds["ours"])
    return {"notify_ratio": round(statistics.median(ratios), 3), "four_writers_per_s": round(per_second)}


def together(connections: list[Connection]) -> float:
    """Seconds until all have made their one-row transactions, each on rows of its own."""

    def statements() -> Iterator[bytes]:
        for place in range(len(connections)):
            yield SINGLE.format(count=SINGLES, first=FIRST + place * SINGLES, together=1).encode()

    threads = [
        threading.Thread(target=connection.execute, args=(statement,))
        for connection, statement in zip(connections, statements(), strict=True)
    ]
    before = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - before


if __name__ == "__main__":
    main()
