"""A master with its feed, and two databases that were copies of it: everything by the command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from ops.stack import Stack
from ops.stack.schema import make_mirror
from tests.acceptance.cli.conftest import Home, Started, configured_home
from tests.conftest import TEMPLATE

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
def site(redis_server: Stack, clone: Callable[[str], str]) -> Iterator[Site]:
    urls = [clone(TEMPLATE) for _ in range(3)]
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
            if url != urls[0]:
                make_mirror(connection)
    for home in configured_home(redis_server, urls[0]):
        assert home.run("db", "install", environment=MASTER).code == 0
        created = home.run("replication", "token", "create", "mirrors", environment=MASTER)
        assert created.code == 0, created.err
        yield Site(home, (urls[1], urls[2]), created.out.strip())
