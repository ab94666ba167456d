"""Packets out of a real master."""

from tests.integration.workers.replication.export.support import Master
from workers.replication.packet import names


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
    assert master.value("SELECT count(*) FROM dbmirror2.pending_data") == 0
    assert master.value("SELECT count(*) FROM dbmirror2.pending_ts") == 0
    assert master.value("SELECT count(*) FROM mbevents.tick_snapshot") == 0
    assert list(master.members(1)) == [
        names.TIMESTAMP, names.COPYING, names.README, names.REPLICATION_SEQUENCE, names.SCHEMA_SEQUENCE,
        names.DBMIRROR_VERSION, names.MANIFEST, names.PENDING_DATA, names.PENDING_KEYS, names.PENDING_TS,
    ]  # fmt: skip
