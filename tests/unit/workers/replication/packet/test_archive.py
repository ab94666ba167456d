"""A packet comes back as it was written, and others' tools read it too."""

import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.replication.packet import names
from workers.replication.packet.archive import PacketReader, PacketWriter, lines
from workers.replication.packet.errors import PacketError

from .making import MODIFIED, cut, packet, read, threads_of_bzip2

_MEMBERS = [
    (names.TIMESTAMP, b"2026-05-11 21:14:26.878674+00\n"),
    (names.COPYING, b"CC0"),
    (names.README, b""),
    (names.REPLICATION_SEQUENCE, b"7\n"),
    (names.SCHEMA_SEQUENCE, b"31\n"),
    (names.DBMIRROR_VERSION, b"2\n"),
    (names.MANIFEST, b"{}"),
    (names.PENDING_DATA, b"1\tmusicbrainz.artist\ti\t5\t\\N\t{}\t\\N\t\\N\n" * 40_000),
    (names.PENDING_KEYS, b"musicbrainz.artist\t{id}\n"),
    (names.PENDING_TS, b"5\t2026-05-11 21:14:26.878674+00\n"),
]

_member_names = st.sampled_from(names.ORDER) | st.from_regex(r"[a-zA-Z_.0-9-]{0,9}[a-z](/[a-z]{1,9})?", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_member_names, st.binary(max_size=3000), max_size=12), st.integers(1, 3000))
def test_what_is_written_is_read(content: dict[str, bytes], size: int) -> None:
    known = [name for name in names.ORDER if name in content]
    members = [(name, content[name]) for name in known + sorted(content.keys() - set(known))]
    file = packet(members)

    with PacketReader(cut(file, size)) as reader:
        got = [(member.name, member.size, member.read()) for member in reader]

    assert got == [(name, len(data), data) for name, data in members]
    assert not threads_of_bzip2()


@pytest.mark.parametrize("mode", ["r|bz2", "r|*", "r:bz2"])
def test_tarfile_reads_it_in_any_mode(mode: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(packet(_MEMBERS)), mode=mode) as archive:  # type: ignore[call-overload]
        got = []
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None
            got.append((info.name, file.read()))
            assert (info.mode, info.uid, info.gid, info.uname, info.gname) == (0o644, 0, 0, "root", "root")
            assert info.mtime == int(MODIFIED.timestamp())
            assert info.isreg()

    assert got == _MEMBERS


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("bzip2")), reason="no tar and bzip2 commands here")
def test_the_tar_command_and_we_read_each_other(tmp_path: Path) -> None:
    done = subprocess.run(["tar", "-xjf", "-"], input=packet(_MEMBERS), cwd=tmp_path, capture_output=True, check=True)
    assert not done.stderr
    assert [(name, (tmp_path / name).read_bytes()) for name, _ in _MEMBERS] == _MEMBERS

    command = ["tar", "-cjf", "-", "-C", str(tmp_path), *(name for name, _ in _MEMBERS)]
    theirs = subprocess.run(command, capture_output=True, check=True)
    assert read(theirs.stdout) == _MEMBERS


def test_the_same_calls_write_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pending_data"
    path.write_bytes(_MEMBERS[7][1])
    target = io.BytesIO()
    elsewhere = MODIFIED.astimezone(timezone(timedelta(hours=9)))
    with PacketWriter(target, modified=elsewhere, threads=1) as writer:
        for name, data in _MEMBERS:
            if name == names.PENDING_DATA:
                writer.add_file(name, path)
            else:
                writer.add(name, data)

    assert target.getvalue() == packet(_MEMBERS)


def test_a_file_that_changes_while_it_is_packed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pending_data"
    path.write_bytes(b"x" * 5000)
    true = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **options: _Shrunk(true(self, **options).st_size))

    with pytest.raises(PacketError, match=r"mbdump/pending_data: .* had 6,000 bytes, now 5,000"):  # noqa: SIM117
        with PacketWriter(io.BytesIO(), modified=MODIFIED) as writer:
            writer.add_file(names.PENDING_DATA, path)
    assert not threads_of_bzip2()


class _Shrunk:
    def __init__(self, size: int) -> None:
        self.st_size = size + 1000


@pytest.mark.parametrize("name", ["é", "n" * 300])
def test_a_name_that_ustar_cannot_hold_is_not_written(name: str) -> None:
    with pytest.raises(PacketError, match="does not fit"):
        packet([(name, b"")])


def test_members_that_nobody_reads_are_passed_over() -> None:
    with PacketReader(cut(packet(_MEMBERS))) as reader:
        kept = list(reader)

    assert [member.name for member in kept] == [name for name, _ in _MEMBERS]
    assert {member.read() for member in kept} == {b""}


def test_a_member_read_in_part_does_not_disturb_the_next() -> None:
    first, second = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)
    with PacketReader(cut(packet([("first", first), ("second", second)]))) as reader:
        members = iter(reader)
        early = next(members)
        assert first.startswith(next(early.blocks))
        late = next(members)
        assert not next(early.blocks, b"")
        assert late.read() == second
        assert list(members) == []


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    with PacketReader(cut(packet([("first", random.Random(1).randbytes(9_000_000))]))) as reader:
        next(next(iter(reader)).blocks)
        assert threads_of_bzip2()

    assert not threads_of_bzip2()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=60), st.integers(1, 100))
def test_lines_are_whole_however_they_are_cut(rows: list[bytes], size: int) -> None:
    text = b"".join(row + b"\n" for row in rows)

    got = list(lines(cut(text, size)))

    assert [row for block in got for row in block] == rows
    assert all(got)


def test_a_huge_line_is_refused_before_it_is_kept() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(PacketError, match="a line of more than 5,000 bytes"):
        list(lines(endless(), limit=5000))
    with pytest.raises(PacketError, match="a line of more than 5,000 bytes"):
        list(lines([b"a\n" + b"x" * 5001 + b"\nb\n"], limit=5000))
    with pytest.raises(PacketError, match="a line of more than 5,000 bytes"):
        list(lines([b"a\n" + b"x" * 4000, b"x" * 1001 + b"\nb\n"], limit=5000))
    assert list(lines([b"a\n" + b"x" * 4000, b"x" * 1000 + b"\nb\n"], limit=5000)) == [[b"a"], [b"x" * 5000, b"b"]]


def test_a_last_line_without_an_end_is_refused() -> None:
    with pytest.raises(PacketError, match="no end"):
        list(lines([b"a\nb"]))


def test_a_fault_in_the_lines_of_a_member_is_told_with_its_name() -> None:
    with PacketReader(cut(packet([(names.PENDING_DATA, b"a\nb")])), packet="P") as reader:
        for member in reader:
            with pytest.raises(PacketError, match="P: mbdump/pending_data: its last line has no end"):
                list(member.lines())
