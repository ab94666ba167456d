"""A master with its feed, and two databases that were copies of it: everything by the command line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from ops.stack.schema import make_mirror
from tests.acceptance.cli.conftest import Home, Started, make_home

MASTER = {"REPLICATION_TYPE": "RT_MASTER"}


@dataclass(frozen=True)
class Site:
    """A home whose database is a master at packet 0, the URLs of its mirrors, and a token that opens its feed."""

    home: Home
    mirrors: tuple[str, str]
    token: str

    @property
    def feed(self) -> str:
        return f"http://{self.home.web}/api/musicbrainz"

    def run(self, *arguments: str) -> str:
        """A command on the master."""
        done = self.home.run(*arguments, environment=MASTER)
        assert done.code == 0, done.err
        return done.out

    def serve(self) -> Started:
        """The feed."""
        web = self.home.start("web", environment=MASTER)
        web.wait_for("web_listens")
        return web

    def settings(self, url: str) -> dict[str, str]:
        """Of a mirror."""
        return {
            "REPLICATION_TYPE": "RT_MIRROR",
            "DATABASE_URL": url,
            "REPLICATION_BASE_URL": self.feed,
            "REPLICATION_ACCESS_TOKEN": self.token,
        }


@pytest.fixture
def site() -> Iterator[Site]:
    for home in make_home():
        started = home.run("stack", "start", "--json")
        assert started.code == 0, started.err
        master = json.loads(started.out)["DATABASE_URL"]
        with psycopg.connect(master, autocommit=True) as connection:
            connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        mirrors = (_mirror(master, "ours"), _mirror(master, "theirs"))
        assert home.run("db", "install", environment=MASTER).code == 0
        created = home.run("replication", "token", "create", "mirrors", environment=MASTER)
        assert created.code == 0, created.err
        yield Site(home, mirrors, created.out.strip())


def _mirror(master: str, name: str) -> str:
    url = master.replace("/musicbrainz?", f"/{name}?")
    with psycopg.connect(master.replace("/musicbrainz?", "/postgres?"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE musicbrainz").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = musicbrainz, public").format(sql.Identifier(name))
        )
    with psycopg.connect(url, autocommit=True) as connection:
        make_mirror(connection)
    return url
