"""Statistics from the real tables to who reads them."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from events.catalogue import REFRESH_STATISTICS
from events.queues.worker import run_worker
from ops.settings import RedisRole, Settings
from ops.web import statistics
from ops.wiring import Runtime, open_runtime
from schemas.values import ENTITY_TYPES
from tests.browsing import Browser
from tests.waiting import wait_for
from workers.caches import tags
from workers.caches.statistics import adapters, core
from workers.caches.statistics.adapters import PostgresCounts
from workers.caches.statistics.core import SURVEYS
from workers.caches.statistics.service import CountFailedError

TRENTEMOLLER = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is expired is counted again at once, however long the count before took on a busy machine."""
    monkeypatch.setattr(core, "SHARE", 1e9)


@pytest.fixture
def client(runtime: Runtime) -> Browser:
    app = FastAPI()
    statistics.register(app, runtime.statistics)
    return Browser(app)


def shown(client: Browser) -> Any:
    answer = client.get("/statistics")
    assert answer.status_code == 200, answer.text
    return answer.json()["statistics"]


def waiting(runtime: Runtime) -> int:
    return sum(depth.waiting for depth in runtime.sender.depths().values())


def work(runtime: Runtime) -> None:
    run_worker(runtime.worker_broker, threads=1, stop=threading.Event(), drain=True)


def test_a_reader_never_counts_and_has_it_counted_once(client: Browser, runtime: Runtime) -> None:
    for _ in range(3):
        assert all(each == NOTHING for each in shown(client).values())
    assert waiting(runtime) == 1
    work(runtime)
    found = shown(client)
    with runtime.connection() as connection:
        for entity_type in ENTITY_TYPES:
            (number,) = connection.execute(f"SELECT count(*) FROM musicbrainz.{entity_type}").fetchone() or (None,)
            assert found[f"count.{entity_type.replace('_', '')}"]["value"] == number
    assert not any(each["expired"] for each in found.values())
    assert found["count.editor.valid"]["value"] == 0
    assert found["replication.exported"]["value"] is None
    assert waiting(runtime) == 0
    assert (
        client.get("/statistics", headers={"If-None-Match": client.get("/statistics").headers["etag"]}).status_code
        == 304
    )


NOTHING = {"value": None, "counted_at": None, "seconds": None, "expired": True}


def test_an_entity_that_comes_expires_its_number_and_no_other(client: Browser, runtime: Runtime) -> None:
    runtime.statistics.refresh()
    before = shown(client)
    with runtime.connection() as connection:
        connection.execute("INSERT INTO musicbrainz.work (gid, name) VALUES (gen_random_uuid(), 'One')")
        connection.execute("UPDATE musicbrainz.artist SET comment = 'x' WHERE id > 2")
    runtime.bridge.drain()
    work(runtime)
    after = shown(client)
    assert [name for name, each in after.items() if each["expired"]] == ["count.work"]
    # Told all the same, with its time.
    assert after["count.work"] == {**before["count.work"], "expired": True}
    work(runtime)
    again = shown(client)
    assert again["count.work"]["value"] == before["count.work"]["value"] + 1
    assert again["count.artist"] == before["count.artist"]


@pytest.fixture
def counts(runtime: Runtime) -> PostgresCounts:
    return PostgresCounts(runtime.connection)


def test_edits_and_votes_are_counted_as_musicbrainz_does(runtime: Runtime, counts: PostgresCounts) -> None:
    with runtime.connection() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO musicbrainz.edit (id, editor, type, status, expire_time) "
            "SELECT 100 + status, 5, 1, status, now() FROM generate_series(1, 9) AS status"
        )
        connection.execute(
            "INSERT INTO musicbrainz.vote (editor, edit, vote, superseded) VALUES "
            "(5, 101, 1, false), (6, 101, 1, false), (7, 101, 0, true), (7, 101, -1, false), (8, 101, 2, false)"
        )
    edits, votes = counts.count("edits", seconds=9), counts.count("votes", seconds=9)
    # All but one, of a status (8) that MusicBrainz has no number for.
    assert edits["count.edit"] == sum(number or 0 for name, number in edits.items() if name != "count.edit") + 1 == 9
    assert (edits["count.edit.open"], edits["count.edit.applied"], edits["count.edit.deleted"]) == (1, 1, 1)
    # Also votes that were changed; of a day or week without abstentions.
    assert (votes["count.vote"], votes["count.vote.yes"], votes["count.vote.no"]) == (5, 2, 1)
    assert (votes["count.vote.perday"], votes["count.vote.perweek"]) == (4, 4)


def test_who_was_active_are_those_who_made_or_voted_on_edits_of_the_last_week(
    runtime: Runtime, counts: PostgresCounts
) -> None:
    with runtime.connection() as connection:
        connection.execute("SET session_replication_role = replica")
        # FreeDB is 2, ModBot 4.
        connection.execute(
            "INSERT INTO musicbrainz.edit (id, editor, type, status, open_time, expire_time) "
            "SELECT id, editor, 1, 2, now() - days * interval '1 day', now() FROM (VALUES "
            "(101, 5, 30), (102, 6, 8), (103, 5, 6), (104, 7, 3), (105, 2, 2), (106, 4, 2), (107, 5, 0)"
            ") AS made (id, editor, days)"
        )
        connection.execute(
            "INSERT INTO musicbrainz.vote (editor, edit, vote) "
            "VALUES (8, 102, 1), (9, 103, -1), (2, 104, 1), (7, 107, 1)"
        )
    found = counts.count("activity", seconds=9)
    assert found == {
        "count.editor.editlastweek": 3,  # 4, 5, 7
        "count.editor.votelastweek": 2,  # 7, 9
        "count.editor.activelastweek": 4,
        "count.edit.perday": 1,
        "count.edit.perweek": 3,
    }


def test_every_survey_counts_what_it_says(counts: PostgresCounts) -> None:
    for survey in SURVEYS:
        assert set(counts.count(survey.name, seconds=9)) == set(survey.statistics)


def test_a_count_that_takes_too_long_is_given_up(runtime: Runtime, counts: PostgresCounts) -> None:
    with runtime.connection() as connection, connection.transaction():
        connection.execute("LOCK TABLE musicbrainz.edit")
        with pytest.raises(CountFailedError, match="QueryCanceled"):
            counts.count("edits", seconds=0.05)


# Seconds that an invalidation may take beside a count: none of them are for the count.
BOUND = 2.0


def test_with_one_thread_a_count_that_does_not_end_holds_up_no_invalidation(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "LOCK_SECONDS", 60.0)
    stop, cached = threading.Event(), runtime.entity_cache
    worker = threading.Thread(
        target=run_worker,
        args=(runtime.worker_broker, {"caches", "statistics"}),
        kwargs={"threads": 1, "stop": stop},
    )
    with runtime.connection() as locker, runtime.connection() as connection:

        def until_forgotten(comment: str) -> float:
            assert cached.get_or_load("artist", TRENTEMOLLER, runtime.load_entity)
            connection.execute("UPDATE musicbrainz.artist SET comment = %s WHERE gid = %s", (comment, TRENTEMOLLER))
            began = time.monotonic()
            runtime.bridge.drain()
            wait_for(lambda: cached.get("artist", TRENTEMOLLER) is None)
            return time.monotonic() - began

        worker.start()
        try:
            with locker.transaction():
                locker.execute("LOCK TABLE musicbrainz.edit")
                runtime.statistics.ask()
                wait_for(lambda: waits_for_a_lock(connection))
                assert max(until_forgotten(comment) for comment in "abcde") < BOUND
                assert waits_for_a_lock(connection)
                # What was counted before that is told already.
                assert shown(client)["count.artist"]["value"] > 0
            # And it goes on when it may.
            wait_for(lambda: not shown(client)["replication.sequence"]["expired"])
        finally:
            stop.set()
            worker.join(20)


def waits_for_a_lock(connection: "psycopg.Connection[Any]") -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return row is not None and row[0] == 1


def test_a_survey_that_cannot_be_made_hinders_no_other_and_is_not_tried_all_the_time(
    client: Browser, runtime: Runtime
) -> None:
    with runtime.connection() as connection:
        connection.execute("DROP TABLE mbevents.packet")
    assert runtime.statistics.refresh() == len(SURVEYS) - 1
    found = shown(client)
    assert {name for name, each in found.items() if each["expired"]} == {
        "replication.sequence",
        "replication.exported",
        "replication.applied",
    }
    assert runtime.statistics.refresh() == 0


def test_a_table_that_somebody_has_alone_holds_up_no_other_and_is_counted_when_it_is_free(
    client: Browser, runtime: Runtime
) -> None:
    with runtime.connection() as locker, locker.transaction():
        locker.execute("LOCK TABLE musicbrainz.label")
        assert runtime.statistics.refresh() == len(SURVEYS) - 1
        assert [name for name, each in shown(client).items() if each["expired"]] == ["count.label"]
    assert runtime.statistics.refresh() == 1
    assert not shown(client)["count.label"]["expired"]


def test_what_somebody_else_counts_is_left_to_them(runtime: Runtime) -> None:
    assert runtime.leased(RedisRole.STATISTICS).lease("artist").lease is not None
    assert runtime.statistics.refresh() == len(SURVEYS) - 1


def test_a_count_that_an_event_overtakes_is_told_as_expired(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = PostgresCounts.count

    def overtaken(self: PostgresCounts, survey: str, *, seconds: float) -> Any:
        runtime.leased(RedisRole.STATISTICS).forget(tags=[tags.counted("artist")])
        return count(self, survey, seconds=seconds)

    monkeypatch.setattr(PostgresCounts, "count", overtaken)
    runtime.statistics.refresh()
    found = shown(client)
    assert found["count.artist"]["expired"]
    assert found["count.artist"]["value"] > 0
    assert not found["count.label"]["expired"]


def test_readers_send_for_nobody_while_somebody_counts(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, seen = PostgresCounts.count, list[int]()

    def watched(self: PostgresCounts, survey: str, *, seconds: float) -> Any:
        shown(client)
        seen.append(waiting(runtime))
        return count(self, survey, seconds=seconds)

    monkeypatch.setattr(PostgresCounts, "count", watched)
    runtime.statistics.refresh()
    assert seen == [0] * len(SURVEYS)
    runtime.statistics.forget()
    # As soon as a count may be made again: it may take 2 % of the time.
    wait_for(lambda: shown(client) and waiting(runtime) == 1)


@pytest.fixture
def without_redis(settings: Settings) -> Iterator[Runtime]:
    with open_runtime(settings.model_copy(update={"redis_statistics_url": SecretStr("redis://127.0.0.1:1")})) as parts:
        yield parts


def test_without_its_redis_there_is_nothing_to_tell(without_redis: Runtime) -> None:
    app = FastAPI()
    statistics.register(app, without_redis.statistics)
    answer = Browser(app).get("/statistics")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    # Nobody is asked in vain, and the actor leaves it to the next interval.
    run_worker(without_redis.worker_broker, threads=1, stop=threading.Event(), drain=True)
    without_redis._send(REFRESH_STATISTICS)
    run_worker(without_redis.worker_broker, threads=1, stop=threading.Event(), drain=True)
    assert without_redis.dead_letters.list() == []


def test_without_the_database_what_was_counted_is_told(client: Browser, runtime: Runtime, settings: Settings) -> None:
    runtime.statistics.refresh()
    nowhere = settings.model_copy(update={"database_url": SecretStr("postgresql://127.0.0.1:1/nothing")})
    with open_runtime(nowhere) as parts:
        app = FastAPI()
        statistics.register(app, parts.statistics)
        assert shown(Browser(app)) == shown(client)
        runtime.client(RedisRole.STATISTICS).flushall()
        with pytest.raises(psycopg.OperationalError):
            parts.statistics.refresh()
    # Its leases were given back.
    assert runtime.statistics.refresh() == len(SURVEYS)


@pytest.mark.parametrize("kind", ["RT_STANDALONE", "RT_MIRROR"])
def test_every_scheduler_has_statistics_counted(runtime: Runtime, settings: Settings, kind: str) -> None:
    with open_runtime(settings.model_copy(update={"replication_type": kind})) as parts:
        (job,) = parts.scheduler._jobs
        job.send()
        job.send()
        assert waiting(runtime) == 1
        assert job.interval == settings.statistics_cache_seconds / 6
