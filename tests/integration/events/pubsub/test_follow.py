"""Following the log of a real PostgreSQL, told by a real Redis when to look."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import pytest
import redis

from events.channels import event_channel
from events.log import partitions
from events.log import service as event_log
from events.pubsub import service
from events.pubsub.core import PositionAheadError, PositionLostError
from events.pubsub.listening import Listener
from events.queues.broker import connect_redis
from ops.stack import Stack
from schemas.envelope import full_type
from tests.integration.events.pubsub.support import (
    HEARING,
    Follower,
    Log,
    publish,
    wait_for_listeners,
)
from tests.waiting import wait_for


@pytest.fixture
def url(redis_server: Stack) -> str:
    return redis_server.redis_url(5)


@pytest.fixture
def client(url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(url) as opened:
        yield opened


def test_who_comes_late_catches_up_and_goes_on_with_what_is_published(
    log: Log, log_database: str, url: str, client: "redis.Redis"
) -> None:
    log.append(*["edit.opened"] * 5)
    with (
        Follower(log_database, url, after=2, timing=HEARING) as late,
        Follower(log_database, url, timing=HEARING) as new,
    ):
        wait_for_listeners(client, 2)
        publish(url, *log.append("edit.closed", "edit.voted"))
        wait_for(lambda: late.positions == [3, 4, 5, 6, 7] and new.positions == [6, 7])
    assert late.seen[-1] == event_log.at(log.connection, [7])[0]
    assert late.told == []


def test_messages_that_were_lost_come_twice_or_in_another_order_change_nothing(
    log: Log, log_database: str, url: str, client: "redis.Redis"
) -> None:
    with Follower(log_database, url, timing=HEARING) as follower:
        wait_for_listeners(client)
        first = log.append(*["edit.opened"] * 4)
        publish(url, first[3], first[0], first[0])
        wait_for(lambda: len(follower.seen) == 4)
        later = log.append(*["edit.opened"] * 2)
        publish(url, later[1], first[2], later[0], later[1])
        wait_for(lambda: len(follower.seen) == 6)
    assert follower.positions == [1, 2, 3, 4, 5, 6]


def test_of_some_types_only_these_come_and_the_others_are_passed_over(
    log: Log, log_database: str, url: str, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "READ_EVENTS", 3)
    log.append("edit.closed", "edit.opened", *["edit.closed"] * 8, "edit.opened")
    with Follower(log_database, url, after=0, types=["edit.opened", "edit.voted"], timing=HEARING) as follower:
        wait_for(lambda: client.pubsub_numsub("MB:events:edit.opened") == [(b"MB:events:edit.opened", 1)])
        publish(url, *log.append("edit.closed", "edit.voted", "edit.closed"))
        wait_for(lambda: follower.positions == [2, 11, 13])


def test_what_is_forged_is_never_believed(log: Log, log_database: str, url: str, client: "redis.Redis") -> None:
    (true,) = log.append("edit.opened")
    forged = [
        true.body.replace(b'"sequence":"1"', b'"sequence":"%d"' % sequence)
        for sequence in (0, 2, -1, 2**40, 2**63, 10**100)
    ]
    with Follower(log_database, url, timing=HEARING, unlogged=True) as follower:
        wait_for_listeners(client)
        for body in (*forged, b"", b"nonsense", b"[]", b'{"id": 1}', b"\xff\0", b"9" * 5000, b"[" * 5000):
            client.publish(event_channel("MB", "edit.opened"), body)
            client.publish(event_channel("MB", "cache.invalidated"), body)
            client.publish(event_channel("MB", "no.such"), body)
            client.publish(event_channel("MB", ""), body)
        publish(url, *log.append("edit.opened"))
        wait_for(lambda: follower.seen)
    assert follower.positions == [2]
    assert follower.seen[0].id == "id-2"
    assert follower.error is None


def invalidation(sequence: object, **changes: object) -> bytes:
    data = {"entity_type": "artist", "mbid": "95e9aba6-f85c-48a0-9ec9-395d4f0e3875", "keys": 1, "cause": "id-1"}
    event = {
        "id": "x", "type": full_type("cache.invalidated"), "source": "/db", "subject": "artist/1", "time": "now",
        "sequence": sequence, "data": data,
    }  # fmt: skip
    return orjson.dumps(event | changes)


def test_what_is_in_no_log_comes_only_if_asked_for_and_after_its_cause(
    log: Log, log_database: str, url: str, client: "redis.Redis"
) -> None:
    channel = event_channel("MB", "cache.invalidated")
    with (
        Follower(log_database, url, timing=HEARING, unlogged=True) as asked,
        Follower(log_database, url, timing=HEARING) as not_asked,
    ):
        wait_for_listeners(client, 2)
        log.append("entity.updated", "entity.updated")
        for body in (
            # Of what is not there yet, of another type or without its data, with what is no text or without end.
            invalidation("3"),
            invalidation(1, type=full_type("entity.updated")),
            invalidation(1, type=full_type("cache.invalidated", 2)),
            invalidation(1, data={}),
            invalidation(1, id=None),
            invalidation(1, subject=["\x1b[2J"]),
            invalidation(1, type=7),
            invalidation(1, subject="x" * 9_000),
            # And the one that is as it should be, before anything else told of its cause.
            invalidation("2"),
        ):
            client.publish(channel, body)
        wait_for(lambda: len(asked.seen) == 3 and len(not_asked.seen) == 2)
    assert [(event.sequence, event.name) for event in asked.seen] == [
        (1, "entity.updated"), (2, "entity.updated"), (2, "cache.invalidated"),
    ]  # fmt: skip
    assert not_asked.positions == [1, 2]


def test_a_listener_that_is_thrown_out_comes_back_and_misses_nothing(
    log: Log, log_database: str, url: str, client: "redis.Redis"
) -> None:
    with Follower(log_database, url) as follower:
        for _ in range(3):
            wait_for_listeners(client)
            publish(url, *log.append("edit.opened"))
            client.client_kill_filter(_type="pubsub")
            log.append("edit.closed")
            client.flushall()
        wait_for(lambda: len(follower.seen) == 6)
        wait_for(lambda: follower.told[-1:] == ["Redis is back."])
    assert follower.positions == [1, 2, 3, 4, 5, 6]


def test_a_redis_that_was_never_there_is_told_once_and_the_log_is_followed(log: Log, log_database: str) -> None:
    with Follower(log_database, "unix:///nonexistent/redis.sock") as follower:
        for number in range(1, 4):
            log.append("edit.opened")
            wait_for(lambda number=number: len(follower.seen) == number)  # type: ignore[misc]
    assert follower.told == [
        "Redis cannot be listened to (ConnectionError): until it can, the log is read every 0.2 s."
    ]


def test_a_user_who_may_listen_but_not_publish_is_told_and_the_log_is_followed(
    log: Log, log_database: str, url: str, client: "redis.Redis"
) -> None:
    rights = ["+subscribe", "+psubscribe", "+ping", "+hello", "+client"]
    client.acl_setuser("reader", enabled=True, passwords=["+secret"], channels=["*"], commands=rights)
    try:
        with Follower(log_database, f"{url}&username=reader&password=secret") as follower:
            log.append("edit.opened")
            wait_for(lambda: follower.seen and follower.told)
    finally:
        client.acl_deluser("reader")
    assert "NoPermissionError" in follower.told[0]


def test_a_database_that_goes_away_is_waited_for(
    log: Log, log_database: str, url: str, client: "redis.Redis", stack: Stack
) -> None:
    name = log.connection.info.dbname
    with (
        psycopg.connect(stack.database_url("postgres"), autocommit=True) as server,
        Follower(log_database, url) as follower,
    ):
        log.append("edit.opened")
        wait_for(lambda: follower.seen)
        try:
            # Nobody gets in; who is in stays, so that there is something to miss.
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            publish(url, *log.append("edit.opened", "edit.opened"))
            wait_for(lambda: follower.told)
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        wait_for(lambda: len(follower.seen) == 3)
    assert follower.positions == [1, 2, 3]
    assert follower.told == [
        "PostgreSQL does not answer (OperationalError): waiting for it.",
        "PostgreSQL is back: going on after position 1.",
    ]


def append_old(log: Log, days: int, number: int) -> None:
    when = datetime.now(UTC) - timedelta(days=days)
    partitions.ensure(log.connection, when.date(), ahead=0)
    log.append(*["edit.opened"] * number, recorded_at=when)


def drop_old(log: Log) -> None:
    event_log.mark_published(log.connection, log.head)
    assert partitions.drop_expired(log.connection, datetime.now(UTC).date(), retention_days=7)


def test_what_retention_dropped_is_told_instead_of_passed_over(log: Log, log_database: str, url: str) -> None:
    append_old(log, 9, 3)
    log.append("edit.opened")
    drop_old(log)
    with Follower(log_database, url, after=1) as follower:
        wait_for(lambda: follower.error)
    assert isinstance(follower.error, PositionLostError)
    assert (follower.error.first, follower.error.last) == (2, 3)
    with Follower(log_database, url, after=3) as follower:
        wait_for(lambda: follower.seen)
    assert follower.positions == [4]


def test_what_was_dropped_while_somebody_was_slow_is_told_too(
    log: Log, log_database: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "READ_EVENTS", 2)
    # A clock that was set back: what is dropped lies between others.
    log.append("edit.opened")
    append_old(log, 9, 4)
    log.append("edit.opened")
    with Follower(log_database, url, after=0) as follower:
        wait_for(lambda: len(follower.seen) == 6)
    drop_old(log)
    with Follower(log_database, url, after=0) as again:
        wait_for(lambda: again.error)
    assert again.positions == [1]
    assert isinstance(again.error, PositionLostError)
    assert (again.error.first, again.error.last) == (2, 5)


def test_a_log_that_was_dropped_whole_and_one_of_another_database_are_told(
    log: Log, log_database: str, url: str
) -> None:
    append_old(log, 9, 3)
    with Follower(log_database, url) as follower:
        drop_old(log)
        with Follower(log_database, url, after=0) as behind:
            wait_for(lambda: behind.error)
        # A restore takes the log back while it is followed.
        log.connection.execute("UPDATE mbevents.head SET published = 1, position = 1")
        wait_for(lambda: follower.error)
    assert isinstance(behind.error, PositionLostError)
    assert (behind.error.first, behind.error.last) == (1, 3)
    assert isinstance(follower.error, PositionAheadError)
    assert (follower.error.position, follower.error.head) == (3, 1)
    with pytest.raises(PositionAheadError, match="follow after 1"):
        Follower(log_database, url, after=2)


def test_what_nobody_comes_for_is_not_kept_without_end(url: str, client: "redis.Redis") -> None:
    with connect_redis(url) as own:
        listener = Listener(
            own, namespace="MB", names=None, kept=["cache.invalidated"], timing=HEARING, stopped=lambda: False
        )
        listener.start()
        wait_for_listeners(client)
        with client.pipeline(transaction=False) as many:
            for number in range(3_000):
                many.publish(event_channel("MB", "cache.invalidated"), b"%d" % number)
                many.publish(event_channel("MB", "entity.updated"), b"x" * 1_000)
            many.publish(event_channel("MB", "cache.invalidated"), b"last")
            many.execute()
        wait_for(lambda: list(listener._bodies)[-1:] == [b"last"])
        kept = listener.take()
        listener.close()
    assert len(kept) == 1_000
    assert kept[-2:] == [b"2999", b"last"]
