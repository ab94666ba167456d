"""Packets out of a real master."""

import re
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from events.errors import MbeventsError
from events.log import service as event_log
from producers.capture.service import install
from schemas.packet import PacketPublished
from schemas.replication import Manifest
from tests.integration.producers.capture.support import install_dbmirror2
from tests.integration.workers.replication.export.conftest import begin
from tests.integration.workers.replication.export.support import Master, read_rows
from workers.replication.export.adapters import opened
from workers.replication.export.service import ExportRunsError
from workers.replication.packet import copytext, names, v1
from workers.replication.packet.archive import PacketReader


def test_a_change_is_in_the_next_packet_and_off_the_database(master: Master) -> None:
    (artist,) = master.artists(1)
    master.rename(artist)
    (published,) = master.export()
    assert (published.sequence, published.transactions, published.changes) == (1, 2, 2)
    change, control = master.rows(1)
    assert (change.table, change.op) == ("musicbrainz.artist", "u")
    assert change.old is not None
    assert change.new is not None
    assert change.new["name"] == change.old["name"] + "!"
    assert (control.table, control.op) == ("musicbrainz.replication_control", "u")
    assert control.seqid > change.seqid
    assert control.xid > change.xid
    assert control.old is not None
    assert control.new is not None
    assert (control.old["current_replication_sequence"], control.new["current_replication_sequence"]) == (0, 1)
    assert master.value("SELECT current_replication_sequence FROM replication_control") == 1
    assert master.left() == (0, 0, 0)


def test_members_and_their_text_are_as_the_importers_know_them(master: Master) -> None:
    (artist,) = master.artists(1)
    master.rename(artist)
    master.export()
    new, old = master.members(1), master.members(1, 1)
    common = [names.TIMESTAMP, names.COPYING, names.README, names.REPLICATION_SEQUENCE, names.SCHEMA_SEQUENCE]
    tables = [names.PENDING_DATA, names.PENDING_KEYS, names.PENDING_TS]
    assert [name for name in new if name != names.MANIFEST] == [*common, names.DBMIRROR_VERSION, *tables]
    assert [name for name in old if name != names.MANIFEST] == [
        *common, names.DBMIRROR_PENDING, names.DBMIRROR_PENDINGDATA,
    ]  # fmt: skip
    assert {name: old[name] for name in common} == {name: new[name] for name in common}
    time = new[names.TIMESTAMP].decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00\n", time)
    assert new[names.REPLICATION_SEQUENCE] == b"1\n"
    assert new[names.SCHEMA_SEQUENCE] == b"31\n"
    assert new[names.DBMIRROR_VERSION] == b"2\n"
    change, control = master.rows(1)
    assert new[names.PENDING_KEYS] == b"musicbrainz.artist\t{id}\nmusicbrainz.replication_control\t{id}\n"
    times = new[names.PENDING_TS].decode().splitlines()
    assert [line.split("\t")[0] for line in times] == [str(change.xid), str(control.xid)]
    assert times[1].split("\t")[1] + "\n" == time
    assert old[names.DBMIRROR_PENDING].decode() == (
        f'{change.seqid}\t"musicbrainz"."artist"\tu\t{change.xid}\n'
        f'{control.seqid}\t"musicbrainz"."replication_control"\tu\t{control.xid}\n'
    )
    key, row, control_key, control_row = (
        copytext.decode(line) for line in old[names.DBMIRROR_PENDINGDATA].splitlines()
    )
    assert key == [b"%d" % change.seqid, b"t", b"\"id\"='%d' " % artist]
    assert row[:2] == [b"%d" % change.seqid, b"f"]
    assert row[2] is not None
    values = v1.decode(row[2])
    assert change.new is not None
    assert list(values) == list(change.new)
    assert values["name"] == change.new["name"].encode()
    assert (values["ended"], values["begin_date_month"], values["edits_pending"]) == (b"f", None, b"0")
    assert control_key[2] == b"\"id\"='1' "
    assert control_row[2] is not None
    assert v1.decode(control_row[2])["current_replication_sequence"] == b"1"


def test_the_manifest_tells_the_sums_and_counts_of_the_rest(master: Master) -> None:
    first, second = master.artists(2)
    master.rename(first)
    master.export()
    with master.connect() as editor:
        editor.execute("UPDATE artist SET name = name || '?' WHERE id IN (%s, %s)", (first, second))
        editor.execute("INSERT INTO artist_ipi (artist, ipi) VALUES (%s, '00000000001')", (first,))
    (published,) = master.export()
    for version in (1, 2):
        members = master.members(2, version)
        manifest = Manifest.model_validate_json(members.pop(names.MANIFEST))
        assert manifest.sha256 == {name: sha256(data).hexdigest() for name, data in members.items()}
        assert (manifest.replication_sequence, manifest.schema_sequence) == (2, 31)
        assert manifest.tables["musicbrainz.artist"] == {"u": 2}
        assert manifest.tables["musicbrainz.artist_ipi"] == {"i": 1}
        assert (manifest.transactions, manifest.changes) == (published.transactions, published.changes)
        assert manifest.changes == sum(sum(each.values()) for each in manifest.tables.values())
        with master.connect() as connection:
            events = event_log.read(connection, after=manifest.first_position - 1, limit=99)
        told = {event.data["id"] for event in events if event.sequence <= manifest.last_position and "id" in event.data}
        assert told == {first, second}


def test_a_published_packet_is_an_event_with_its_files(master: Master) -> None:
    master.rename(master.artists(1)[0])
    (published,) = master.export()
    master.bridge.drain()
    (body,) = master.publisher.bodies("packet.published")
    assert body["subject"] == "packet/1"
    told = PacketPublished.model_validate(body["data"])
    assert (told.number, told.schema_sequence, told.changes, told.transactions) == (1, 31, 2, 2)
    files = master.store.there()
    assert {file.name: file.size_bytes for file in told.files} == {name: len(data) for name, data in files.items()}
    assert {file.sha256 for file in told.files} == {sha256(data).hexdigest() for data in files.values()}
    assert told.exported_at == published.exported_at


def test_where_nothing_has_changed_there_is_no_packet(master: Master) -> None:
    assert master.export() == []
    master.rename(master.artists(1)[0])
    assert len(master.export()) == 1
    assert master.export() == []
    assert master.value("SELECT current_replication_sequence FROM replication_control") == 1


def test_what_the_bridge_has_not_seen_stays_for_the_next_packet(master: Master) -> None:
    first, second = master.artists(2)
    master.rename(first)
    master.bridge.drain()
    master.rename(second)
    assert [packet.changes for packet in master.exporter().export()] == [2]
    assert master.value("SELECT count(*) FROM dbmirror2.pending_data") == 1
    assert [packet.changes for packet in master.export()] == [2]
    assert [row.new and row.new["id"] for row in master.rows(2)] == [second, 1]


def test_what_is_committed_while_a_packet_is_built_is_the_next_ones(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = master.artists(2)
    master.rename(first)
    put = master.store.put

    def edited_meanwhile(name: str, path: Path) -> None:
        master.rename(second)
        master.bridge.drain()
        put(name, path)

    monkeypatch.setattr(master.store, "put", edited_meanwhile)
    assert [packet.changes for packet in master.export()] == [2]
    monkeypatch.undo()
    master.export()
    assert [row.new["id"] for row in master.rows(2) if row.new and row.table.endswith("artist")] == [second, second]


def test_nothing_private_is_in_either_packet(master: Master) -> None:
    secrets = ("me@example.org", "{BLOWFISH}secret", "hidden-hash", "my-biography")
    with master.connect() as connection:
        connection.execute(
            "INSERT INTO editor (id, name, email, password, ha1, bio) VALUES (700, 'SomeEditor', %s, %s, %s, %s)",
            secrets,
        )
        connection.execute("UPDATE editor SET name = 'OtherEditor' WHERE id = 700")
        connection.execute("UPDATE recording_first_release_date SET year = 1999")
    assert master.export() == []
    master.rename(master.artists(1)[0])
    master.export()
    everything = b"".join(data for version in (1, 2) for data in master.members(1, version).values())
    for word in (*secrets, "SomeEditor", "OtherEditor", "musicbrainz.editor", "first_release_date", "CLEARTEXT"):
        assert word.encode() not in everything
    assert {row.table for row in master.rows(1)} == {"musicbrainz.artist", "musicbrainz.replication_control"}
    # They wait for nobody else.
    assert master.left() == (0, 0, 0)


def test_where_replication_has_not_begun_the_first_export_begins_it(captured: str, tmp_path: Path) -> None:
    master = Master(captured, tmp_path)
    master.rename(master.artists(1)[0])
    assert master.export() == []
    assert master.value("SELECT current_replication_sequence FROM replication_control") == 0
    assert master.left()[:2] == (0, 0)
    master.rename(master.artists(1)[0])
    assert [packet.sequence for packet in master.export()] == [1]


def test_a_capture_that_is_not_ours_is_exported_all_the_same(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        install_dbmirror2(connection)
        install(connection, replication_type="RT_MASTER")
    begin(database)
    master = Master(database, tmp_path)
    master.rename(master.artists(1)[0])
    (published,) = master.export()
    assert published.changes == 2
    assert [row.op for row in master.rows(1)] == ["u", "u"]
    assert master.left() == (0, 0, 0)
    assert master.export() == []


def test_numbers_beyond_four_bytes_are_kept_and_fit_into_version_1(master: Master) -> None:
    with master.connect() as connection:
        connection.execute("SELECT setval('dbmirror2.pending_data_seqid_seq', %s)", (2**31 + 5,))
        with connection.transaction():
            for artist in master.artists(2):
                connection.execute("UPDATE artist SET name = name || '!' WHERE id = %s", (artist,))
    master.export()
    rows = master.rows(1)
    assert [row.seqid - 2**31 for row in rows] == [6, 7, 8]
    pending = [line.split(b"\t") for line in master.members(1, 1)[names.DBMIRROR_PENDING].splitlines()]
    assert [line[0] for line in pending] == [b"1", b"2", b"3"]
    data = [line.split(b"\t")[0] for line in master.members(1, 1)[names.DBMIRROR_PENDINGDATA].splitlines()]
    assert data == [b"1", b"1", b"2", b"2", b"3", b"3"]


def test_two_exports_at_once_are_one(master: Master) -> None:
    master.rename(master.artists(1)[0])
    master.bridge.drain()
    with opened(master.url) as outbox:
        assert outbox is not None
        with pytest.raises(ExportRunsError, match="Another export runs"):
            master.exporter().export()
    assert len(master.exporter().export()) == 1


@pytest.mark.parametrize("which", range(4))
def test_an_export_that_fails_goes_on_with_the_same_bytes(master: Master, which: int, tmp_path: Path) -> None:
    class Fixed:
        def sign(self, path: Path, signature: Path) -> None:
            signature.write_text(f"signature of {path.name}")

    master.signer = Fixed()
    first, second = master.artists(2)
    master.rename(first)
    files = [
        "replication-1-v2.tar.bz2.asc",
        "replication-1.tar.bz2.asc",
        "replication-1-v2.tar.bz2",
        "replication-1.tar.bz2",
    ]
    master.store.refuses = files[which]
    with pytest.raises(MbeventsError, match="The store is full"):
        master.export()
    assert master.store.names == files[:which]
    known = master.value("SELECT files FROM mbevents.packet")
    master.store.refuses = None
    master.rename(second)
    if which % 2:
        # Built again: on another machine, say.
        for path in (tmp_path / "spool").iterdir():
            path.unlink()
    one, two = master.export()
    assert (one.sequence, one.changes, two.sequence, two.changes) == (1, 2, 2, 2)
    assert master.store.names[which:] == [*files, *(name.replace("-1", "-2") for name in files)]
    there = master.store.there()
    assert [(each["name"], each["sha256"]) for each in known] == [
        (name, sha256(there[name]).hexdigest()) for name in files[2:]
    ]
    assert not (tmp_path / "spool").exists()


def test_somebody_else_who_moves_the_sequence_is_told(master: Master) -> None:
    master.rename(master.artists(1)[0])
    master.store.refuses = "replication-1.tar.bz2"
    with pytest.raises(MbeventsError, match="full"):
        master.export()
    master.store.refuses = None
    with master.connect() as connection:
        connection.execute("UPDATE replication_control SET current_replication_sequence = 7")
    with pytest.raises(MbeventsError, match="somebody else has changed"):
        master.export()
    assert master.value("SELECT count(*) FROM dbmirror2.pending_data") == 2


def test_a_row_with_everything_that_must_be_escaped_comes_through_both_versions(master: Master) -> None:
    name = "Tab\tnew\nline \\ back 'quote' \"double\" é 📜 \\N"
    with master.connect() as connection:
        connection.execute("UPDATE artist SET name = %s WHERE id = %s", (name, master.artists(1)[0]))
    master.export()
    (row, _) = read_rows(master.members(1)[names.PENDING_DATA])
    assert row.new is not None
    assert row.new["name"] == name
    data = copytext.decode(master.members(1, 1)[names.DBMIRROR_PENDINGDATA].splitlines()[1])[2]
    assert data is not None
    assert v1.decode(data)["name"] == name.encode()


def test_our_own_reader_takes_both_versions(master: Master) -> None:
    master.rename(master.artists(1)[0])
    master.export()
    for version in (1, 2):
        chunks = master.store.read(names.packet_name(1, version))
        with PacketReader(chunks) as reader:
            assert {member.name: member.read() for member in reader} == master.members(1, version)


def test_a_row_that_mirrors_would_not_take_is_told(master: Master, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(master.url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO statistics.statistic_event VALUES ('2020-01-01', 'a', 'b', repeat('x', 9000000))"
        )
    assert master.export()
    assert "row_too_large_for_mirrors" in capsys.readouterr().out
