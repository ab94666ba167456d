"""make bench-verify: how fast a database is digested, to be compared with its mirrors.

Five million rows in five real tables of a private server, made by generate_series with triggers and foreign keys off,
vacuumed as tables are that have been there for a while. Two connections share one snapshot.

    rows_per_s      rows digested in a second by the clock, the median of the rounds (bar: 800,000 on two cores)
    cpu_us_per_row  processor time of the server's processes for each row, in µs: the two together on two quiet cores
                    would do two million a second, divided by this
    digest_bytes    size of the digest that is published
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import structlog

import ops.stack
from tests.benchmarks.harness import report, say
from workers.replication.verify.service import make_digest

# In millionths of all rows.
TABLES = {
    "recording": (
        300_000,
        "(id, gid, name, artist_credit, length, comment, edits_pending, last_updated, video) "
        "SELECT i, gen_random_uuid(), 'Some recording of name ' || i, i % 50000, 100000 + i % 300000, '', 0, "
        "now() - i * interval '1 s', false",
    ),
    "track": (
        300_000,
        "(id, gid, recording, medium, position, number, name, artist_credit, length, edits_pending, last_updated) "
        "SELECT i, gen_random_uuid(), i, i / 12, i % 12 + 1, i % 12 + 1, 'Some track of name ' || i, i % 50000, "
        "100000 + i % 300000, 0, now() - i * interval '1 s'",
    ),
    "artist": (
        100_000,
        "(id, gid, name, sort_name, begin_date_year, type, area, gender, comment, last_updated) "
        "SELECT 100 + i, gen_random_uuid(), 'Some Artist ' || i, 'Artist, Some ' || i, 1900 + i % 100, 1, 1, NULL, "
        "'comment ' || i, now() - i * interval '1 s'",
    ),
    "artist_credit_name": (
        200_000,
        "(artist_credit, position, artist, name, join_phrase) "
        "SELECT 1000 + i / 2, i % 2, i % 50000, 'Some Artist ' || i, ' & '",
    ),
    "recording_gid_redirect": (
        100_000,
        "(gid, new_id, created) SELECT gen_random_uuid(), i, now() - i * interval '1 s'",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast a database is digested.")
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of all tables (default: 5000000)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements (default: 3)")
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as home, ExitStack() as held:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        stack = held.enter_context(ops.stack.start(Path(home), redis=False, durable=False, progress=say))
        ops.stack.ensure_musicbrainz(stack, database="musicbrainz", progress=say)
        url = stack.database_url("musicbrainz")
        one, two = (held.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(2))
        fill(one, asked.rows)
        seconds, processor = [], []
        for number in range(-1, asked.rounds):  # the first warms up
            began, before = time.perf_counter(), used(one) + used(two)
            digest = make_digest(one, 1, others=[two])
            took = time.perf_counter() - began
            say(f"Round {number}: {took:.2f} s.")
            if number >= 0:
                seconds.append(took)
                processor.append(used(one) + used(two) - before)
    rows = sum(table.count for table in digest.tables.values())
    median = statistics.median(seconds)
    report(
        {
            "rows_per_s": round(rows / median),
            "rows": rows,
            "tables": len(digest.tables),
            "seconds": median,
            "connections": 2,
            "cpu_us_per_row": statistics.median(processor) / rows * 1e6,
            "digest_bytes": len(digest.model_dump_json()),
        }
    )


def used(connection: "psycopg.Connection[tuple[object, ...]]") -> float:
    """Seconds of the processor that the server's process has had; 0 where nobody counts them."""
    try:
        return int(Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def fill(connection: "psycopg.Connection[tuple[object, ...]]", rows: int) -> None:
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET search_path = musicbrainz, public")
    connection.execute("DELETE FROM replication_control")
    connection.execute("INSERT INTO replication_control VALUES (1, 31, 1, now())")
    for table, (share, select) in TABLES.items():
        count = rows * share // 1_000_000
        say(f"Filling {table} with {count:,} rows.")
        # Only rows are measured; indexes would take most of the time to fill.
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary "
            "AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            (table,),
        ).fetchall()
        for (index,) in indexes:
            connection.execute(f"DROP INDEX {index}".encode())
        connection.execute(f"TRUNCATE {table} CASCADE".encode())
        connection.execute(f"INSERT INTO {table} {select} FROM generate_series(1, {count}) i".encode())
        connection.execute(f"VACUUM (ANALYZE) {table}".encode())


if __name__ == "__main__":
    main()
