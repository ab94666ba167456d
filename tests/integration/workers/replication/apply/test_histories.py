"""Any history on a master leaves its mirrors equal: one that reads version 2, and one that reads version 1."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.stack import Stack
from tests.conftest import make_clone
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.export.support import Master
from tests.integration.workers.replication.support import differing
from workers.replication.apply.options import ApplyOptions
from workers.replication.apply.service import apply_packet
from workers.replication.apply.source import open_source
from workers.replication.packet.names import packet_name

FIRST = 900_000
ROWS = 4
ROW = st.integers(FIRST, FIRST + ROWS - 1)
TEXT = st.sampled_from(
    ["plain", "None", "\\N", "tab\there", "line\nbreak", "back\\slash", 'it\'s "quoted"', "héλ𝄞", ""]
)

# Statements with the row (a), another one (b) and a text (t). Those that the master refuses change nothing there.
STATEMENTS = {
    "make artist": "INSERT INTO artist (id, gid, name, sort_name, comment) "
    "VALUES (%(a)s, gen_random_uuid(), %(t)s || '.', 'x', %(t)s)",
    "rename artist": "UPDATE artist SET name = %(t)s || '!', begin_date_year = begin_date_year + 1 WHERE id = %(a)s",
    "delete artist": "WITH meta AS (DELETE FROM artist_meta WHERE id = %(a)s), "
    "tags AS (DELETE FROM artist_tag WHERE artist = %(a)s), "
    "isni AS (DELETE FROM artist_isni WHERE artist = %(a)s) DELETE FROM artist WHERE id = %(a)s",
    "swap gids": "UPDATE artist SET gid = overlay(gid::text placing 'ffff' from 1 for 4)::uuid "
    "WHERE id IN (%(a)s, %(b)s)",
    "move key": "UPDATE artist_isni SET isni = lpad(%(b)s::text, 16, '0') WHERE artist = %(a)s",
    "make isni": "INSERT INTO artist_isni (artist, isni) VALUES (%(a)s, lpad(%(b)s::text, 16, '1'))",
    "move owner": "UPDATE artist_isni SET artist = %(b)s WHERE artist = %(a)s",
    "tag": "INSERT INTO tag (id, name) VALUES (%(a)s, %(t)s || %(b)s)",
    "use tag": "INSERT INTO artist_tag (artist, tag, count) VALUES (%(a)s, %(b)s, 1)",
    "change tag": "UPDATE artist_tag SET tag = %(b)s, count = count + 1 WHERE artist = %(a)s",
    "drop tag": "DELETE FROM tag WHERE id = %(a)s",
    # An array, a point, a time, an enum, a "char"-like code, a composite of nothing: the schema's odd types.
    "disc": "INSERT INTO cdtoc (id, discid, freedb_id, track_count, leadout_offset, track_offset) "
    "VALUES (%(a)s, lpad(%(b)s::text, 27, '_') || '-', 'abcdef01', 2, 20000, ARRAY[150, %(b)s - 899990])",
    "change disc": "UPDATE cdtoc SET track_offset = track_offset || 19000 WHERE id = %(a)s",
    "place": "INSERT INTO place (id, gid, name, coordinates) "
    "VALUES (%(a)s, gen_random_uuid(), 'p' || %(t)s, point(1.5, -%(b)s / 1000000.0))",
    "event": "INSERT INTO event (id, gid, name, time) VALUES (%(a)s, gen_random_uuid(), 'e' || %(t)s, '20:15')",
    "drop event": "WITH meta AS (DELETE FROM event_meta WHERE id = %(a)s) DELETE FROM event WHERE id = %(a)s",
    "statistic": "INSERT INTO statistics.statistic (id, name, value) VALUES (%(a)s, %(t)s, 2147483647)",
    "statistic event": "INSERT INTO statistics.statistic_event (date, title, link, description) "
    "VALUES ('2020-01-01'::date + (%(a)s - 900000), %(t)s, 'x', 'x')",
    "wikidocs": "INSERT INTO wikidocs.wikidocs_index (page_name, revision) VALUES (%(t)s || %(a)s, 1)",
    "revise": "UPDATE wikidocs.wikidocs_index SET revision = revision + 1",
    "cover": "INSERT INTO cover_art_archive.art_type (id, name, gid) VALUES (%(a)s, %(t)s, gen_random_uuid())",
    "parent": "UPDATE cover_art_archive.art_type SET parent = %(b)s, child_order = 3 WHERE id = %(a)s",
    "uncover": "DELETE FROM cover_art_archive.art_type WHERE id = %(a)s",
}
OPERATION = st.tuples(st.sampled_from(sorted(STATEMENTS)), ROW, ROW, TEXT)
REFUSED = (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.RaiseException)
HISTORY = st.lists(st.lists(OPERATION, min_size=1, max_size=6), min_size=1, max_size=8)


@dataclass(repr=False)
class Pair:
    """A master with what is needed to export, and two mirrors by the version that each reads."""

    master: Master
    connection: Connection
    mirrors: dict[int, Connection]
    number: int = 0


@pytest.fixture(scope="module")
def pair(
    stack: Stack, master_template: str, mirror_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    # One for all examples: each history goes on where the last one ended.
    urls = [stack.database_url(make_clone(stack, each)) for each in (master_template, mirror_template, mirror_template)]
    with contextlib.ExitStack() as opened:
        master, modern, legacy = [opened.enter_context(psycopg.connect(url, autocommit=True)) for url in urls]
        yield Pair(Master(urls[0], tmp_path_factory.mktemp("packets")), master, {2: modern, 1: legacy})


def play(connection: Connection, history: list[list[tuple[str, int, int, str]]]) -> None:
    for transaction in history:
        with connection.transaction():
            for name, one, other, text in transaction:
                with contextlib.suppress(*REFUSED), connection.transaction():
                    connection.execute(STATEMENTS[name], {"a": one, "b": other, "t": text})


def told(connection: Connection) -> list[tuple[object, ...]]:
    """All events, but for the packets' own."""
    query = "SELECT type, subject, time, data FROM mbevents.event WHERE type NOT LIKE %s ORDER BY position"
    return connection.execute(query, ("%.packet.%",)).fetchall()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY)
def test_any_history_leaves_master_and_mirrors_equal(
    pair: Pair, history: list[list[tuple[str, int, int, str]]]
) -> None:
    play(pair.connection, history)
    published = pair.master.export()
    if not published:
        return
    pair.number += 1
    for version, mirror in pair.mirrors.items():
        packet = pair.master.store.folder / packet_name(pair.number, version)
        # A chunk of few changes ends in the middle of a history.
        apply_packet(mirror, open_source(packet), ApplyOptions(events="mb://mirror", chunk=3))
        assert differing(pair.connection, mirror) == []
    assert told(pair.mirrors[2]) == told(pair.connection)
