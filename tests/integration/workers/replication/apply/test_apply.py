"""Packets as a master's real capture makes them, applied to a real mirror."""

from pathlib import Path

import psycopg
import pytest

from events.errors import VersionMismatchError
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.support import differing, export
from workers.replication.apply.options import ApplyOptions, DivergenceError
from workers.replication.apply.service import WrongSequenceError, apply_packet
from workers.replication.packet.errors import PacketError

EVENTS = ApplyOptions(events="mb://mirror")
NEW_ARTIST = "INSERT INTO artist (id, gid, name, sort_name) VALUES (%s, gen_random_uuid(), %s, 'x')"


def an_artist(connection: Connection, offset: int = 0) -> int:
    row = connection.execute("SELECT id FROM artist ORDER BY id LIMIT 1 OFFSET %s", (offset,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_mirror_follows_its_master(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    assert differing(master, mirror) == []
    first = an_artist(master)
    master.execute(
        "UPDATE artist SET name = 'Renamed', comment = E'tab\\there \\\\ \"quoted\"' WHERE id = %s", (first,)
    )
    master.execute(NEW_ARTIST, (900001, "None"))
    master.execute(NEW_ARTIST, (900002, "\\N"))
    with master.transaction():
        master.execute("UPDATE artist SET name = 'line\nbreak' WHERE id = 900001")
        master.execute("DELETE FROM artist_meta WHERE id = 900002")
        master.execute("DELETE FROM artist WHERE id = 900002")
    master.execute(NEW_ARTIST, (900002, "again"))
    applied = apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert applied.mode == "sets"
    assert differing(master, mirror) == []
    assert mirror.execute("SELECT current_replication_sequence FROM replication_control").fetchone() == (1,)


def test_the_tables_that_a_mirrors_triggers_keep_are_right(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    row = master.execute(
        "SELECT t.medium, m.release, r.release_group FROM track t JOIN medium m ON m.id = t.medium "
        "JOIN release r ON r.id = m.release ORDER BY t.id LIMIT 1"
    ).fetchone()
    assert row is not None
    _, release, group = row
    with master.transaction():
        master.execute("SET CONSTRAINTS ALL DEFERRED")
        master.execute(
            "INSERT INTO release (id, gid, name, artist_credit, release_group) "
            "SELECT 900001, gen_random_uuid(), 'New', artist_credit, release_group FROM release WHERE id = %s",
            (release,),
        )
        master.execute("INSERT INTO medium (id, gid, release, position) VALUES (900001, gen_random_uuid(), 900001, 1)")
        master.execute(
            "INSERT INTO track (id, gid, recording, medium, position, number, name, artist_credit) "
            "SELECT 900001, gen_random_uuid(), recording, 900001, 1, '1', 'New', artist_credit FROM track LIMIT 1"
        )
        master.execute("INSERT INTO release_unknown_country (release, date_year) VALUES (900001, 1901)")
    master.execute("UPDATE release_unknown_country SET date_year = 1902 WHERE release = 900001")
    apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert differing(master, mirror) == []
    with master.transaction():
        master.execute("DELETE FROM track WHERE id = 900001")
        master.execute("DELETE FROM medium WHERE id = 900001")
        master.execute("DELETE FROM release_unknown_country WHERE release = 900001")
        master.execute("DELETE FROM release_meta WHERE id = 900001")
        master.execute("DELETE FROM release WHERE id = 900001")
    apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert differing(master, mirror) == []
    assert group is not None


def test_events_are_in_the_log_with_the_times_of_their_transactions(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    artist = an_artist(master)
    with master.transaction():
        master.execute("UPDATE artist SET name = 'Renamed' WHERE id = %s", (artist,))
        row = master.execute("SELECT now(), gid, txid_current() FROM artist WHERE id = %s", (artist,)).fetchone()
    assert row is not None
    began, gid, xid = row
    applied = apply_packet(mirror, export(master, tmp_path), EVENTS)
    events = mirror.execute(
        "SELECT type, subject, time, xid, position FROM mbevents.event ORDER BY position"
    ).fetchall()
    assert applied.events == len(events)
    time = began.astimezone(tz=None).isoformat()
    assert events[0][:2] == ("org.musicbrainz.entity.updated.v1", f"artist/{gid}")
    assert events[0][3] == xid
    assert mirror.execute("SELECT %s::timestamptz = %s::timestamptz", (events[0][2], time)).fetchone() == (True,)
    assert events[-1][:2] == ("org.musicbrainz.packet.applied.v1", "packet/1")
    assert [event[4] for event in events] == list(range(1, len(events) + 1))
    assert mirror.execute("SELECT position FROM mbevents.head").fetchone() == (len(events),)
    assert mirror.execute("SELECT count(*) FROM mbevents.task WHERE actor = 'caches.invalidate'").fetchone() == (1,)


def test_unique_values_that_are_swapped_are_applied_one_by_one(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    one, two = an_artist(master), an_artist(master, 1)
    with master.transaction():
        master.execute(
            "CREATE TEMP TABLE swap ON COMMIT DROP AS SELECT id, gid FROM artist WHERE id IN (%s, %s)", (one, two)
        )
        master.execute("UPDATE artist SET gid = gen_random_uuid() WHERE id = %s", (one,))
        master.execute("UPDATE artist SET gid = (SELECT gid FROM swap WHERE id = %s) WHERE id = %s", (one, two))
        master.execute("UPDATE artist SET gid = (SELECT gid FROM swap WHERE id = %s) WHERE id = %s", (two, one))
    applied = apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert applied.mode == "one by one"
    assert "unique" in applied.why
    assert applied.events == 3
    assert differing(master, mirror) == []


def test_rows_come_in_any_order(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    artist = an_artist(master)
    for name in ("first", "second", "third"):
        master.execute("UPDATE artist SET name = %s WHERE id = %s", (name, artist))
    applied = apply_packet(mirror, export(master, tmp_path, order="seqid DESC"), EVENTS)
    assert applied.mode == "sets"
    assert differing(master, mirror) == []


def test_a_long_transaction_with_an_early_id_comes_in_its_place(
    master: Connection, mirror: Connection, master_url: str, tmp_path: Path
) -> None:
    one, two = an_artist(master), an_artist(master, 1)
    with psycopg.connect(master_url) as early:
        early.execute("UPDATE artist SET name = 'early' WHERE id = %s", (two,))
        master.execute("UPDATE artist SET name = 'late' WHERE id = %s", (one,))
        early.execute("UPDATE artist SET name = 'last' WHERE id = %s", (one,))
        early.commit()
    apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert differing(master, mirror) == []
    assert mirror.execute("SELECT name FROM artist WHERE id = %s", (one,)).fetchone() == ("last",)


@pytest.mark.parametrize("on_divergence", ["fail", "warn", "repair"])
def test_a_row_that_is_not_there_is_a_divergence(
    master: Connection, mirror: Connection, tmp_path: Path, on_divergence: str
) -> None:
    artist, other = an_artist(master), an_artist(master, 1)
    mirror.execute("DELETE FROM artist WHERE id = %s", (artist,))
    master.execute("UPDATE artist SET name = 'Renamed' WHERE id = %s", (artist,))
    master.execute("UPDATE artist SET name = 'Other' WHERE id = %s", (other,))
    packet = export(master, tmp_path)
    options = ApplyOptions(events="mb://mirror", on_divergence=on_divergence)  # type: ignore[arg-type]
    if on_divergence == "fail":
        with pytest.raises(DivergenceError, match=rf"musicbrainz\.artist, row id={artist}: is to be updated"):
            apply_packet(mirror, packet, options)
        assert mirror.execute("SELECT count(*) FROM artist WHERE name = 'Other'").fetchone() == (0,)
        assert mirror.execute("SELECT current_replication_sequence FROM replication_control").fetchone() == (0,)
        assert mirror.execute("SELECT count(*) FROM mbevents.event").fetchone() == (0,)
        return
    applied = apply_packet(mirror, packet, options)
    assert applied.diverged == 1
    assert [each.key for each in applied.divergences] == [f"id={artist}"]
    assert mirror.execute("SELECT count(*) FROM artist WHERE name = 'Other'").fetchone() == (1,)
    assert differing(master, mirror) == ([] if on_divergence == "repair" else ["musicbrainz.artist"])


def test_a_row_that_is_there_already_is_a_divergence(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    master.execute(NEW_ARTIST, (900001, "master's"))
    mirror.execute(NEW_ARTIST, (900001, "mirror's"))
    packet = export(master, tmp_path)
    with pytest.raises(DivergenceError, match="id=900001: is to be inserted, but is there already"):
        apply_packet(mirror, packet, EVENTS)
    applied = apply_packet(mirror, packet, ApplyOptions(on_divergence="repair"))
    assert applied.diverged == 1
    assert differing(master, mirror) == []


def test_a_packet_of_another_place_or_schema_is_refused(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    master.execute("UPDATE artist SET name = 'x' WHERE id = %s", (an_artist(master),))
    packet = export(master, tmp_path)
    apply_packet(mirror, packet, EVENTS)
    with pytest.raises(WrongSequenceError, match="the mirror is at 1"):
        apply_packet(mirror, packet, EVENTS)
    mirror.execute("UPDATE replication_control SET current_replication_sequence = 0, current_schema_sequence = 30")
    with pytest.raises(VersionMismatchError, match="schema 31, the mirror of schema 30"):
        apply_packet(mirror, packet, EVENTS)


def test_tables_that_are_not_kept_are_skipped_and_listed(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    mirror.execute("DROP TABLE statistics.statistic_event")
    master.execute("INSERT INTO statistics.statistic_event VALUES ('2020-01-01', 'a', 'b', 'c')")
    master.execute("UPDATE artist SET name = 'x' WHERE id = %s", (an_artist(master),))
    options = ApplyOptions(events="mb://mirror", wanted=lambda name: name != "musicbrainz.artist")
    applied = apply_packet(mirror, export(master, tmp_path), options)
    assert applied.skipped == {"statistics.statistic_event": 1, "musicbrainz.artist": 1}


def test_search_indexing_is_off_meanwhile_and_on_afterwards(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    mirror.execute("CREATE SCHEMA sir")
    mirror.execute("CREATE TABLE sir.control (id int PRIMARY KEY, indexing_enabled boolean NOT NULL)")
    mirror.execute("INSERT INTO sir.control VALUES (1, true)")
    mirror.execute("CREATE TABLE sir.seen (indexing boolean)")
    mirror.execute(
        "CREATE FUNCTION sir.see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO sir.seen SELECT indexing_enabled FROM sir.control; RETURN NULL; END $$"
    )
    mirror.execute("CREATE TRIGGER see AFTER UPDATE ON artist FOR EACH ROW EXECUTE FUNCTION sir.see()")
    master.execute("UPDATE artist SET name = 'x' WHERE id = %s", (an_artist(master),))
    apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert mirror.execute("SELECT indexing FROM sir.seen").fetchall() == [(False,)]
    assert mirror.execute("SELECT indexing_enabled FROM sir.control").fetchall() == [(True,)]


def test_a_table_that_nobody_knows_is_refused(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    master.execute(
        "INSERT INTO dbmirror2.pending_data (tablename, op, xid, newdata) "
        "VALUES ('musicbrainz.artist; DROP TABLE artist', 'i', txid_current(), '{\"id\": 1}')"
    )
    with pytest.raises(PacketError, match="DROP TABLE artist'"):
        apply_packet(mirror, export(master, tmp_path), EVENTS)
    assert differing(master, mirror) == ["musicbrainz.replication_control"]


TAG = '{"id": 910001, "name": "made twice", "ref_count": 0}'


def make_twice(master: Connection, seqids: tuple[str, str] = ("DEFAULT", "DEFAULT")) -> None:
    """A history that cannot have been."""
    for seqid in seqids:
        master.execute(
            "INSERT INTO dbmirror2.pending_data (seqid, tablename, op, xid, newdata) "
            f"VALUES ({seqid}, 'musicbrainz.tag', 'i', txid_current(), %s)",
            (TAG,),
        )


@pytest.mark.parametrize("order", ["seqid", "seqid DESC"])
@pytest.mark.parametrize("on_divergence", ["fail", "warn", "repair"])
def test_a_history_that_contradicts_itself_is_told_whatever_its_order(
    master: Connection, mirror: Connection, tmp_path: Path, on_divergence: str, order: str
) -> None:
    master.execute("UPDATE artist SET name = 'x' WHERE id = %s", (an_artist(master),))
    make_twice(master)
    packet = export(master, tmp_path, order=order)
    options = ApplyOptions(events="mb://mirror", on_divergence=on_divergence)  # type: ignore[arg-type]
    if on_divergence == "fail":
        with pytest.raises(DivergenceError, match="id=910001: is to be inserted, but is there already"):
            apply_packet(mirror, packet, options)
        assert mirror.execute("SELECT count(*) FROM tag WHERE id = 910001").fetchone() == (0,)
    else:
        assert apply_packet(mirror, packet, options).diverged == 1
        assert mirror.execute("SELECT count(*) FROM tag WHERE id = 910001").fetchone() == (1,)


def test_a_change_that_comes_twice_is_refused(master: Connection, mirror: Connection, tmp_path: Path) -> None:
    master.execute("ALTER TABLE dbmirror2.pending_data DROP CONSTRAINT pending_data_pkey")
    make_twice(master, ("900000", "900000"))
    with pytest.raises(PacketError, match="change 900000 is there twice"):
        apply_packet(mirror, export(master, tmp_path, order="seqid DESC"), EVENTS)


def test_a_row_that_comes_and_goes_in_one_packet_must_not_have_been_there(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    mirror.execute("INSERT INTO tag (id, name) VALUES (910001, 'stale')")
    master.execute("INSERT INTO tag (id, name) VALUES (910001, 'new')")
    master.execute("DELETE FROM tag WHERE id = 910001")
    packet = export(master, tmp_path)
    with pytest.raises(DivergenceError, match="id=910001: is to be inserted, but is there already"):
        apply_packet(mirror, packet, EVENTS)
    assert apply_packet(mirror, packet, ApplyOptions(on_divergence="repair")).diverged == 1
    assert differing(master, mirror) == []


def test_keys_of_the_packet_that_are_not_the_mirrors_are_refused(
    master: Connection, mirror: Connection, tmp_path: Path
) -> None:
    master.execute("UPDATE track SET name = 'x' WHERE id = (SELECT min(id) FROM track)")
    packet = export(master, tmp_path)
    mirror.execute("ALTER TABLE track DROP CONSTRAINT track_pkey")
    assert apply_packet(mirror, packet, EVENTS).mode == "sets"
    assert differing(master, mirror) == []
    mirror.execute("ALTER TABLE tag DROP CONSTRAINT tag_pkey")
    mirror.execute("ALTER TABLE tag ADD PRIMARY KEY (name)")
    master.execute("UPDATE tag SET name = name || '!' WHERE id = (SELECT min(id) FROM tag)")
    master.execute("INSERT INTO tag (id, name) VALUES (910001, 'new')")
    with pytest.raises(PacketError, match=r"its key of musicbrainz\.tag is \(id\), and the mirror's \(name\)"):
        apply_packet(mirror, export(master, tmp_path), EVENTS)


def test_transactions_that_overlap_are_made_as_they_come(
    master: Connection, mirror: Connection, master_url: str, tmp_path: Path
) -> None:
    one, other = an_artist(master), an_artist(master, 1)
    with psycopg.connect(master_url) as first:
        first.execute("UPDATE artist SET name = 'first' WHERE id = %s", (one,))
        with master.transaction():
            master.execute("UPDATE artist SET name = 'second' WHERE id = %s", (other,))
            first.execute("UPDATE artist SET comment = 'first' WHERE id = %s", (one,))
            first.commit()
            master.execute("UPDATE artist SET comment = 'second' WHERE id = %s", (one,))
    packet = export(master, tmp_path, order="xid, seqid")
    changes = [change for some in packet.changes() for change in some]
    assert [change.seqid for change in changes] != sorted(change.seqid for change in changes)
    applied = apply_packet(mirror, packet, EVENTS)
    assert applied.mode == "sets"
    assert differing(master, mirror) == []
