"""Whatever order transactions had, every reader applies a packet's in the order in which they were committed."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from itertools import groupby, pairwise
from operator import attrgetter
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.workers.replication.export.support import RENAME, Master, Row
from workers.replication.export.core import CONTROL
from workers.replication.packet import names

Reader = Callable[[list[Row]], Iterable[list[Row]]]


def by_xid(rows: list[Row]) -> Iterable[list[Row]]:
    """As mbslave does."""
    return [list(group) for _, group in groupby(sorted(rows, key=attrgetter("xid", "seqid")), attrgetter("xid"))]


def by_last_seqid(rows: list[Row]) -> Iterable[list[Row]]:
    """As MusicBrainz Server does."""
    return sorted(by_xid(rows), key=lambda transaction: transaction[-1].seqid)


def as_it_lies(rows: list[Row]) -> Iterable[list[Row]]:
    return [list(group) for _, group in groupby(rows, attrgetter("xid"))]


READERS = [by_xid, by_last_seqid, as_it_lies]


def agreed(rows: list[Row]) -> None:
    """All readers see the same transactions in the same order, with their rows in the order of the numbers."""
    assert len(list(as_it_lies(rows))) == len({row.xid for row in rows})
    assert list(by_xid(rows)) == list(by_last_seqid(rows)) == list(as_it_lies(rows))
    assert len({row.seqid for row in rows}) == len(rows)
    for transaction in as_it_lies(rows):
        assert all(first.seqid < second.seqid for first, second in pairwise(transaction))


def names_of(rows: list[Row]) -> list[str]:
    return [row.new["name"] for row in rows if row.new is not None and row.table == "musicbrainz.artist"]


def test_a_long_transaction_with_a_low_id_that_commits_late_comes_late(master: Master) -> None:
    first, second = master.artists(2)
    with master.connect() as quick, psycopg.connect(master.url) as slow:
        slow.execute("UPDATE artist SET name = 'slow 1' WHERE id = %s", (first,))
        quick.execute("UPDATE artist SET name = 'quick 1' WHERE id = %s", (second,))
        quick.execute("UPDATE artist SET name = 'quick 2' WHERE id = %s", (second,))
        slow.execute("UPDATE artist SET name = 'slow 2' WHERE id = %s", (first,))
        slow.commit()
    master.export()
    rows = master.rows(1)
    assert names_of(rows) == ["quick 1", "quick 2", "slow 1", "slow 2"]
    agreed(rows)


def test_where_the_numbers_contradict_the_ticks_both_are_given_out_anew(master: Master) -> None:
    first, second = master.artists(2)
    with master.connect() as quick, psycopg.connect(master.url) as slow:
        slow.execute("UPDATE artist SET name = 'slow' WHERE id = %s", (first,))
        quick.execute("UPDATE artist SET name = 'quick' WHERE id = %s", (second,))
        master.bridge.drain()
        numbers = [row[0] for row in quick.execute("SELECT seqid FROM dbmirror2.pending_data").fetchall()]
        slow.commit()
    master.export()
    rows = master.rows(1)
    assert names_of(rows) == ["quick", "slow"]
    agreed(rows)
    # The same numbers as before, but for those of the last change.
    assert rows[1].seqid == numbers[0]
    assert rows[0].seqid < rows[1].seqid
    times = [line.split(b"\t") for line in master.members(1)[names.PENDING_TS].splitlines()]
    assert [int(line[0]) for line in times] == [row.xid for row in rows]
    # The time of a transaction stays its own.
    assert times[0][1] > times[1][1]


def test_transactions_that_agree_keep_their_numbers(master: Master) -> None:
    with master.connect() as connection:
        for artist in master.artists(3):
            connection.execute(RENAME, (artist,))
        captured = connection.execute("SELECT seqid, xid FROM dbmirror2.pending_data ORDER BY seqid").fetchall()
    master.export()
    assert [(row.seqid, row.xid) for row in master.rows(1)[:-1]] == captured


def test_a_transaction_that_outlives_a_packet_is_in_the_next(master: Master) -> None:
    first, second = master.artists(2)
    with psycopg.connect(master.url) as slow:
        slow.execute("UPDATE artist SET name = 'slow' WHERE id = %s", (first,))
        master.rename(second)
        master.export()
        slow.execute("UPDATE artist SET name = 'slower' WHERE id = %s", (first,))
        slow.commit()
    master.rename(second)
    master.export()
    assert len(master.rows(1)) == 2
    assert len(names_of(master.rows(2))) == 3
    agreed(master.rows(2))
    assert master.left() == (0, 0, 0)


@pytest.mark.parametrize("reader", READERS)
def test_a_swap_of_unique_values_over_two_transactions_is_applied_by_every_reader(
    captured: str, clone: Callable[[str], str], captured_template: str, master: Master, reader: Reader
) -> None:
    mirror = clone(captured_template)
    release, (low, high) = discs(master)
    for url in (captured, mirror):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE medium SET position = position + 100 WHERE release = %s", (release,))
    master.export()
    with master.connect() as first, psycopg.connect(captured) as second:
        second.execute("SET CONSTRAINTS ALL DEFERRED")
        # Positions of one release are unique, but here only at the end of a transaction: the second takes the place of
        # one that is still there, with a lower id and lower numbers, and commits when the first has made room.
        second.execute("UPDATE medium SET position = 102 WHERE id = %s", (low,))
        first.execute("UPDATE medium SET position = 103 WHERE id = %s", (high,))
        master.bridge.drain()
        second.commit()
    (published,) = master.export()
    rows = master.rows(published.sequence)
    agreed(rows)
    apply(mirror, reader([row for row in rows if row.table != CONTROL]), keys_of(master.members(published.sequence)))
    assert positions(mirror, release) == positions(captured, release) == {low: 102, high: 103}


def discs(master: Master) -> tuple[int, list[int]]:
    """A release with two media, at 1 and 2 in every clone of the template."""
    with master.connect() as connection:
        for row in connection.execute(
            "SELECT release, array_agg(id ORDER BY position) FROM medium GROUP BY release HAVING count(*) = 2"
        ).fetchall():
            return row[0], row[1]
    raise AssertionError("the sample data have no release with two media")


def positions(url: str, release: int) -> dict[int, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT id, position FROM medium WHERE release = %s", (release,)).fetchall())


def test_any_history_is_applied_by_every_reader(
    captured: str, clone: Callable[[str], str], captured_template: str, master: Master
) -> None:
    mirrors = {reader: clone(captured_template) for reader in READERS}
    random = Random(3)
    artists = master.artists(6)
    packets = 0
    with ExitStack() as closing:
        editors = [closing.enter_context(psycopg.connect(captured)) for _ in range(4)]
        for step in range(250):
            editor, artist = random.choice(editors), random.choice(artists)
            action = random.choices(["change", "commit", "roll back", "tick", "export"], [10, 5, 1, 2, 0.3])[0]
            if action == "change":
                change(editor, artist, step, random)
            elif action == "commit":
                editor.commit()
            elif action == "roll back":
                editor.rollback()
            else:
                master.bridge.drain()
                packets += len(master.exporter().export()) if action == "export" else 0
        for editor in editors:
            editor.commit()
    packets += len(master.export())
    assert packets >= 4
    for number in range(1, packets + 1):
        rows, keys = master.rows(number), keys_of(master.members(number))
        agreed(rows)
        for reader, mirror in mirrors.items():
            apply(mirror, reader([row for row in rows if row.table != CONTROL]), keys)
    for mirror in mirrors.values():
        assert content(mirror) == content(captured)
    assert master.left() == (0, 0, 0)


def change(editor: "psycopg.Connection[Any]", artist: int, step: int, random: Random) -> None:
    """A change of one artist, unless another transaction is at it."""
    with suppress(psycopg.errors.LockNotAvailable), editor.transaction():
        editor.execute("SELECT FROM artist WHERE id = %s FOR UPDATE NOWAIT", (artist,))
        ipi = f"{random.randrange(4):011}"
        if random.random() < 0.5:
            editor.execute("UPDATE artist SET comment = %s WHERE id = %s", (f"step {step}", artist))
        elif editor.execute("DELETE FROM artist_ipi WHERE artist = %s AND ipi = %s", (artist, ipi)).rowcount == 0:
            editor.execute("INSERT INTO artist_ipi (artist, ipi) VALUES (%s, %s)", (artist, ipi))


def content(url: str) -> tuple[list[Any], list[Any]]:
    with psycopg.connect(url) as connection:
        return (
            connection.execute("SELECT id, name, comment FROM artist ORDER BY id").fetchall(),
            connection.execute("SELECT artist, ipi, edits_pending FROM artist_ipi ORDER BY artist, ipi").fetchall(),
        )


def keys_of(members: dict[str, bytes]) -> dict[str, list[str]]:
    lines = [line.decode().split("\t") for line in members[names.PENDING_KEYS].splitlines()]
    return {table: keys.strip("{}").split(",") for table, keys in lines}


def apply(url: str, transactions: Iterable[list[Row]], keys: dict[str, list[str]]) -> None:
    """One after the other, a row at a time, as a simple mirror would."""
    with psycopg.connect(url, autocommit=True) as connection:
        for transaction in transactions:
            with connection.transaction():
                connection.execute("SET CONSTRAINTS ALL DEFERRED")
                for row in transaction:
                    assert connection.execute(*_statement(row, keys[row.table])).rowcount == 1


def _statement(row: Row, keys: list[str]) -> tuple[sql.Composed, list[Any]]:
    table = sql.Identifier(*row.table.split("."))
    old, new = row.old or {}, row.new or {}
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(key)) for key in keys)
    key = [old.get(column) for column in keys]
    if row.op == "d":
        return sql.SQL("DELETE FROM {} WHERE {}").format(table, where), key
    columns = sql.SQL(", ").join(map(sql.Identifier, new))
    if row.op == "i":
        values = sql.SQL(", ").join([sql.Placeholder()] * len(new))
        return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, columns, values), [*new.values()]
    values = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in new)
    return sql.SQL("UPDATE {} SET {} WHERE {}").format(table, values, where), [*new.values(), *key]
