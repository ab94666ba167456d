"""A configured PostgreSQL of another version than the embedded one: the system's, started privately."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from ops.stack import Stack, processes, schema
from ops.stack.place import ServerUser, server_user, socket_folder
from producers.capture import service as capture
from schemas.replication import Digest
from tests.integration.stack.conftest import missing
from tests.integration.workers.replication.verify.support import EVERY_TYPE
from workers.replication.verify.service import make_digest

NEWEST_FIRST = (17, 16, 15)


def system_binaries() -> Path:
    """The newest PostgreSQL from 15 to 17 of the system, which is not the embedded 18."""
    for version in NEWEST_FIRST:
        for folder in (f"/usr/lib/postgresql/{version}/bin", f"/usr/pgsql-{version}/bin"):
            if (Path(folder) / "initdb").exists():
                return Path(folder)
    found = shutil.which("initdb")
    if found is None:
        missing("There is no PostgreSQL 15 to 17 on this system: install postgresql-15 to test that versions work.")
    return Path(found).parent


@pytest.fixture
def server(home: Path) -> Iterator[str]:
    """URL (but for the database) of a private server of the system's PostgreSQL."""
    binaries = system_binaries()
    home.mkdir()
    home.chmod(0o755)
    data, sockets = home / "system", socket_folder(home / "run", ".s.PGSQL.5432")
    user: ServerUser = server_user(data)
    for folder in (data, sockets):
        folder.mkdir(mode=0o700)
        user.own(folder)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        **user.popen_arguments(),
        check=True,
        capture_output=True,
    )
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=", "-c", "fsync=off"],
            **user.popen_arguments(),
            stdout=log,
            stderr=log,
        )
    url = f"postgresql://postgres@/{{}}?host={quote(str(sockets))}"

    def answers() -> bool:
        try:
            psycopg.connect(url.format("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        assert processes.wait_until(answers, 30), (home / "log").read_text()
        yield url
    finally:
        child.terminate()
        child.wait(timeout=30)


def test_the_schema_and_capture_work_on_the_systems_postgresql(server: str) -> None:
    schema.create_database(server.format("postgres"), "musicbrainz")
    url = server.format("musicbrainz")
    schema.build(url, lambda _: None)
    with psycopg.connect(url) as connection:
        assert connection.info.server_version < 180000
        plan = capture.install(connection)
        assert plan.done
        assert capture.check(connection).ok
        connection.execute("INSERT INTO musicbrainz.artist (gid, name, sort_name) VALUES (gen_random_uuid(), 'A', 'A')")
        captured = connection.execute("SELECT tablename, op::text FROM dbmirror2.pending_data").fetchall()
    assert ("musicbrainz.artist", "i") in captured


REPLICATED = """
CREATE EXTENSION cube;
CREATE SCHEMA musicbrainz;
CREATE TABLE musicbrainz.replication_control (
    id integer, current_schema_sequence integer, current_replication_sequence integer, last_replication_date timestamptz
);
INSERT INTO musicbrainz.replication_control VALUES (1, 31, 7, '2026-01-01 00:00Z');
"""


def test_digests_are_the_same_on_the_systems_postgresql_and_on_ours(server: str, stack: Stack) -> None:
    found: list[tuple[int, Digest]] = []
    for url in (server.format, stack.database_url):
        with psycopg.connect(url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE every_type")
            admin.execute(f"ALTER DATABASE every_type SET extra_float_digits = {-3 * len(found)}".encode())
        with psycopg.connect(url("every_type"), autocommit=True) as connection:
            connection.execute(REPLICATED)
            connection.execute(EVERY_TYPE)
            found.append((connection.info.server_version // 10000, make_digest(connection, 7)))
    (older, one), (newer, other) = found
    assert older < newer
    assert one.tables["musicbrainz.thing"].count == 1001
    assert one == other
