import json
import resource
import subprocess
import urllib.request

import pytest
import redis

from tests.acceptance.cli.conftest import MBEVENTS, Home, wait_until
from tests.integration.workers.accounts.sessions.conftest import make_sessions
from workers.accounts.sessions.core import hashed

ABSENT = "00000000-0000-4000-8000-000000000000"
AWAY = {"DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/mb", "REDIS_SERVER": "redis://:s3cret@127.0.0.1:1"}


def edit(home: Home) -> int:
    with home.connect() as connection:
        return connection.execute("UPDATE musicbrainz.artist SET name = name || '!' WHERE id > 2").rowcount


def bury(home: Home, number: int = 1) -> list[int]:
    """Put dead letters of work that would succeed now."""
    message = json.dumps(
        {
            "queue_name": "caches", "actor_name": "caches.invalidate", "args": [], "options": {},
            "kwargs": {"version": 1, "events": []}, "message_id": "m", "message_timestamp": 1,
        }
    )  # fmt: skip
    with home.connect() as connection:
        return [
            int(str(row[0]))
            for _ in range(number)
            for row in connection.execute(
                "INSERT INTO mbevents.dead_letter (delivery_id, queue, actor, message, error) "
                "VALUES (gen_random_uuid()::text, 'caches', 'caches.invalidate', %s, E'Boom: it broke\\nat line 1') "
                "RETURNING id",
                (message,),
            )
        ]


def test_help_is_quick(fresh: Home) -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fresh.run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: the machine may have other things to do.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert 0 < min(times) < 0.5


def test_settings_are_shown_without_secrets(fresh: Home) -> None:
    done = fresh.run("config", "--json", environment=AWAY)
    assert done.code == 0
    shown = json.loads(done.out)
    assert shown["DATABASE_URL"] == {"value": "postgresql://u:***@127.0.0.1:1/mb", "from": "environment"}
    assert "s3cret" not in done.out + fresh.run("config", environment=AWAY).out
    assert json.loads(fresh.run("version", "--json").out)["version"] == fresh.run("version").out.strip()


def test_a_wrong_setting_is_one_clear_line(fresh: Home) -> None:
    done = fresh.run("events", "list", environment={"WORKER_THREADS": "many"})
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("mbevents: WORKER_THREADS 'many' is wrong (from environment)")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["config", "config --json", "events tail"])
def test_a_misspelt_redis_setting_is_told_by_every_command(fresh: Home, command: str) -> None:
    done = fresh.run(*command.split(), environment={**AWAY, "REDIS_SESSION_URL": "redis://:s3cret@h/1"})
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "mbevents: REDIS_SESSION_URL (from environment) is no setting: rename it to REDIS_SESSIONS_URL, or unset it."
    ]


@pytest.mark.parametrize(
    "command",
    [
        "db check",
        "events tail",
        "bridge --drain",
        "worker --drain",
        f"cache get artist {ABSENT}",
        f"cache invalidate artist {ABSENT}",
    ],
)
def test_servers_that_are_away_are_exit_code_6_without_the_password(fresh: Home, command: str) -> None:
    done = fresh.run(*command.split(), environment=AWAY)
    assert (done.code, done.out) == (6, ""), done.err
    assert "does not answer" in done.err
    assert "127.0.0.1:1" in done.err
    assert "s3cret" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "command",
    ["up", "stack start", "stack status", "stack stop", "stack destroy", "stack destroy --yes", "events list"],
)
def test_a_home_that_is_a_file_is_exit_code_2_and_the_file_stays(fresh: Home, command: str) -> None:
    file = fresh.folder.with_name("file")
    file.write_text("precious")
    done = fresh.run(*command.split(), environment={"MBEVENTS_HOME": str(file)})
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"mbevents: {file} cannot be the servers' home: {file} is no folder. Set MBEVENTS_HOME to a folder.\n"
    )
    assert file.read_text() == "precious"


DATABASE_ONLY = {"DATABASE_URL": AWAY["DATABASE_URL"]}


@pytest.mark.parametrize(
    ("command", "configured"),
    [
        ("events list", {}),
        ("events tail", {}),
        ("events tail", DATABASE_ONLY),
        (f"cache get artist {ABSENT}", {}),
        (f"cache invalidate artist {ABSENT}", DATABASE_ONLY),
    ],
)
def test_nothing_is_made_by_a_question(fresh: Home, command: str, configured: dict[str, str]) -> None:
    done = fresh.run(*command.split(), environment=configured)
    assert (done.code, done.out) == (6, "")
    assert "Run `mbevents up` to make one" in done.err
    assert not fresh.folder.exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("events show nothing", "There is no event 'nothing' in the log"),
        ("events tail --after 999999999", "and 999999999 was asked for"),
        ("jobs show 999999", "There is no dead letter 999999"),
        ("jobs discard 999999 --yes", "There are no such dead letters"),
        (f"cache get artist {ABSENT} --load", "There is no artist"),
        (f"cache get release-group {ABSENT} --load", "There is no release_group"),
    ],
)
def test_what_is_not_there_is_exit_code_4(home: Home, command: str, told: str) -> None:
    done = home.run(*command.split())
    assert (done.code, done.out) == (4, "")
    assert told in done.err


def test_a_tail_catches_up_goes_on_and_ends_at_once(home: Home) -> None:
    home.run("bridge", "--drain")
    edit(home)
    home.run("bridge", "--drain")
    logged = [json.loads(line) for line in home.run("events", "list", "--after", "0", "--json").out.splitlines()]
    tail = home.start("events", "tail", "--after", str(int(logged[0]["sequence"]) - 1), "--json")
    assert wait_until(lambda: len(tail.out.splitlines()) >= len(logged))
    edit(home)
    home.run("bridge", "--drain")
    assert wait_until(lambda: len(tail.out.splitlines()) > len(logged))
    told = [json.loads(line) for line in tail.out.splitlines()]
    assert told[: len(logged)] == logged
    positions = [int(each["sequence"]) for each in told]
    assert positions == list(range(positions[0], positions[-1] + 1))
    assert tail.end(seconds=10) == 130
    assert tail.err == ""


def test_an_entry_is_explained_counted_and_forgotten(home: Home) -> None:
    with home.connect() as connection:
        row = connection.execute("SELECT gid::text FROM musicbrainz.artist WHERE id > 2 ORDER BY id LIMIT 1").fetchone()
    assert row is not None
    mbid = str(row[0])
    home.run("cache", "get", "artist", mbid, "--load")
    why = home.run("cache", "why", "artist", mbid, "--compare")
    assert why.code == 0, why.err
    told = dict(line.split(maxsplit=1) for line in why.out.splitlines())
    assert told["cached"].startswith("yes: ")
    assert told["compared"] == "equal: the database has a document"
    stats = home.run("cache", "stats")
    assert stats.code == 0, stats.err
    assert "entity      artist" in stats.out
    assert home.run("cache", "invalidate").code == 2
    assert home.run("cache", "invalidate", "--tag", "a b").code == 2
    forgotten = home.run(
        "cache", "invalidate", "artist", mbid, "--search", "--statistics", "--tag", "every:work", "--json"
    )
    assert json.loads(forgotten.out) == {
        "entity_type": "artist", "invalidated": 1, "search": True, "statistics": True, "tags": ["every:work"],
    }  # fmt: skip
    (step,) = json.loads(home.run("cache", "why", "artist", mbid, "--json").out)["steps"]
    assert step["cached"] is False
    home.run("cache", "get", "artist", mbid, "--load")
    counted = json.loads(home.run("cache", "stats", "--json").out)
    assert counted["caches"][0]["kinds"]["artist"] >= 1
    assert {cache["name"] for cache in counted["caches"]} == {"entity", "search", "http", "statistics"}


def test_the_drains_do_what_is_there(home: Home) -> None:
    home.run("bridge", "--drain")
    changed = edit(home)
    assert json.loads(home.run("bridge", "--drain", "--json").out) == {"events": changed}
    assert json.loads(home.run("bridge", "--drain", "--json").out) == {"events": 0}
    done = home.run("worker", "--drain", "--queues", "caches", "--threads", "2")
    assert done.code == 0, done.err
    with home.connect() as connection:
        assert connection.execute("SELECT count(*) FROM mbevents.task WHERE state <> 'done'").fetchone() == (0,)


def test_a_drain_does_what_the_ledger_has_after_redis_lost_everything(home: Home) -> None:
    edit(home)
    home.run("bridge", "--drain")
    with home.connect() as connection, redis.Redis.from_url(home.environment["REDIS_SERVER"]) as client:
        client.flushall()
        with connection.transaction():
            connection.execute("LOCK TABLE mbevents.task")
            worker = home.start("worker", "--drain")
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'mbevents.task'::regclass"
            assert wait_until(lambda: connection.execute(waits).fetchone() != (0,)), worker.err
            # Its look at the start takes messages of tasks as young as these to be on their way.
            young = "UPDATE mbevents.task SET enqueued_at = clock_timestamp() WHERE state = 'queued'"
            assert connection.execute(young).rowcount > 0
        assert worker.process.wait(60) == 0, worker.err
        assert connection.execute("SELECT count(*) FROM mbevents.task WHERE state <> 'done'").fetchone() == (0,)


def test_a_bridge_is_reset_after_a_restore_into_a_new_cluster(home: Home) -> None:
    home.run("bridge", "--drain")
    with home.connect() as connection:
        connection.execute(
            "UPDATE mbevents.tick SET state = jsonb_set(state, '{snapshot}', to_jsonb('4000000000:4000000000:'::text))"
        )
    refused = home.run("bridge", "--drain")
    assert refused.code == 1
    assert "Run `mbevents bridge --reset` once" in refused.err
    done = home.run("bridge", "--reset", "--yes")
    assert done.code == 0, done.err
    changed = edit(home)
    assert json.loads(home.run("bridge", "--drain", "--json").out) == {"events": changed}


def test_the_log_is_read_and_told_again(home: Home) -> None:
    edit(home)
    home.run("bridge", "--drain")
    listed = [json.loads(line) for line in home.run("events", "list", "--limit", "5", "--json").out.splitlines()]
    assert [each["type"] for each in listed] == ["org.musicbrainz.entity.updated.v1"] * 5
    positions = [int(each["sequence"]) for each in listed]
    assert positions == sorted(positions, reverse=True)
    forward = home.run("events", "list", "--after", str(positions[-1]), "--json").out.splitlines()
    assert [int(json.loads(line)["sequence"]) for line in forward] == sorted(positions)[1:]
    newest = listed[0]
    for name in (newest["id"], newest["sequence"]):
        assert json.loads(home.run("events", "show", name, "--json").out) == newest
    by_subject = home.run("events", "list", "--subject", newest["subject"], "--since", "1h")
    assert newest["id"] in by_subject.out
    assert home.run("events", "list", "--type", "edit.opened").out.splitlines() == ["POSITION  TIME  TYPE  SUBJECT  ID"]
    after = str(positions[-1])
    preview = json.loads(home.run("events", "replay", "--after", after, "--dry-run", "--json").out)
    assert preview == {"total": 4, "events": {"entity.updated": 4}, "work": {"caches.invalidate": 4}}
    refused = home.run("events", "replay", "--after", after)
    assert refused.code == 2
    assert "This publishes 4 events again" in refused.err
    done = home.run("events", "replay", "--after", after, "--yes", "--json")
    assert json.loads(done.out) == {"events": 4, "tasks": 1}


def test_dead_letters_are_looked_at_retried_and_discarded(home: Home) -> None:
    first, second, third = bury(home, 3)
    listed = json.loads(home.run("jobs", "list", "--queue", "caches", "--json").out)
    assert [each["id"] for each in listed["dead_letters"]] == [third, second, first]
    assert "Boom: it broke" in home.run("jobs", "list").out
    shown = home.run("jobs", "show", str(first))
    assert "at line 1" in shown.out
    assert json.loads(home.run("jobs", "show", str(first), "--json").out)["message"]["queue_name"] == "caches"
    assert json.loads(home.run("jobs", "retry", "--all", "--dry-run", "--json").out) == {"retried": 0, "matching": 3}
    assert json.loads(home.run("jobs", "retry", str(first), "--json").out) == {"retried": 1, "matching": 1}
    partly = home.run("jobs", "retry", str(first), str(third), "--json")
    assert (partly.code, json.loads(partly.out)) == (5, {"retried": 1, "matching": 1})
    assert "1 dead letter of those named passed over" in partly.err
    (third,) = bury(home)
    refused = home.run("jobs", "discard", str(second))
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert "1 dead letter discarded." in home.run("jobs", "discard", str(second), "--yes").err
    assert "1 dead letter retried." in home.run("jobs", "retry", "--actor", "caches.invalidate").err
    assert json.loads(home.run("jobs", "list", "--json").out)["total"] == 0
    assert home.run("worker", "--drain").code == 0
    assert json.loads(home.run("jobs", "list", "--json").out)["total"] == 0


def test_what_no_worker_can_read_can_only_be_discarded(home: Home) -> None:
    (readable,) = bury(home)
    with home.connect() as connection:
        row = connection.execute(
            "INSERT INTO mbevents.dead_letter (delivery_id, queue, raw, error) "
            "VALUES (gen_random_uuid()::text, 'caches', '\\xff', 'it is not JSON') RETURNING id"
        ).fetchone()
    assert row is not None
    unreadable = str(row[0])
    assert "1 dead letter would be retried." in home.run("jobs", "retry", "--all", "--dry-run").err
    refused = home.run("jobs", "retry", unreadable)
    assert refused.code == 2
    assert "they can only be discarded" in refused.err
    assert "2 dead letters discarded." in home.run("jobs", "discard", unreadable, str(readable), "--yes").err


def test_installing_is_told_before_repeatable_and_taken_back(home: Home) -> None:
    home.run("bridge", "--drain")
    home.run("worker", "--drain")
    again = json.loads(home.run("db", "install", "--json").out)
    assert (again["steps"], again["done"]) == ([], False)
    with home.connect() as connection:
        connection.execute("DROP TRIGGER reptg2_artist ON musicbrainz.artist")
    check = home.run("db", "check")
    assert check.code == 1
    assert "reptg2_artist ON musicbrainz.artist is missing" in check.out
    assert "fix: Run `mbevents db install`." in check.out
    assert home.run("doctor").code == 1
    plan = home.run("db", "install", "--dry-run")
    assert "create trigger reptg2_" in plan.out
    assert json.loads(home.run("db", "check", "--json").out)["ok"] is False
    assert home.run("db", "install").code == 0
    assert json.loads(home.run("db", "check", "--json").out)["ok"] is True

    refused = home.run("db", "uninstall")
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert "drop schema mbevents" in home.run("db", "uninstall", "--dry-run").out
    assert home.run("db", "uninstall", "--yes", "--discard").code == 0
    missing = home.run("events", "list")
    assert missing.code == 1
    assert "Run `mbevents db install`" in missing.err
    assert home.run("db", "check").code == 1
    assert home.run("db", "install").code == 0


def test_several_workers_under_one_command_serve_their_own_metrics(home: Home) -> None:
    port = int(home.web.rpartition(":")[2]) + 1
    started = home.start("worker", "--processes", "2", environment={"METRICS_LISTEN": f"127.0.0.1:{port}"})
    assert wait_until(lambda: started.err.count("worker_started") == 2), started.err
    ready = []
    for each in (port, port + 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{each}/readyz", timeout=5) as answer:
            ready.append(json.loads(answer.read())["status"])
    assert ready == ["ready", "ready"]
    assert started.end() in (0, 130)
    assert [line for line in home.processes() if "ops.cli" in line] == []


def test_who_has_seen_enough_of_the_output_may_go(home: Home) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{' '.join(MBEVENTS)} config | head -n 1"],
        env=home.environment,
        cwd=home.cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("NAME")
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


def test_sessions_of_an_editor_are_told_without_their_ids_and_ended(home: Home) -> None:
    with redis.Redis.from_url(home.environment["REDIS_SERVER"], db=1) as client:
        sessions = make_sessions(client)
        mine, other = [sessions.sign_in(901).id for _ in range(2)], sessions.sign_in(902).id
        listed = home.run("sessions", "list", "901", "--json")
        told = json.loads(listed.out)
        assert (listed.code, told["editor_id"], len(told["sessions"])) == (0, 901, 2)
        assert set(told["sessions"][0]) == {"began", "idle_ends", "ends"}
        plain = home.run("sessions", "list", "901")
        assert plain.err == "2 sessions of editor 901.\n"
        for each in mine:
            assert each not in listed.out + plain.out
            assert hashed(each) not in listed.out + plain.out
        ended = home.run("sessions", "end", "901", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"editor_id": 901, "ended": 2})
        assert [sessions.look(each) for each in mine] == [None, None]
        assert sessions.look(other) is not None
    assert home.run("sessions", "end", "901").err == "Ended 0 sessions of editor 901.\n"
    away = home.run("sessions", "end", "901", environment=AWAY)
    assert (away.code, "REDIS_SESSIONS_URL" in away.err, "s3cret" in away.err) == (6, True, False)
