"""Our own mirror, from our own feed: everything by the command line."""

import json

import psycopg
import pytest

from tests.acceptance.cli.conftest import Done, wait_until
from tests.acceptance.replication.conftest import Site
from tests.acceptance.replication.test_mbslave import edit
from tests.integration.workers.replication.support import differing


@pytest.mark.timeout(280)
def test_a_mirror_follows_our_feed_in_both_versions_and_has_events(site: Site) -> None:
    url = site.mirrors[0]

    def run(*arguments: str) -> Done:
        return site.home.run(*arguments, environment=site.settings(url))

    assert run("db", "install").code == 0
    for _ in range(2):
        edit(site)
        site.run("replication", "export", "--json")
    # A feed that has only version 1 of the second.
    (site.home.folder / "packets" / "replication-2-v2.tar.bz2").unlink()
    web = site.serve()
    done = run("replication", "sync", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["from"], told["to"], told["packets"], told["diverged"], told["one_by_one"]) == (0, 2, 2, 0, 0)
    assert told["up_to_date"]
    assert "Packet 2 is of version 1, without old rows: no events come of its changes." in done.err
    with site.home.connect() as master, psycopg.connect(url, autocommit=True) as mirror:
        assert differing(master, mirror) == []
        types: dict[str, int] = dict(mirror.execute("SELECT type, count(*) FROM mbevents.event GROUP BY 1").fetchall())
        assert types["org.musicbrainz.packet.applied.v1"] == 2
        assert types["org.musicbrainz.entity.updated.v1"] >= 2
    again = run("replication", "sync")
    assert (again.code, "it is up to date" in again.err) == (0, True), again.err
    _followed(site, url)
    assert web.end() in (0, 130)
    away = run("replication", "sync")
    assert (away.code, "Connection refused" in away.err) == (6, True), away.err
    assert site.token not in away.err + again.err + done.err + done.out


def _followed(site: Site, url: str) -> None:
    settings = {**site.settings(url), "REPLICATION_SYNC_INTERVAL": "1"}
    follower = site.home.start("replication", "sync", "--follow", environment=settings)
    with site.home.connect() as master, psycopg.connect(url, autocommit=True) as mirror:
        edit(site)
        site.run("replication", "export", "--json")
        assert wait_until(lambda: "Packet 3: " in follower.err), follower.err
        assert differing(master, mirror) == []
    assert follower.end() == 130
