import json
import os
import signal
import urllib.request
from collections.abc import Callable

import pytest
import redis

from tests.acceptance.cli.conftest import Home, wait_until

RUNNING = "Ctrl-C ends it."


def test_everything_comes_up_from_nothing_works_and_leaves_nothing(used: Home) -> None:
    up = used.start("up")
    up.wait_for(RUNNING)
    tail = used.start("events", "tail", "--json", "--type", "entity.updated")
    with used.connect() as connection:
        row = connection.execute("SELECT gid::text, name FROM musicbrainz.artist WHERE id > 2 LIMIT 1").fetchone()
        assert row is not None
        mbid = str(row[0])
        loaded = used.run("cache", "get", "artist", mbid, "--load")
        assert json.loads(loaded.out)["name"] == row[1]

        def edited() -> bool:
            connection.execute("UPDATE musicbrainz.artist SET name = name || '!' WHERE gid = %s", (mbid,))
            return mbid in tail.out

        # Until it listens: what is published before that it cannot see.
        assert wait_until(edited)
    assert json.loads(tail.out.splitlines()[0])["subject"] == f"artist/{mbid}"
    assert wait_until(lambda: used.run("cache", "get", "artist", mbid).code == 4)
    doctor = used.run("doctor", "--json")
    assert json.loads(doctor.out)["ok"], doctor.out
    assert doctor.code == 0
    with urllib.request.urlopen(f"http://{used.web}/metrics", timeout=5) as answer:
        assert b"mbevents_workers 1.0" in answer.read()
    assert tail.end() == 130
    assert up.end() == 130
    assert "Stopped." in up.err
    assert used.processes() == []

    # A second time on the same data; this time the worst happens.
    again = used.start("up")
    again.wait_for(RUNNING)
    with used.connect() as connection:
        row = connection.execute("SELECT name FROM musicbrainz.artist WHERE gid = %s", (mbid,)).fetchone()
        assert row is not None
        assert str(row[0]).endswith("!")
    again.end(signal.SIGKILL)
    assert wait_until(lambda: used.processes() == []), used.processes()


def test_a_second_up_at_the_same_address_starts_nothing_and_says_what_to_do(home: Home) -> None:
    first = home.start("up")
    first.wait_for(RUNNING)
    second = home.run("up")
    assert second.code == 2
    assert f"WEB_LISTEN: cannot listen on {home.web}: Address already in use." in second.err
    assert "end it; or set WEB_LISTEN to another address" in second.err
    assert "PostgreSQL:" not in second.err
    assert first.end() == 130


def test_up_runs_when_a_bridge_leads_and_a_worker_lives(home: Home) -> None:
    # A proxy that the environment names is not to be asked about an address of our own.
    up = home.start("up", environment={"http_proxy": "http://127.0.0.1:1", "no_proxy": ""})
    up.wait_for(RUNNING)
    before, _, _ = up.err.partition(RUNNING)
    assert "bridge_leads" in before
    assert "worker_started" in before
    assert "web_listens" in before
    assert up.end() == 130


def test_a_child_that_is_killed_is_started_again(home: Home) -> None:
    up = home.start("up")
    up.wait_for(RUNNING)

    def bridge() -> list[str]:
        return [line for line in home.processes() if line.endswith("ops.cli bridge")]

    (first,) = bridge()
    os.kill(int(first.partition(":")[0]), signal.SIGKILL)
    up.wait_for("process_died")
    assert wait_until(lambda: bridge() != [] and bridge() != [first])
    assert wait_until(lambda: home.run("doctor").code == 0)
    assert up.end(signal.SIGTERM) == 0
    # The servers are not ours to stop.
    assert [line for line in home.processes() if "ops.cli" in line] == []
    assert home.run("db", "check").code == 0


def test_embedded_servers_that_are_killed_come_back_and_all_is_well_again(used: Home) -> None:
    up = used.start("up")
    up.wait_for(RUNNING)
    before = json.loads(used.run("stack", "status", "--json").out)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{used.web}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    for name, told in (("redis_pid", "Redis was killed"), ("postgres_pid", "PostgreSQL was killed")):
        os.kill(before[name], signal.SIGKILL)
        # By the processes that run already: a command would start the servers for itself.
        up.wait_for(told)
        assert wait_until(ready)
    assert wait_until(lambda: used.run("doctor").code == 0)
    after = json.loads(used.run("stack", "status", "--json").out)
    assert after["redis_pid"] not in (None, before["redis_pid"])
    assert up.end() == 130
    assert used.processes() == []


def test_a_configured_database_is_not_installed_into_without_being_asked(
    home: Home, clone: Callable[[str], str]
) -> None:
    up = home.run("up", environment={"DATABASE_URL": clone("template1")})
    assert up.code == 2
    assert "is not ready for `mbevents up`: It has no schema musicbrainz." in up.err


def test_servers_started_by_hand_stay_until_they_are_destroyed(used: Home) -> None:
    started = used.run("stack", "start")
    assert started.code == 0
    assert f"DATABASE_URL={used.database_url}" in started.out
    assert "did not run" not in used.run("doctor").err
    status = json.loads(used.run("stack", "status", "--json").out)
    assert status["kept"]
    assert status["postgres_pid"]
    again = json.loads(used.run("stack", "start", "--json").out)
    assert again["DATABASE_URL"] == used.database_url + "&port=5432&hostaddr="
    with redis.Redis.from_url(again["REDIS_SERVER"]) as client:
        assert client.ping()
    refused = used.run("stack", "destroy")
    assert refused.code == 2
    assert used.run("stack", "stop").err == "Stopped.\n"
    assert used.processes() == []
    # The data are still there, and a question starts the servers for as long as it takes.
    assert used.run("db", "check").code in (0, 1)
    assert f"PostgreSQL and Redis did not run in {used.folder}: started to be looked at." in used.run("doctor").err
    assert used.processes() == []
    assert used.run("stack", "destroy", "--yes").code == 0
    assert not used.folder.exists()
    assert used.run("stack", "destroy", "--yes").code == 0


@pytest.mark.parametrize("command", ["bridge", "worker", "web"])
def test_each_process_runs_alone_and_ends_when_asked(home: Home, command: str) -> None:
    started = home.start(command)
    started.wait_for({"bridge": "bridge_leads", "worker": "worker_started", "web": "web_listens"}[command])
    assert started.end(signal.SIGTERM) == 0
    started = home.start(command)
    started.wait_for({"bridge": "bridge_leads", "worker": "worker_started", "web": "web_listens"}[command])
    assert started.end(signal.SIGINT) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_several_workers_end_together_as_one_would(home: Home, number: signal.Signals, code: int) -> None:
    workers = home.start("worker", "--processes", "2")
    assert wait_until(lambda: workers.err.count("worker_started") == 2)
    assert workers.end(number) == code
    assert workers.err.count("worker_stopped") == 2
    assert [line for line in home.processes() if "ops.cli" in line] == []


def test_several_workers_that_drain_end_when_nothing_is_left(home: Home) -> None:
    assert home.run("worker", "--drain", "--processes", "2").code == 0
