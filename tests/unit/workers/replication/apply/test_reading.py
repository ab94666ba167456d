from collections.abc import Iterable

import pytest

from workers.replication.apply.ahead import ahead
from workers.replication.apply.core import Change
from workers.replication.apply.legacy import LegacyReader
from workers.replication.apply.reading import changes, keys
from workers.replication.packet.errors import PacketError

GOOD = b'7\tmusicbrainz.artist\tu\t99\t{"id":1}\t{"id":1,"n":"\\\\"x\\\\""}\t\\N\t\\N'


def read(*lines: bytes) -> list[Change]:
    return [change for some in changes([list(lines)]) for change in some]


def legacy(pending: Iterable[bytes], data: Iterable[bytes]) -> list[Change]:
    reader = LegacyReader()
    reader.pending([list(pending)])
    return [change for some in reader.changes([list(data)]) for change in some]


def test_a_line_is_a_change() -> None:
    assert read(GOOD) == [Change(7, 99, "musicbrainz.artist", "u", b'{"id":1}', b'{"id":1,"n":"\\"x\\""}')]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace(b"\tu\t", b"\tx\t"), "operation b'x' is none of i, u, d"),
        (GOOD.replace(b"\tu\t", b"\ti\t"), "has not the rows that belong to it"),
        (GOOD.replace(b"\tu\t", b"\td\t"), "has not the rows that belong to it"),
        (GOOD.rpartition(b"\t")[0], "a line of 7 fields"),
        (GOOD + b"\t\\N", "a line of 9 fields"),
        (GOOD.replace(b"7\t", b"-7\t", 1), "is no sequence number"),
        (GOOD.replace(b"7\t", b"1_0\t", 1), "is no sequence number"),
        (GOOD.replace(b"7\t", b"9" * 20 + b"\t", 1), "is no sequence number"),
        (GOOD.replace(b"99", b"\\N"), "is no sequence number"),
        (GOOD.replace(b"artist", b"\xff"), "is not UTF-8"),
        (GOOD.replace(b'\\\\"', b'\\q"'), "invalid escape"),
        (b"", "a line of 1 fields"),
    ],
)
def test_what_is_no_change_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as refused:
        read(line)
    assert reason in str(refused.value)


def test_keys_are_read_with_names_that_need_quotes() -> None:
    lines = [b"musicbrainz.artist_tag\t{artist,tag}", b'musicbrainz."\xf0\x9f\x93\x9c"\t{"\xf0\x9f\x93\x9c"}']
    assert keys([lines]) == {"musicbrainz.artist_tag": ("artist", "tag"), 'musicbrainz."📜"': ("📜",)}
    with pytest.raises(PacketError, match="no table and key"):
        keys([[b"musicbrainz.artist\tid"]])


def test_the_two_tables_of_version_1_are_one_change() -> None:
    pending = [
        b'3\t"musicbrainz"."artist"\tu\t-9',
        b'4\t"musicbrainz"."Odd"\td\t9',
        b'5\t"statistics"."statistic"\ti\t9',
    ]
    data = [
        b"3\tt\t\"id\"='1' ",
        b"3\tf\t\"id\"='2' \"name\"='it''s' \"gone\"= ",
        b"4\tt\t\"a\"='1' \"b\"='\\\\\\\\' ",
        b"5\tf\t\"id\"='1' ",
    ]
    assert legacy(pending, data) == [
        Change(3, -9, "musicbrainz.artist", "u", b'{"id":"1"}', b'{"id":"2","name":"it\'s","gone":null}'),
        Change(4, 9, 'musicbrainz."Odd"', "d", b'{"a":"1","b":"\\\\"}', None),
        Change(5, 9, "statistics.statistic", "i", None, b'{"id":"1"}'),
    ]
    assert sorted(legacy(reversed(pending), reversed(data))) == sorted(legacy(pending, data))


@pytest.mark.parametrize(
    ("pending", "data", "reason"),
    [
        ([b'3\t"m"."a"\tu\t9'], [b"3\tt\t\"id\"='1' "], "1 changes have not all of their rows"),
        ([b'3\t"m"."a"\tu\t9'], [], "1 changes have not all of their rows"),
        ([b'3\t"m"."a"\td\t9'], [b"3\tt\t\"id\"='1' ", b"4\tt\t\"id\"='1' "], "change 4, which is not in"),
        ([b'3\t"m"."a"\tu\t9'], [b"3\tt\t\"id\"='1' "] * 2, "two rows of one kind"),
        ([b'3\t"m"."a"\tu'], [], "a line of 3 fields"),
        ([b'3\t"m"."a"\td\t9'], [b"3\tx\t\"id\"='1' "], "no row of a change"),
        ([b'3\t"m"."a"\td\t9'], [b"3\tt\t\"id\"='1' \"id\"='1' "], "is there twice"),
    ],
)
def test_a_version_1_packet_that_is_not_whole_is_refused(pending: list[bytes], data: list[bytes], reason: str) -> None:
    with pytest.raises(PacketError) as refused:
        legacy(pending, data)
    assert reason in str(refused.value)


def test_reading_ahead_gives_the_items_and_then_the_error() -> None:
    def items() -> Iterable[int]:
        yield from range(5)
        raise ValueError("here")

    got: list[int] = []
    with pytest.raises(ValueError, match="here"):
        got.extend(ahead(items(), depth=2))
    assert got == [0, 1, 2, 3, 4]


def test_who_stops_taking_stops_the_reading() -> None:
    made = []

    def items() -> Iterable[int]:
        for number in range(10**9):
            made.append(number)
            yield number

    taken = ahead(items(), depth=2)
    assert next(taken) == 0
    taken.close()
    assert len(made) < 10
