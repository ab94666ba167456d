"""`make bench-apply`: a packet on a mirror: ours, mbslave, and PostgreSQL alone with the changes loaded already.

`ratio`: mbslave's time over ours, `floor_ratio`: ours over PostgreSQL's, each on a fresh copy of the same mirror with
its indexes and triggers; `with_events_…` the same with the events in the log, which mbslave has not. `peak_rss_mb`: of
a process that applies a packet of a million changes.
"""

import argparse
import io
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import psycopg2

from events.derivation import entity_map
from ops.stack import Stack
from producers.capture.service import install
from tests.benchmarks import packets
from tests.benchmarks.harness import report, say, servers
from tests.foreign import mbslave_tables
from workers.replication.apply.adapters import quoted, read_tables
from workers.replication.apply.core import Work, ranks
from workers.replication.apply.options import ApplyOptions
from workers.replication.apply.planning import Planner, Tables
from workers.replication.apply.service import apply_packet
from workers.replication.apply.source import open_source

EVENTS = "/databases/mirror"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=30_000, help="artists; there are some six changes for each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=180_000, help="artists of the large packet; 0: none")
    parser.add_argument("--child", nargs=3, metavar=("PACKET", "URL", "EVENTS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(*given.child)
        return
    logging.disable(logging.WARNING)
    result = _compare(given.rows, given.rounds)
    if given.large:
        result |= _large(given.large)
    report(result)


def _compare(rows: int, rounds: int) -> dict[str, Any]:
    with servers() as stack, tempfile.TemporaryDirectory() as folder:
        packet = Path(folder) / "replication-1-v2.tar.bz2"
        changes = _prepare(stack, packet, rows)
        ways: dict[str, Callable[[str], float]] = {
            "ours": lambda url: _ours(url, packet, None),
            "mbslave": lambda url: _mbslave(url, packet),
            "floor": lambda url: _floor(url, packet),
            "with_events": lambda url: _ours(url, packet, EVENTS),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way, run in ways.items():
                seconds[way].append(run(packets.copy(stack, packets.MIRROR, way)))
                say(f"round {number + 1}: {way} {seconds[way][-1]:.2f} s")
        middle = {way: median(each) for way, each in seconds.items()}
        return {
            "changes": changes,
            "ratio": middle["mbslave"] / middle["ours"],
            "floor_ratio": middle["ours"] / middle["floor"],
            "with_events_ratio": middle["mbslave"] / middle["with_events"],
            "with_events_floor_ratio": middle["with_events"] / middle["floor"],
            "changes_per_s": changes / middle["ours"],
            **{f"{way}_s": value for way, value in middle.items()},
        }


def _prepare(stack: Stack, packet: Path, rows: int) -> int:
    packets.make_databases(stack, rows=rows)
    packets.make_history(stack, rows=rows, transactions=rows // 20)
    changes = packets.write_packet(stack, packet)
    install(stack.database_url(packets.MIRROR), replication_type="RT_MIRROR")
    say(f"The packet has {changes:,} changes, {packet.stat().st_size:,} bytes.")
    return changes


def _ours(url: str, packet: Path, events: str | None) -> float:
    began = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        source = open_source(packet)
        applied = apply_packet(connection, source, ApplyOptions(events=events))
    assert applied.mode == "sets", applied
    return time.perf_counter() - began


def _mbslave(url: str, packet: Path) -> float:
    from mbslave import replication

    config = replication.Config([])
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(mbslave_tables())
    content = io.BytesIO(packet.read_bytes())
    began = time.perf_counter()
    hook = replication.ReplicationHook(config, connection, config)
    replication.process_tar(content, connection, config, set(), set(), 31, 1, hook)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def _floor(url: str, packet: Path) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        known = entity_map.load()
        tables = Tables(read_tables(connection), known=known.tables, wanted=lambda _: True)
        planner = Planner(tables, ranks=ranks(known), chunk=1 << 40, first=1 << 40, deriver=None)
        (chunk,) = planner.chunks(open_source(packet).changes())
        statements = [each for work in chunk.work for each in _load(connection, tables, work)]
        connection.execute("CHECKPOINT")
        connection.execute("SET search_path = musicbrainz, public")
        began = time.perf_counter()
        with connection.transaction():
            connection.execute("SET CONSTRAINTS ALL DEFERRED")
            for statement in sorted(statements):
                connection.execute(statement)
        return time.perf_counter() - began


def _load(connection: "psycopg.Connection[Any]", tables: Tables, work: Work) -> Iterator[str]:
    """Typed tables with the net changes of one table; the statements that make them."""
    codec = tables.codec(work.table)
    assert codec is not None
    name = work.table.replace(".", "_")
    columns = [quoted(column.name) for column in codec.table.columns]
    keys = [f"key_{place}" for place in range(len(codec.key))]
    aliases = ", ".join(f"{quoted(key)} AS {place}" for key, place in zip(codec.key, keys, strict=True))
    match = " AND ".join(f"t.{quoted(key)} = s.{place}" for key, place in zip(codec.key, keys, strict=True))
    settings = ", ".join(f"{column} = s.{column}" for column in columns)
    for kind, lines, wanted, statement in (
        ("deletes", work.deletes, keys, f"DELETE FROM {work.table} t USING {{}} s WHERE {match}"),
        ("updates", work.updates, columns + keys, f"UPDATE {work.table} t SET {settings} FROM {{}} s WHERE {match}"),
        ("xinserts", work.inserts, columns, f"INSERT INTO {work.table} SELECT {', '.join(columns)} FROM {{}}"),
    ):
        if lines:
            target = f"public.{kind}_{name}"
            connection.execute(
                f"CREATE TABLE {target} AS SELECT {', '.join(columns)}, {aliases} FROM {work.table} WITH NO DATA"
            )
            with connection.cursor().copy(f"COPY {target} ({', '.join(wanted)}) FROM STDIN (NULL 'None')") as copy:
                for line in lines:
                    copy.write(line + "\n")
            connection.execute(f"ANALYZE {target}")
            yield statement.format(target)


def _large(rows: int) -> dict[str, Any]:
    with servers() as stack, tempfile.TemporaryDirectory() as folder:
        packet = Path(folder) / "replication-1-v2.tar.bz2"
        changes = _prepare(stack, packet, rows)
        peak: dict[str, float] = {}
        for way, events in (("", "-"), ("with_events_", EVENTS)):
            url = packets.copy(stack, packets.MIRROR, "large")
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.apply", "--child", str(packet), url, events],
                check=True,
                capture_output=True,
            )
            told = json.loads(done.stdout.splitlines()[-1])
            say(f"{changes:,} changes: {told}")
            peak |= {f"{way}peak_rss_mb": told["peak_rss_mb"], f"{way}large_s": told["seconds"]}
        return {"large_changes": changes, **peak}


def _child(packet: str, url: str, events: str) -> None:
    seconds = _ours(url, Path(packet), None if events == "-" else events)
    # Not getrusage, which counts what the process was before it became this program.
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    report({"seconds": seconds, "peak_rss_mb": int(peak.split()[1]) / 1024})


if __name__ == "__main__":
    main()
