"""What every store promises, asked of each."""

import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from events.errors import NotFoundError, UsageError
from workers.replication.packet.names import digest_name, packet_name, signature_name
from workers.replication.store import PacketStore
from workers.replication.store.service import retain

NAME = packet_name(7, 2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


def put(store: PacketStore, name: str, content: bytes, source: Path) -> None:
    source.write_bytes(content)
    store.put(name, source)


def test_an_empty_store_holds_nothing(store: PacketStore) -> None:
    assert store.list() == []
    assert store.stat(NAME) is None
    assert store.path(NAME) is None
    store.delete(NAME)
    with pytest.raises(NotFoundError, match=NAME):
        store.read(NAME)
    with pytest.raises(NotFoundError, match=NAME):
        store.read(NAME, 3, 3)


@pytest.mark.parametrize("size", [0, 1, 300_000, 8 * 1024 * 1024, 20_000_001])
def test_what_is_put_comes_back(store: PacketStore, source: Path, size: int) -> None:
    content = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    put(store, NAME, content, source)
    assert b"".join(store.read(NAME)) == content
    found = store.stat(NAME)
    assert found is not None
    assert (found.name, found.size) == (NAME, size)
    assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)
    assert [each.name for each in store.list()] == [NAME]
    assert store.list()[0].etag == found.etag
    assert source.read_bytes() == content


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (2, 5), (9, 10), (3, None), (0, None), (4, 4), (5, 3), (8, 99), (10, None), (99, 200)]
)
def test_a_part_is_read_as_a_slice_is(store: PacketStore, source: Path, start: int, end: int | None) -> None:
    put(store, NAME, b"0123456789", source)
    assert b"".join(store.read(NAME, start, end)) == b"0123456789"[start:end]


def test_what_is_put_again_replaces_and_its_etag_changes(store: PacketStore, source: Path) -> None:
    put(store, NAME, b"old", source)
    before = store.stat(NAME)
    put(store, NAME, b"new", source)
    after = store.stat(NAME)
    assert b"".join(store.read(NAME)) == b"new"
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


def test_a_reader_goes_on_with_what_it_began_to_read(store: PacketStore, source: Path) -> None:
    content = b"x" * 3_000_000
    put(store, NAME, content, source)
    pieces = store.read(NAME)
    first = next(pieces)
    put(store, NAME, b"new", source)
    assert first + b"".join(pieces) == content


def test_all_kinds_of_files_are_listed_by_name(store: PacketStore, source: Path) -> None:
    names = [
        digest_name(7),
        packet_name(7, 1),
        packet_name(7, 2),
        signature_name(packet_name(7, 2)),
        packet_name(10, 1),
    ]
    for name in names:
        put(store, name, name.encode(), source)
    assert [each.name for each in store.list()] == sorted(names)
    store.delete(names[1])
    assert store.stat(names[1]) is None
    assert [each.name for each in store.list()] == sorted({*names} - {names[1]})


@pytest.mark.parametrize("name", ["../replication-1.tar.bz2", "/etc/passwd", "x", "replication-1.tar.bz2\0", ""])
def test_other_names_reach_no_disk_and_no_server(store: PacketStore, source: Path, name: str) -> None:
    source.write_bytes(b"")
    for use in (store.stat, store.read, store.path, store.delete):
        with pytest.raises(UsageError):
            use(name)
    with pytest.raises(UsageError):
        store.put(name, source)
    with pytest.raises(UsageError):
        store.url(name, seconds=1)


def test_a_local_file_or_an_address_leads_to_the_bytes(store: PacketStore, source: Path) -> None:
    put(store, NAME, b"content", source)
    path, url = store.path(NAME), store.url(NAME, seconds=60)
    if path is not None:
        assert (path.read_bytes(), url) == (b"content", None)
    else:
        assert url is not None
        assert url.startswith("http://127.0.0.1")
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"content"
            assert answer.headers["Content-Type"] == "application/x-tar-bz2"


def test_old_packets_leave_it(store: PacketStore, source: Path) -> None:
    for number in (8, 9, 10, 11):
        for name in (signature_name(packet_name(number, 1)), packet_name(number, 1)):
            put(store, name, b"x", source)
    assert len(retain(store, now=datetime.now(UTC), days=None, count=2)) == 4
    assert {each.name for each in store.list()} == {
        name for number in (10, 11) for name in (packet_name(number, 1), signature_name(packet_name(number, 1)))
    }
    assert retain(store, now=datetime.now(UTC), days=1, count=1) == []
