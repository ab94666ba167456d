import bz2
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.replication import Manifest
from workers.replication import inspection
from workers.replication.packet.archive import PacketWriter
from workers.replication.packet.copytext import encode
from workers.replication.packet.errors import PacketError

THEN = datetime(2026, 5, 11, 21, 14, tzinfo=UTC)
LARGE = '{"id": 12345678901234567890123, "ratio": 0.10000000000000000001, "name": "a\\tb"}'
DATA = [
    (b"1", b"musicbrainz.artist", b"i", b"7", None, LARGE.encode()),
    (b"2", b"musicbrainz.artist", b"u", b"7", b'{"id":1}', b'{"id":1}'),
    (b"3", b"musicbrainz.tag", b"d", b"8", b'{"id":1}', None),
]


def packet(**members: bytes) -> bytes:
    target = io.BytesIO()
    with PacketWriter(target, modified=THEN) as writer:
        for name, data in members.items():
            writer.add(name.replace("__", "/"), data)
    return target.getvalue()


def data(rows: Sequence[tuple[bytes | None, ...]]) -> bytes:
    return b"".join(encode((*row, None, None)) for row in rows)


def chunks(file: bytes) -> Iterator[bytes]:
    return (file[at : at + 1000] for at in range(0, len(file), 1000))


def look(file: bytes) -> inspection.Contents:
    return inspection.contents(chunks(file), packet="p")


def version_2(**more: bytes) -> bytes:
    return packet(TIMESTAMP=b"then\n", REPLICATION_SEQUENCE=b"5\n", **more, mbdump__pending_data=data(DATA))


def version_1() -> bytes:
    pending = b"".join(
        encode(row)
        for row in [(b"1", b'"musicbrainz"."artist"', b"i", b"7"), (b"2", b'"musicbrainz"."artist"', b"u", b"7")]
    )
    pendingdata = b"".join(
        encode(row)
        for row in [
            (b"2", b"t", b"\"id\"='1' "), (b"1", b"f", b"\"id\"='1' \"name\"= "),
            (b"2", b"f", b"\"id\"='1' \"name\"='x''y' "),
        ]
    )  # fmt: skip
    return packet(TIMESTAMP=b"then\n", mbdump__dbmirror_pending=pending, mbdump__dbmirror_pendingdata=pendingdata)


def test_members_changes_and_transactions_are_counted() -> None:
    found = look(version_2()).to_dict()
    assert found["version"] == 2
    assert (found["sequence"], found["timestamp"]) == (5, "then")
    assert (found["changes"], found["transactions"]) == (3, 2)
    assert found["tables"] == {"musicbrainz.artist": {"i": 1, "u": 1}, "musicbrainz.tag": {"d": 1}}
    assert [each["name"] for each in found["members"]] == ["TIMESTAMP", "REPLICATION_SEQUENCE", "mbdump/pending_data"]


def test_rows_have_the_old_fields_and_numbers_as_they_are_written() -> None:
    first, _, last = [row.to_json() for row in inspection.rows(chunks(version_2()), packet="p")]
    assert json.loads(last) == {
        "SeqId": 3, "TransactionId": 8, "Operation": "d", "TableName": "musicbrainz.tag",
        "Data": {"old": {"id": 1}, "new": None},
    }  # fmt: skip
    assert "12345678901234567890123" in first
    assert "0.10000000000000000001" in first


def test_version_1_is_read_too() -> None:
    found = look(version_1())
    assert (found.version, found.changes, found.transactions) == (1, 2, 1)
    rows = list(inspection.rows(chunks(version_1()), packet="p"))
    assert [(row.seqid, row.operation, row.data) for row in rows] == [
        (2, "u", {"key": {"id": "1"}}),
        (1, "i", {"row": {"id": "1", "name": None}}),
        (2, "u", {"row": {"id": "1", "name": "x'y"}}),
    ]


def manifest(**changed: object) -> bytes:
    told = Manifest(
        replication_sequence=5, schema_sequence=31, exported_at=THEN, first_position=0, last_position=9, transactions=2,
        changes=3, tables={"musicbrainz.artist": {"i": 1, "u": 1}, "musicbrainz.tag": {"d": 1}},
        sha256={"mbdump/pending_data": hashlib.sha256(data(DATA)).hexdigest()},
    )  # fmt: skip
    return told.model_copy(update=changed).model_dump_json().encode()


def test_the_manifest_is_compared_with_the_packet() -> None:
    assert look(packet(**{"MANIFEST.json": manifest(), "mbdump__pending_data": data(DATA)})).manifest


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (manifest(sha256={"mbdump/pending_data": "0" * 64}), "p: mbdump/pending_data: is not what the manifest says"),
        (manifest(sha256={"mbdump/other": "0" * 64}), "tells of 'mbdump/other', which is missing"),
        (manifest(tables={}), "not those that the manifest counts"),
        (b"{}", "p: MANIFEST.json: cannot be read"),
        (b"\xff", "p: MANIFEST.json: cannot be read"),
    ],
)
def test_a_manifest_that_does_not_agree_is_told(told: bytes, reason: str) -> None:
    with pytest.raises(PacketError, match=reason):
        look(packet(**{"MANIFEST.json": told, "mbdump__pending_data": data(DATA)}))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ((b"x", b"t", b"i", b"7", None, b"{}"), "seqid is no number"),
        ((b"1", b"t", b"x", b"7", None, b"{}"), "unknown operation b'x'"),
        ((b"1", b"t", None, b"7", None, b"{}"), "unknown operation nothing"),
        ((b"1", b"\xff", b"i", b"7", None, b"{}"), "table is not UTF-8"),
        ((b"1", b"t", b"i", b"9" * 30, None, b"{}"), "xid is no number"),
        ((b"1", b"t", b"i", b"7", None, b"[1]"), "no JSON object"),
        ((b"1", b"t", b"i", b"7", None, b'{"a":' * 5000), "no JSON object"),
        ((b"1", b"t", b"i", b"7", None), "7 columns instead of 8"),
    ],
)
def test_a_row_that_is_none_is_named(line: tuple[bytes | None, ...], reason: str) -> None:
    file = packet(mbdump__pending_data=data([line]))
    with pytest.raises(PacketError, match=reason) as told:
        look(file)
    assert str(told.value).startswith("p: mbdump/pending_data: ")
    with pytest.raises(PacketError, match=reason):
        list(inspection.rows(chunks(file), packet="p"))


def test_data_of_version_1_without_its_change_is_told() -> None:
    file = packet(mbdump__dbmirror_pending=b"", mbdump__dbmirror_pendingdata=encode([b"9", b"f", b""]))
    with pytest.raises(PacketError, match="SeqId 9 is not in mbdump/dbmirror_pending"):
        list(inspection.rows(chunks(file), packet="p"))


@given(st.binary(max_size=200), st.integers(0, 10_000), st.sampled_from(["cut", "flip", "garbage", "packed"]))
def test_a_hostile_file_ends_in_a_clear_error(noise: bytes, place: int, how: str) -> None:
    good = version_2()
    place %= len(good)
    hostile = {
        "cut": good[:place],
        "flip": good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :],
        "garbage": noise,
        "packed": bz2.compress(noise * 10),
    }[how]
    told = None
    try:
        look(hostile)
    except PacketError as error:
        told = str(error)
    # There are bits that nobody reads.
    assert told.startswith("p: ") if told is not None else how == "flip"
