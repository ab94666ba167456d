"""Packets out of a master, by the command line and by the clock."""

import json

from tests.acceptance.cli.conftest import Home, wait_until

MASTER = {"REPLICATION_TYPE": "RT_MASTER"}


def rename(home: Home) -> int:
    with home.connect() as connection:
        return connection.execute("UPDATE musicbrainz.artist SET name = name || '!' WHERE id > 2").rowcount


def packets(home: Home) -> list[str]:
    return sorted(path.name for path in (home.folder / "packets").glob("replication-*"))


def test_only_a_master_exports(home: Home) -> None:
    done = home.run("replication", "export")
    assert (done.code, done.out) == (2, "")
    assert "REPLICATION_TYPE is RT_STANDALONE" in done.err


def test_packets_are_made_on_demand_and_by_the_clock(own_home: Home) -> None:
    home = own_home
    rename(home)
    begun = home.run("replication", "export", environment=MASTER)
    assert begun.code == 0, begun.err
    assert begun.out == ""
    assert begun.said.startswith("Replication begins at 0")
    assert len(begun.said.splitlines()) == 1
    changed = rename(home)
    looked = home.run("replication", "export", "--dry-run", "--json", environment=MASTER)
    assert json.loads(looked.out) == {"sequence": 1, "transactions": 2, "changes": changed + 1, "begun": False}
    assert packets(home) == []
    done = home.run("replication", "export", "--json", environment=MASTER)
    assert done.code == 0, done.err
    (packet,) = json.loads(done.out)["packets"]
    assert (packet["number"], packet["changes"], packet["transactions"]) == (1, changed + 1, 2)
    assert packets(home) == ["replication-1-v2.tar.bz2", "replication-1.tar.bz2"]
    again = home.run("replication", "export", environment=MASTER)
    assert (again.code, again.out, again.said) == (0, "", "Nothing has changed since the last packet.\n")
    looked = home.run("replication", "export", "--dry-run", environment=MASTER)
    assert (looked.code, looked.said) == (0, "Nothing has changed since the last packet.\n")

    often = MASTER | {"REPLICATION_EXPORT_INTERVAL": "1"}
    started = [home.start(name, environment=often) for name in ("bridge", "worker", "scheduler")]
    try:
        rename(home)
        assert wait_until(lambda: "replication-2-v2.tar.bz2" in packets(home)), started[1].err + started[2].err
        rename(home)
        assert wait_until(lambda: "replication-3-v2.tar.bz2" in packets(home)), started[1].err
        assert wait_until(lambda: "packet/3" in home.run("events", "list", "--type", "packet.published").out)
    finally:
        for each in started:
            assert each.end() == 130
