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


EVERY_TYPE = """
CREATE EXTENSION cube;
CREATE SCHEMA musicbrainz;
CREATE TYPE musicbrainz.presence AS ENUM ('absent', 'present');
CREATE TABLE musicbrainz.replication_control (
    id integer, current_schema_sequence integer, current_replication_sequence integer, last_replication_date timestamptz
);
INSERT INTO musicbrainz.replication_control VALUES (1, 31, 7, '2026-01-01 00:00Z');
CREATE TABLE musicbrainz.thing (
    id integer PRIMARY KEY, gid uuid, place point, box cube, numbers integer[], words text[], letter "char",
    code char(4), small smallint, big bigint, flag boolean, day date, hour time, moment timestamptz, span interval,
    kind musicbrainz.presence,
    about jsonb, raw bytea, ratio double precision, amount numeric, name varchar(30)
);
INSERT INTO musicbrainz.thing
SELECT i, md5(i::text)::uuid, point(0.1 * i, -1e-300), cube(ARRAY[0.1 * i, 1.0 / 3]), ARRAY[i, NULL], ARRAY['a"b', 'ä'],
    chr(65 + i % 26)::"char", 'x', i % 7, 1::bigint << (i % 60), i % 2 = 0, date '2000-02-28' + i, '12:30'::time,
    timestamptz '2026-03-29 00:30Z' + i * interval '1 hour', i * interval '25 hours', 'present',
    jsonb_build_object('b', i, 'a', 'ü'), decode(md5(i::text), 'hex'), i / 7.0::float8, i / 7.0::numeric, 'Ünï ' || i
FROM generate_series(1, 1000) i;
INSERT INTO musicbrainz.thing (id, letter, ratio, moment, day, place) VALUES
    (0, '\\351', '-0', 'infinity', '0044-03-15 BC', '(NaN,Infinity)');
"""


def test_digests_are_the_same_on_the_systems_postgresql_and_on_ours(server: str, stack: Stack) -> None:
    found: list[tuple[int, Digest]] = []
    for url in (server.format, stack.database_url):
        with psycopg.connect(url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE every_type")
            admin.execute(f"ALTER DATABASE every_type SET extra_float_digits = {-3 * len(found)}".encode())
        with psycopg.connect(url("every_type"), autocommit=True) as connection:
            connection.execute(EVERY_TYPE)
            found.append((connection.info.server_version // 10000, make_digest(connection, 7)))
    (older, one), (newer, other) = found
    assert older < newer
    assert one.tables["musicbrainz.thing"].count == 1001
    assert one == other
