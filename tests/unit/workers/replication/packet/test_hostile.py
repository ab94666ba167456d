"""Whatever is wrong with a packet, it is refused with a message that names the packet, the member and the fault."""

import bz2
import random
import tarfile
import tracemalloc
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.replication.packet import names
from workers.replication.packet.archive import Limits, PacketReader
from workers.replication.packet.errors import PacketError

from .making import Form, cut, entry, packet, read, tar, threads_of_bzip2

_GOOD = [
    (names.TIMESTAMP, b"2026-05-11 21:14:26.878674+00\n"),
    (names.REPLICATION_SEQUENCE, b"7\n"),
    (names.PENDING_DATA, b"1\tmusicbrainz.artist\ti\t5\t\\N\t{}\t\\N\t\\N\n" * 20),
]


def refused(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(PacketError) as caught:
        read(data, limits)
    assert caught.value.packet == "P"
    assert not threads_of_bzip2()
    return str(caught.value)


def test_a_packet_cut_short_anywhere_is_refused() -> None:
    file = packet(_GOOD)
    for size in range(len(file)):
        assert refused(file[:size]).startswith("P: ")


def test_an_archive_cut_short_anywhere_is_refused() -> None:
    whole = bz2.decompress(packet(_GOOD))
    used = len(whole.rstrip(b"\0"))
    for size in [*range(0, used, 61), *range(512, used + 1024, 512)]:
        assert "cut short" in refused(bz2.compress(whole[:size]))


def test_a_member_cut_short_is_named() -> None:
    assert refused(tar(entry(names.TIMESTAMP, b"x", size=3000))) == "P: TIMESTAMP: is cut short"


def flips(data: bytes) -> Iterator[bytes]:
    """The data with one bit of it flipped: of every byte one."""
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        yield bytes(flipped)


def is_refused_or_unharmed(data: bytes) -> bool:
    """Whether it is refused. It is not where the bit means nothing: the level, tables that no symbol uses, padding."""
    try:
        assert read(data) == _GOOD
    except PacketError:
        return True
    return False


def test_a_flipped_bit_is_noticed_or_harmless() -> None:
    file = packet(_GOOD)

    assert sum(map(is_refused_or_unharmed, flips(file))) > 0.95 * len(file)


def test_a_flipped_bit_in_a_header_is_noticed_or_harmless() -> None:
    whole = bz2.decompress(packet(_GOOD))
    headers = (flipped + whole[512:] for flipped in flips(whole[:512]))

    assert sum(is_refused_or_unharmed(bz2.compress(data)) for data in headers) > 0.95 * 512


@pytest.mark.parametrize(
    "order",
    [
        (names.REPLICATION_SEQUENCE, names.TIMESTAMP),
        (names.PENDING_DATA, names.SCHEMA_SEQUENCE),
        (names.PENDING_KEYS, names.PENDING_DATA),
        (names.PENDING_TS, "extra", names.PENDING_KEYS),
        (names.DBMIRROR_PENDINGDATA, names.DBMIRROR_PENDING),
        (names.PENDING_DATA, names.MANIFEST),
    ],
)
def test_members_out_of_order_are_refused(order: tuple[str, ...]) -> None:
    assert refused(packet([(name, b"") for name in order])) == (
        f"P: {order[-1]}: comes after {order[0]}, and must come before"
    )


def test_members_that_nobody_knows_are_taken_anywhere() -> None:
    members = [("first", b"1"), *_GOOD[:2], ("mbdump/other", b"2"), _GOOD[2], ("last", b"3")]

    assert read(packet(members)) == members


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../mirror",
        "mbdump/../../mirror",
        "mbdump/./pending_data",
        "./TIMESTAMP",
        "mbdump//pending_data",
        "..",
        ".",
        "a\\..\\b",
        "C:\\b",
        "two\nlines",
        "\x1b[2J",
        "\u202egpj",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    message = refused(tar(entry(name, b"x"), form=tarfile.GNU_FORMAT))

    assert "is no plain relative name" in message or "is no name for a member" in message
    assert message.isprintable()


def test_a_member_without_a_name_is_refused() -> None:
    assert "no plain relative name" in refused(tar(entry("", b"x")))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"?",
    ],
)
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    data = tar(entry(names.TIMESTAMP, type=kind, linkname="/etc/passwd"))

    assert refused(data).startswith("P: TIMESTAMP: is not a plain file")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_refused_and_short_names_need_none(form: Form) -> None:
    assert "is not a plain file" in refused(tar(entry("n" * 300, b"x"), form=form))
    assert read(tar(entry("TIMESTAMP", b"x"), form=form)) == [("TIMESTAMP", b"x")]


def test_a_member_that_is_there_twice_is_refused() -> None:
    assert refused(packet([("a", b""), ("b", b""), ("a", b"")])) == "P: a: is there twice"
    assert refused(packet([_GOOD[0], _GOOD[0]])) == "P: TIMESTAMP: is there twice"


@pytest.mark.parametrize("size", [-1, -(2**70), 2**33 + 1, 2**70])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    data = tar(entry(names.PENDING_DATA, b"x", size=size), form=tarfile.GNU_FORMAT)

    assert refused(data) == f"P: mbdump/pending_data: has {size:,} bytes: {8 << 30:,} are allowed"


def test_a_size_that_is_too_small_is_noticed_by_what_follows() -> None:
    message = refused(tar(entry("a", b"x" * 2000, size=100), entry("b", b"")))

    assert message.startswith("P: bad tar header after a: ")


def test_limits_hold_for_each_kind_of_member_and_for_all() -> None:
    limits = Limits(total_bytes=30_000, member_bytes=9_000, small_bytes=1_000, members=3)

    assert read(packet([("TIMESTAMP", bytes(1000)), ("x", bytes(9000))]), limits)
    assert "TIMESTAMP: has 1,001 bytes: 1,000 are allowed" in refused(packet([("TIMESTAMP", bytes(1001))]), limits)
    assert "9,001 bytes: 9,000 are allowed" in refused(packet([(names.PENDING_DATA, bytes(9001))]), limits)
    assert "d: is one member too many: 3 are" in refused(packet([(name, b"") for name in "abcd"]), limits)
    many = packet([(name, bytes(8900)) for name in "abc"])
    assert "P: holds more than the 20,000 bytes" in refused(many, limits._replace(total_bytes=20_000))


def test_a_bomb_is_stopped_in_little_memory() -> None:
    bomb = tar(entry(names.PENDING_DATA, size=1 << 32), end=b"") + bz2.compress(bytes(60_000_000)) * 30
    reader = PacketReader(cut(bomb), limits=Limits(total_bytes=300_000_000), packet="P")
    tracemalloc.start()
    try:
        with pytest.raises(PacketError, match="P: mbdump/pending_data: holds more than the 300,000,000 bytes"):
            deque((deque(member.blocks, maxlen=0) for member in reader), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert not threads_of_bzip2()


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(512) + b"x" * 512, b"x" * 1024])
def test_an_archive_must_have_its_end(end: bytes) -> None:
    assert refused(tar(entry("a", b"x"), end=end))


def test_nothing_may_follow_the_end() -> None:
    hidden = bz2.decompress(tar(entry("hidden", b"x")))

    assert refused(tar(entry("a", b"x"), end=bytes(1024) + hidden)) == (
        "P: has something behind the end of its archive"
    )
    assert refused(packet(_GOOD) + packet(_GOOD)).endswith("behind the end of its archive")
    assert read(tar(entry("a", b"x"), end=bytes(102400))) == [("a", b"x")]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 2**32))
def test_noise_is_refused(noise: bytes, seed: int) -> None:
    refused(noise)
    refused(bz2.compress(noise))
    refused(bz2.compress(random.Random(seed).randbytes(3000)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_archive_with_anything_in_it_overwritten_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(bz2.decompress(packet(_GOOD)))
    at = data.draw(st.integers(0, 3000))
    patch = data.draw(st.binary(min_size=1, max_size=20))
    whole[at : at + len(patch)] = patch
    try:
        got = read(bz2.compress(bytes(whole)))
    except PacketError:
        return
    assert [name for name, _ in got] == [name for name, _ in _GOOD]
