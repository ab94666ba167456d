"""Statistics from the real tables to who reads them."""

import threading
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
from workers.caches.statistics.adapters import PostgresCounts
from workers.caches.statistics.core import SURVEYS


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


def test_edits_and_votes_are_counted_by_what_became_of_them(runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO musicbrainz.edit (id, editor, type, status, expire_time) "
            "SELECT 100 + status, 1, 1, status, now() FROM generate_series(1, 9) AS status"
        )
        connection.execute(
            "INSERT INTO musicbrainz.vote (editor, edit, vote, superseded) VALUES "
            "(1, 101, 1, false), (2, 101, 1, false), (3, 101, 0, true), (3, 101, -1, false), (4, 101, 2, false)"
        )
    with PostgresCounts(runtime.connection).snapshot() as snapshot:
        edits, votes = snapshot.count("edits", seconds=9), snapshot.count("votes", seconds=9)
        activity = snapshot.count("activity", seconds=9)
    assert edits["count.edit"] == sum(number or 0 for name, number in edits.items() if name != "count.edit") == 9
    assert (edits["count.edit.open"], edits["count.edit.deleted"]) == (1, 2)
    assert (votes["count.vote"], votes["count.vote.yes"], votes["count.vote.no"]) == (4, 2, 0)
    assert (activity["count.editor.votelastweek"], activity["count.editor.activelastweek"]) == (4, 4)
    assert (activity["count.edit.perday"], activity["count.vote.perweek"]) == (9, 4)


def test_every_survey_counts_what_it_says_in_one_snapshot(runtime: Runtime) -> None:
    with PostgresCounts(runtime.connection).snapshot() as snapshot, runtime.connection() as other:
        before = snapshot.count("work", seconds=9)
        other.execute("INSERT INTO musicbrainz.work (gid, name) VALUES (gen_random_uuid(), 'One')")
        for survey in SURVEYS:
            assert tuple(snapshot.count(survey.name, seconds=9)) == survey.statistics
        assert snapshot.count("work", seconds=9) == before


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


def test_what_somebody_else_counts_is_left_to_them(runtime: Runtime) -> None:
    assert runtime.leased(RedisRole.STATISTICS).lease("artist").lease is not None
    assert runtime.statistics.refresh() == len(SURVEYS) - 1


def test_a_count_that_an_event_overtakes_is_told_as_expired(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.caches import tags
    from workers.caches.statistics.adapters import PostgresSnapshot

    count = PostgresSnapshot.count

    def overtaken(self: PostgresSnapshot, survey: str, *, seconds: float) -> Any:
        runtime.leased(RedisRole.STATISTICS).forget(tags=[tags.counted("artist")])
        return count(self, survey, seconds=seconds)

    monkeypatch.setattr(PostgresSnapshot, "count", overtaken)
    runtime.statistics.refresh()
    found = shown(client)
    assert found["count.artist"]["expired"]
    assert found["count.artist"]["value"] > 0
    assert not found["count.label"]["expired"]


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
