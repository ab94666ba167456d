"""A mirror of one's own master, set up step by step as ops/docs/replication.md says."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ops.stack import Stack
from ops.stack.schema import make_mirror
from tests.acceptance.cli.conftest import Done, Home, configured_home

MASTER = {"REPLICATION_TYPE": "RT_MASTER"}


@pytest.fixture
def home(redis_server: Stack, database: str) -> Iterator[Home]:
    yield from configured_home(redis_server, database)


def did(home: Home, environment: dict[str, str], *arguments: str) -> Done:
    done = home.run(*arguments, environment=environment)
    assert done.code == 0, done.err + done.out
    return done


def edit(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE musicbrainz.artist SET name = name || '!' WHERE id > 2")
        connection.execute("DELETE FROM musicbrainz.artist WHERE comment = 'made before'")
        connection.execute(
            "INSERT INTO musicbrainz.artist (gid, name, sort_name, comment) "
            "VALUES (gen_random_uuid(), 'new', 'new', 'made before')"
        )


@pytest.mark.parametrize("busy", [False, True])
def test_a_copy_of_the_master_becomes_its_mirror(
    home: Home, database: str, clone: Callable[[str], str], *, busy: bool
) -> None:
    """`busy`: the copy has changes already that the next packet brings."""
    master = database
    did(home, MASTER, "db", "install")
    edit(master)
    assert "Replication begins at 0" in did(home, MASTER, "replication", "export").err
    if busy:
        edit(master)
    mirror = clone(str(conninfo_to_dict(master)["dbname"]))
    ours = {"DATABASE_URL": mirror}
    did(home, ours | MASTER, "db", "uninstall", "--discard", "--yes")
    with psycopg.connect(mirror, autocommit=True) as connection:
        make_mirror(connection)
    ours["REPLICATION_TYPE"] = "RT_MIRROR"
    did(home, ours, "db", "install")

    edit(master)
    did(home, MASTER, "replication", "export")
    token = did(home, MASTER, "replication", "token", "create", "mirror").out.strip()
    web = home.start("web", environment=MASTER)
    web.wait_for("web_listens")
    ours |= {
        "REPLICATION_BASE_URL": f"http://{home.web}/api/musicbrainz",
        "REPLICATION_ACCESS_TOKEN": token,
    }
    if busy:
        refused = home.run("replication", "sync", environment=ours)
        assert refused.code == 1, refused.err
        assert "musicbrainz.artist" in refused.err
        did(home, ours, "replication", "sync", "--on-divergence", "repair", "--limit", "1")
    assert "the mirror is at 1, it is up to date" in did(home, ours, "replication", "sync").err
    if busy:
        # What came and went within the packet is seen by nobody else.
        did(home, ours, "replication", "verify", "--master-url", master, "--repair", "--yes")
    proved = did(home, ours, "replication", "verify", "--master-url", master)
    assert proved.out.startswith("ok")
    web.end()
