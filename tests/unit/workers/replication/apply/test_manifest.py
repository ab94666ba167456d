"""Packets whose members are not those that their manifest tells of."""

import hashlib
from collections.abc import Mapping

import orjson
import pytest

from tests.unit.workers.replication.packet.making import cut, packet
from workers.replication.apply.source import PacketSource
from workers.replication.packet import names
from workers.replication.packet.archive import Limits
from workers.replication.packet.errors import PacketError

DATA = b'1\tmusicbrainz.artist\td\t7\t{"id":1}\t\\N\t\\N\t\\N\n'
HEAD = {
    names.TIMESTAMP: b"2026-05-11 21:14:26.878674+00\n",
    names.COPYING: b"Public domain.\n",
    names.REPLICATION_SEQUENCE: b"5\n",
    names.SCHEMA_SEQUENCE: b"31\n",
    names.DBMIRROR_VERSION: b"2\n",
}
TABLES = {names.PENDING_DATA: DATA, names.PENDING_TS: b"7\t2026-05-11 21:14:26+00\n"}


def manifest(sha256: Mapping[str, str] | None = None, **changed: object) -> bytes:
    told = {name: hashlib.sha256(data).hexdigest() for name, data in {**HEAD, **TABLES}.items()}
    return orjson.dumps(
        {
            "replication_sequence": 5,
            "schema_sequence": 31,
            "exported_at": "2026-05-11T21:14:26Z",
            "first_position": 1,
            "last_position": 2,
            "transactions": 1,
            "changes": 1,
            "tables": {"musicbrainz.artist": {"d": 1}},
            "sha256": told if sha256 is None else dict(sha256),
            "of_a_later_release": True,
        }
        | changed
    )


def source(told: bytes, **changed: bytes) -> PacketSource:
    members = {**HEAD, names.MANIFEST: told, **TABLES, **changed}
    data = packet(members.items())
    opened = PacketSource("P", lambda: cut(data), limits=Limits())
    opened.head()
    return opened


def read(opened: PacketSource) -> int:
    return sum(len(some) for some in opened.changes())


def test_a_packet_that_is_what_its_manifest_tells_is_read_as_often_as_needed() -> None:
    opened = source(manifest())
    assert [read(opened), read(opened)] == [1, 1]


@pytest.mark.parametrize("name", [*HEAD, *TABLES])
def test_a_member_that_is_another_is_refused(name: str) -> None:
    sums = {each: hashlib.sha256(data).hexdigest() for each, data in {**HEAD, **TABLES}.items()}
    opened = source(manifest({**sums, name: "0" * 64}))
    with pytest.raises(PacketError, match=r"is not what MANIFEST\.json tells of") as refused:
        read(opened)
    assert (refused.value.packet, refused.value.member) == ("P", name)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (manifest(replication_sequence=6), "is of packet 6 of schema 31, not of 5 of schema 31"),
        (manifest(schema_sequence=30), "is of packet 5 of schema 30"),
        (manifest({}), "does not tell of mbdump/pending_data"),
        (manifest(changes="many"), "changes is not as it should be"),
        (manifest(version=2), "version is not as it should be"),
        (b"{", "it is not as it should be"),
        (b"[]", "it is not as it should be"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(told: bytes, why: str) -> None:
    with pytest.raises(PacketError, match="MANIFEST") as refused:
        read(source(told))
    assert why in str(refused.value)


def test_a_member_that_is_missing_is_told() -> None:
    told = orjson.loads(manifest())
    told["sha256"][names.PENDING_KEYS] = "0" * 64
    with pytest.raises(PacketError, match="tells of 'mbdump/pending_keys', which is not there"):
        read(source(orjson.dumps(told)))


def test_members_that_nobody_knows_may_be_there() -> None:
    assert read(source(manifest(), **{"zzz/more": b"x" * 100_000})) == 1


def test_an_unknown_version_is_told_after_what_somebody_can_do_something_about() -> None:
    opened = source(manifest(), **{names.DBMIRROR_VERSION: b"3\n", names.SCHEMA_SEQUENCE: b"32\n"})
    assert opened.schema_sequence == 32
    with pytest.raises(PacketError, match="is of dbmirror version 3; 2 is known"):
        read(opened)
