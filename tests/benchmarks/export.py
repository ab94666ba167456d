"""make bench-export: how fast, and in how much memory, a million pending changes become packets.

Changes of eight real tables wait on a master: inserts, updates and deletes of rows as the sample data have them, each
with its own ids and names, in transactions of one to forty rows. A process of its own exports them into a store in a
folder. The same archives are then compressed by `bzip2 -9`, alone.

    seconds          the whole export: cut, both packets built, stored, and the rows deleted
    ratio_to_bzip2   that over the time that `bzip2 -9` takes for the same bytes, both packets' one after the other
    peak_rss_mb      of the exporting process
"""

import argparse
import bz2
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from producers.capture.service import install
from tests.benchmarks.harness import report, say, servers
from tests.integration.workers.replication.export.conftest import begin
from workers.replication.export.adapters import opened
from workers.replication.export.service import Exporter
from workers.replication.packet import names
from workers.replication.store.files import FileStore

CHANGES = 1_000_000
# With what makes their rows differ as those of real changes do.
TABLES = {
    "artist": "gid",
    "recording": "gid",
    "release": "gid",
    "track": "gid",
    "work": "gid",
    "l_artist_recording": "entity0",
    "artist_credit_name": "credit",
    "medium": "name",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--export", nargs=2)
    given = parser.parse_args()
    if given.export:
        _export(*given.export)
        return
    with servers() as stack, tempfile.TemporaryDirectory(prefix="mbe-bench-") as folder:
        from ops.stack import ensure_musicbrainz

        ensure_musicbrainz(stack, database="bench", progress=say)
        url = stack.database_url("bench")
        _change(url, given.changes)
        child = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.export", "--export", url, folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        assert result["changes"] == given.changes + 1, result
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone() == (0,)
        seconds = _bzip2(Path(folder))
    report({**result, "bzip2_seconds": seconds, "ratio_to_bzip2": result["seconds"] / seconds})


def _change(url: str, changes: int) -> None:
    """Pending changes, as capture writes them, that the bridge has seen."""
    begin(url)
    with psycopg.connect(url, autocommit=True) as connection:
        install(connection, replication_type="RT_MASTER")
        say(f"Making {changes:,} changes.")
        connection.execute("SET synchronous_commit = off")
        for number, (table, text) in enumerate(TABLES.items()):
            values = {
                "gid": "jsonb_build_object('id', i, 'gid', gen_random_uuid(), 'name', {name})",
                "name": "jsonb_build_object('id', i, 'name', {name})",
                "credit": "jsonb_build_object('artist_credit', i, 'artist', i * 7 % 2000003)",
                "entity0": "jsonb_build_object('id', i, 'entity0', i * 7 % 2000003, 'entity1', i * 11 % 3000017)",
            }[text].replace("{name}", "r->>'name' || ' ' || md5(i::text)")
            connection.execute(
                sql.SQL(
                    """
                    WITH sample AS (
                        SELECT row_number() OVER () - 1 AS k, count(*) OVER () AS n, t, to_jsonb(t) AS r
                        FROM {table} t LIMIT 500
                    ), made AS (
                        SELECT i, jsonb_populate_record(t, {values}) AS old
                        FROM generate_series({first}, {last}) i JOIN sample ON k = i % n
                    )
                    INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata, oldctid, trgdepth)
                    SELECT {name}, o, 3 + i / (1 + i / 1000 % 40), CASE WHEN o <> 'i' THEN row_to_json(old) END,
                           CASE WHEN o <> 'd' THEN row_to_json(jsonb_populate_record(old,
                               jsonb_build_object('last_updated', now(), 'edits_pending', i % 3))) END, '(0,1)', 1
                    FROM (SELECT made.*, ('{{d,i,i,u,u,u,u,u,u,u}}'::"char"[])[1 + i % 10] AS o FROM made) AS told
                    """
                ).format(
                    table=sql.Identifier("musicbrainz", table),
                    name=sql.Literal(f"musicbrainz.{table}"),
                    values=sql.SQL(values),
                    first=sql.Literal(changes * number // len(TABLES) + 1),
                    last=sql.Literal(changes * (number + 1) // len(TABLES)),
                )
            )
        connection.execute("INSERT INTO dbmirror2.pending_ts SELECT DISTINCT xid, now() FROM dbmirror2.pending_data")
        connection.execute(
            "UPDATE mbevents.tick SET state = jsonb_set(state, '{snapshot}', to_jsonb('9000000000:9000000000:'::text))"
        )
        connection.execute("INSERT INTO mbevents.tick_snapshot (until, running) VALUES (9000000000, '{}')")
        connection.execute("VACUUM ANALYZE dbmirror2.pending_data")
        connection.execute("CHECKPOINT")


def _export(url: str, folder: str) -> None:
    exporter = Exporter(partial(opened, url), FileStore(Path(folder) / "store"), Path(folder) / "spool")
    began = time.perf_counter()
    (published,) = exporter.export()
    report(
        {
            "changes": published.changes,
            "transactions": published.transactions,
            "seconds": time.perf_counter() - began,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "packet_mb": sum(file.size for file in published.files) / 1e6,
        }
    )


def _bzip2(folder: Path) -> float:
    """How long bzip2 takes for what is in the packets."""
    say("Compressing the same by bzip2 -9.")
    seconds = 0.0
    for version in (1, 2):
        archive = folder / "archive"
        with bz2.open(folder / "store" / names.packet_name(1, version)) as packet, archive.open("wb") as plain:
            shutil.copyfileobj(packet, plain, 1 << 20)
        began = time.perf_counter()
        with archive.open("rb") as plain:
            if shutil.which("bzip2"):
                subprocess.run(["bzip2", "-9"], stdin=plain, stdout=subprocess.DEVNULL, check=True)
            else:
                say("There is no bzip2 here: Python's module is measured instead.")
                serial = bz2.BZ2Compressor(9)
                for piece in _pieces(plain):
                    serial.compress(piece)
                serial.flush()
        took = time.perf_counter() - began
        say(f"version {version}: {archive.stat().st_size / 1e6:,.0f} MB in {took:.1f} s")
        seconds += took
    return seconds


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(1 << 20):
        yield piece


if __name__ == "__main__":
    main()
