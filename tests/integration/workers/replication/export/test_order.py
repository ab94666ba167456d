"""Whatever order transactions had, every reader applies a packet's in the order in which they were committed."""

from collections.abc import Callable, Iterable
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.workers.replication.export.support import RENAME, Master, Row

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
    times = [line.split(b"\t") for line in master.members(1)["mbdump/pending_ts"].splitlines()]
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
    captured: str, clone: Callable[[str], str], captured_template: str, tmp_path: Path, master: Master, reader: Reader
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
    apply(mirror, reader([row for row in rows if row.table != "musicbrainz.replication_control"]))
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


def apply(url: str, transactions: Iterable[list[Row]]) -> None:
    """Updates, a transaction each, as a simple mirror would."""
    with psycopg.connect(url, autocommit=True) as connection:
        for transaction in transactions:
            with connection.transaction():
                connection.execute("SET CONSTRAINTS ALL DEFERRED")
                for row in transaction:
                    assert row.op == "u"
                    _update(connection, row.table, row.old or {}, row.new or {})


def _update(connection: "psycopg.Connection[Any]", table: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = {column: value for column, value in new.items() if old[column] != value}
    values = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in changed)
    statement = sql.SQL("UPDATE {} SET {} WHERE id = %s").format(sql.Identifier(*table.split(".")), values)
    assert connection.execute(statement, [*changed.values(), old["id"]]).rowcount == 1
