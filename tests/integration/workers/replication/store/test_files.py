import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from events.errors import MbeventsError
from tests.waiting import wait_for
from workers.replication.store.files import LEFT_SECONDS, FileStore

NAME = "replication-7-v2.tar.bz2"
PUT = "import sys, pathlib; from workers.replication.store.files import FileStore as S; " + (
    "S(pathlib.Path(sys.argv[1])).put(sys.argv[2], pathlib.Path(sys.argv[3]))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "packets"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"old")
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_writer_that_is_killed_leaves_the_old_file_and_what_it_wrote_goes_a_day_later(
    folder: Path, source: Path, tmp_path: Path
) -> None:
    store = FileStore(folder)
    store.put(NAME, source)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", PUT, str(folder), NAME, str(pipe)])
    with pipe.open("wb", buffering=0) as half:
        half.write(b"x" * 400_000)
        wait_for(lambda: [part for part in folder.glob(".*.part") if part.stat().st_size > 0])
        writer.kill()
        writer.wait(10)
    assert [each.name for each in store.list()] == [NAME]
    assert b"".join(store.read(NAME)) == b"old"
    (part,) = folder.glob(".*.part")
    store.put(NAME, source)
    assert part.exists(), "somebody may be writing it"
    long_ago = part.stat().st_mtime - LEFT_SECONDS - 60
    os.utime(part, (long_ago, long_ago))
    store.put(NAME, source)
    assert names_in(folder) == [NAME]


def test_a_disk_without_room_is_told_and_nothing_is_left(folder: Path, source: Path) -> None:
    store = FileStore(folder)
    store.put(NAME, source)
    source.write_bytes(b"x" * 300_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MbeventsError, match=f"cannot keep {NAME}: File too large. See that there is room"):
            store.put(NAME, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(folder) == [NAME]
    assert b"".join(store.read(NAME)) == b"old"


def test_a_folder_that_is_none_is_told(folder: Path, source: Path) -> None:
    folder.write_text("not a folder")
    for use in (
        lambda: FileStore(folder).put(NAME, source),
        lambda: FileStore(folder).list(),
        lambda: FileStore(folder).stat(NAME),
        lambda: FileStore(folder).read(NAME),
        lambda: FileStore(folder).delete(NAME),
        lambda: FileStore(folder / "below").put(NAME, source),
    ):
        with pytest.raises(MbeventsError, match=r"The packet store .* cannot"):
            use()


def test_other_files_in_the_folder_are_none_of_ours(folder: Path, source: Path) -> None:
    store = FileStore(folder)
    store.put(NAME, source)
    (folder / "README").write_text("x")
    (folder / ".replication-8.tar.bz2.part").write_text("x")
    (folder / "replication-9.tar.bz2").mkdir()
    assert [each.name for each in store.list()] == [NAME]
    assert store.path("replication-9.tar.bz2") is None


def test_a_web_server_of_another_user_may_read_packets_as_the_umask_says(folder: Path, source: Path) -> None:
    before = os.umask(0o022)
    try:
        FileStore(folder).put(NAME, source)
    finally:
        os.umask(before)
    assert (folder / NAME).stat().st_mode & 0o777 == 0o644
