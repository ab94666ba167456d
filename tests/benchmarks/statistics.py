"""make bench-statistics: what counting and searching names cost, in the real schema with its own indexes.

Tables of a private server are filled by generate_series: for each artist five recordings, two releases, ten edits, 3
votes. Names are of one to four words out of 20,000, the n-th of which is n times rarer than the first; one of 300 is
[untitled]. For figures that tell about MusicBrainz.org ask for a million artists (ARGS="--artists 1000000", some twenty
minutes and 12 GB); what is read is in memory.

    counts_s, slowest_count_s  seconds that all surveys took one after another, and the slowest of them alone
    searches, slowest_ms       names that were searched for, and the slowest answer in milliseconds
    incomplete, refused        answers that say that there may be more; searches that ended without any
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from hashlib import md5
from pathlib import Path
from typing import Any

import psycopg
import structlog

import ops.stack
from events.errors import MbeventsError
from producers.capture import service as capture
from tests.benchmarks.harness import report, say
from workers.caches.search.adapters import PostgresNames
from workers.caches.search.core import MOST, normalised
from workers.caches.statistics.adapters import PostgresCounts
from workers.caches.statistics.core import SURVEYS
from workers.caches.statistics.service import SURVEY_SECONDS, CountFailedError

WORDS = 20_000
# Of the words of a name that is searched for.
RANKS = ((1,), (2,), (1, 2), (2, 1), (1, 1), (1, 2, 3), (1, 2, 3, 4), (5, 1, 1), (700,), (700, 1), (9_000, 8_000))
_WORD = "translate(left(md5({}::text), 5), '0123456789', 'ghijklmnop')"
_SOME = _WORD.format(f"floor(exp(random() * ln({WORDS})))::int")
_WORDS_OF_A_NAME = (
    f"concat_ws(' ', {_SOME}, CASE WHEN i % 4 > 0 THEN {_SOME} END, CASE WHEN i % 4 > 1 THEN {_SOME} END, "
    f"CASE WHEN i % 4 > 2 THEN {_SOME} END)"
)
_NAME = f"""
    CASE
        WHEN i % 300 = 7 THEN '[untitled]'
        WHEN i % 10 = 8 THEN {_WORDS_OF_A_NAME}
        WHEN i % 10 = 9 THEN upper({_WORDS_OF_A_NAME})
        ELSE initcap({_WORDS_OF_A_NAME})
    END
"""

# By table: how many for each artist, columns, and what they are for the number i of n.
TABLES = {
    "artist": (1.0, "id, gid, name, sort_name, comment", f"9 + i, gen_random_uuid(), {_NAME}, 'x', i::text"),
    "artist_alias": (0.1, "id, artist, name, sort_name", f"i, 9 + i, {_NAME}, 'x'"),
    "artist_credit": (0.1, "id, name, artist_count, gid", f"i, {_NAME}, 1, gen_random_uuid()"),
    "recording": (5.0, "id, gid, name, artist_credit", f"i, gen_random_uuid(), {_NAME}, 1 + i % 1000"),
    "recording_alias": (0.05, "id, recording, name, sort_name", f"i, i, {_NAME}, 'x'"),
    "release_group": (1.0, "id, gid, name, artist_credit", f"i, gen_random_uuid(), {_NAME}, 1 + i % 1000"),
    "release": (2.0, "id, gid, name, artist_credit, release_group", f"i, gen_random_uuid(), {_NAME}, 1 + i % 1000, i"),
    "work": (1.0, "id, gid, name", f"i, gen_random_uuid(), {_NAME}"),
    "editor": (1.0, "id, name, password, ha1, deleted", "9 + i, 'editor ' || i, '', '', i % 20 = 0"),
    "edit": (
        10.0,
        "id, editor, type, status, autoedit, open_time, close_time, expire_time",
        "i, 10 + (random() * 9999)::int, i % 90, CASE WHEN i % 10 > 0 THEN 2 ELSE 1 + (i / 10) % 9 END, 0, "
        "now() - (n - i) * interval '4 years' / n, now(), now()",
    ),
    "vote": (
        3.0,
        "id, editor, edit, vote, vote_time, superseded",
        "i, 10 + (random() * 999)::int, i * 10 / 3, i % 3 - 1, now() - (n - i) * interval '4 years' / n, i % 50 = 0",
    ),
    "edit_note": (0.5, "id, editor, edit, text", "i, 10 + i % 999, i, 'some note'"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What counting and searching names cost.")
    parser.add_argument("--artists", type=int, default=40_000, help="artists, with all else (default: 40000)")
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        with ops.stack.start(Path(home), redis=False, durable=False, progress=say) as stack:
            ops.stack.ensure_musicbrainz(stack, database="musicbrainz", progress=say)
            url = stack.database_url("musicbrainz")
            capture.install(url)
            with psycopg.connect(url, autocommit=True) as connection:
                fill(connection, asked.artists)

                def connect() -> "nullcontext[psycopg.Connection[Any]]":
                    return nullcontext(connection)

                counts = {survey.name: count(PostgresCounts(connect), survey.name) for survey in SURVEYS}
                found = [search(PostgresNames(connect), *each) for each in names()]
    report(
        {
            "artists": asked.artists,
            "counts_s": sum(counts.values()),
            "slowest_count_s": max(counts.values()),
            "searches": len(found),
            "slowest_ms": max(took for took, _ in found),
            "incomplete": sum(complete is False for _, complete in found),
            "refused": sum(complete is None for _, complete in found),
        }
    )


def fill(connection: "psycopg.Connection[tuple[object, ...]]", artists: int) -> None:
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET search_path = musicbrainz, public")
    connection.execute("SET maintenance_work_mem = '512MB'")
    for table, (each, columns, values) in TABLES.items():
        n = int(artists * each)
        say(f"Filling {table} with {n:,} rows.")
        # Made anew afterwards, which is much quicker.
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            (table,),
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        connection.execute(f"TRUNCATE {table} CASCADE".encode())
        rows = f"FROM (VALUES ({n})) AS asked (n), generate_series(1, {n}) AS i"
        connection.execute(f"INSERT INTO {table} ({columns}) SELECT {values} {rows}".encode())
        for _, definition in indexes:
            connection.execute(str(definition).encode())
        connection.execute(f"VACUUM (ANALYZE) {table}".encode())


def count(counts: PostgresCounts, survey: str) -> float:
    """Seconds."""
    began = time.perf_counter()
    try:
        counts.count(survey, seconds=SURVEY_SECONDS)
    except CountFailedError as error:
        say(f"{survey:15} {error}")
    else:
        say(f"{survey:15} {time.perf_counter() - began:8.2f} s")
    return time.perf_counter() - began


def word(rank: int) -> str:
    """As PostgreSQL makes them."""
    return md5(str(rank).encode()).hexdigest()[:5].translate(str.maketrans("0123456789", "ghijklmnop"))


def names() -> list[tuple[str, str]]:
    """Types and names: of the commonest words and of rare ones, of what many are called and what nobody is."""
    found = []
    for entity_type in ("recording", "release", "release_group", "work", "artist"):
        for ranks in RANKS:
            found.append((entity_type, " ".join(map(word, ranks))))
        found += [(entity_type, "[untitled]"), (entity_type, "Nobody is called so"), (entity_type, "?")]
    return found


def search(names: PostgresNames, entity_type: str, name: str) -> tuple[float, bool | None]:
    """Milliseconds, and whether the answer says that it is all; None without one."""
    began = time.perf_counter()
    complete, number = None, 0
    try:
        answer = names.named(entity_type, normalised(entity_type, name), limit=MOST)
        complete, number = answer.complete, len(answer.found)
    except (psycopg.Error, MbeventsError) as error:
        say(type(error).__name__)
    took = 1000 * (time.perf_counter() - began)
    say(f"{entity_type:15} {name:30} {took:8.1f} ms, {number} found, complete: {complete}")
    return took, complete


if __name__ == "__main__":
    main()
