"""A full disk under the embedded PostgreSQL: a real small one as root, else its words."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import ops.stack
from ops.stack.errors import DiskFullError
from tests.integration.stack.conftest import missing


class Disk:
    """A small file system, of which `fill` takes all but a little."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / f"ballast-{uuid.uuid4().hex[:6]}"

    def fill(self, left: int = 0) -> None:
        free = shutil.disk_usage(self.folder).free
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - left))

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(home: Path) -> Iterator[Disk]:
    home.mkdir()
    home.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m,mode=0755", "tmpfs", str(home)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        missing("A small disk cannot be mounted here (it takes root): only the unit tests of `disk_full` look at it.")
    yield Disk(home)
    subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_disk_too_small_to_begin_with_is_told_and_leaves_nothing(disk: Disk) -> None:
    disk.fill(left=10 * 2**20)
    with pytest.raises(DiskFullError, match=rf"The disk that holds {disk.folder}.* is full .*Make room"):
        ops.stack.start(disk.folder, redis=False, durable=False)
    assert not (disk.folder / "postgres").exists()
    disk.free()
    with ops.stack.start(disk.folder, redis=False, durable=False) as stack:
        assert stack.postgres is not None
        assert stack.postgres.pid


def test_a_disk_that_fills_up_while_the_schema_is_built_is_told(disk: Disk) -> None:
    with ops.stack.start(disk.folder, redis=False, durable=False) as stack:
        disk.fill(left=30 * 2**20)
        with pytest.raises(DiskFullError, match="is full"):
            ops.stack.ensure_musicbrainz(stack, progress=lambda _: None)
        disk.free()


def test_a_server_that_a_full_disk_keeps_from_starting_tells_it_and_loses_nothing(disk: Disk) -> None:
    with (
        ops.stack.start(disk.folder, redis=False, durable=False) as stack,
        psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    disk.fill()
    with pytest.raises(DiskFullError, match="Nothing that was committed is lost"):
        ops.stack.start(disk.folder, redis=False, durable=False)
    disk.free()
    with (
        ops.stack.start(disk.folder, redis=False, durable=False) as stack,
        psycopg.connect(stack.database_url("postgres")) as connection,
    ):
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
