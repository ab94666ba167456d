"""A role's connections, against a Redis that is not always well."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from events.breaker import Breaker
from events.connections import ASK_SECONDS, CircuitOpenError, open_client
from events.deadlines import LEAST_SECONDS, due_within
from events.queues.broker import connect_redis
from ops.stack.redis import EmbeddedRedis
from tests.own_redis import server
from tests.waiting import wait_for

__all__ = ["server"]

SECONDS = 0.3


@contextmanager
def client_of(server: EmbeddedRedis, size: int = 10) -> "Iterator[tuple[redis.Redis, Breaker]]":
    breaker = Breaker("redis test", open_seconds=60)
    client = open_client(server.url(), breaker, size=size, seconds=SECONDS)
    yield client, breaker
    client.close()


def seconds_of(work: Any) -> float:
    began = time.monotonic()
    with pytest.raises(redis.RedisError):
        work()
    return time.monotonic() - began


def ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def client_ids(admin: "redis.Redis") -> set[str]:
    """Of all who are connected, but for the one who asks."""
    own = str(admin.client_id())
    return {each["id"] for each in admin.client_list() if each["id"] != own}


def test_a_paused_server_costs_its_time_out_a_few_times_then_nothing_and_heals(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        client.set("a", 1)
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        # Not repeated: who waited once has waited enough.
        assert SECONDS * 0.9 < seconds_of(lambda: client.get("a")) < SECONDS * 1.9
        for _ in range(2):
            seconds_of(lambda: client.get("a"))
        with pytest.raises(CircuitOpenError):
            client.get("a")
        assert seconds_of(lambda: client.get("a")) < 0.1
        os.kill(pid, signal.SIGCONT)
        # Nobody asks, and it is found all the same.
        wait_for(lambda: breaker.state == "closed")
        assert client.get("a") == b"1"


def test_who_has_little_time_waits_for_a_part_of_it_and_a_paused_server_is_found_all_the_same(
    server: EmbeddedRedis,
) -> None:
    with client_of(server) as (client, breaker):
        client.set("a", 1)
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with due_within(0.1):
            assert seconds_of(lambda: client.get("a")) < SECONDS * 0.8
        wait_for(lambda: breaker.state == "open")
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: breaker.state == "closed")
        assert client.get("a") == b"1"


def test_who_has_too_little_time_says_nothing_against_a_server_that_answers_in_its_own(server: EmbeddedRedis) -> None:
    before = set(threading.enumerate())
    with client_of(server) as (client, breaker):
        for _ in range(5):
            with due_within(0.1):
                seconds_of(lambda: client.blpop(["nothing"], timeout=0.2))
        wait_for(lambda: set(threading.enumerate()) <= before)
        assert breaker.state == "closed"
        assert client.blpop(["nothing"], timeout=0.05) is None


def test_who_has_little_time_waits_as_little_for_a_free_connection(server: EmbeddedRedis) -> None:
    with client_of(server, size=1) as (client, _):
        held = client.connection_pool.get_connection()
        with due_within(0.1):
            assert seconds_of(client.ping) < SECONDS * 0.8
        client.connection_pool.release(held)
        assert client.ping()


def test_who_is_late_before_there_is_a_connection_hears_it_as_an_error_of_redis(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(server) as (client, _):
        with monkeypatch.context() as busy:
            # What it does first.
            busy.setattr(client.connection_pool, "_checkpid", lambda: time.sleep(1.5 * LEAST_SECONDS))
            with due_within(0.0):
                assert seconds_of(client.ping) < SECONDS
        assert client.ping()


def test_a_server_that_was_restarted_is_found_again_without_an_error(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        together = threading.Barrier(5)

        def ping() -> None:
            together.wait(10)
            client.blpop(["nothing"], timeout=0.05)

        threads = [threading.Thread(target=ping) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        server.stop()
        server.start()
        assert [client.ping() for _ in range(10)] == [True] * 10
        assert breaker.state == "closed"


def test_a_server_that_is_gone_is_told_at_once(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        server.stop()
        assert all(seconds_of(client.ping) < SECONDS for _ in range(3))
        assert breaker.state == "open"
        server.start()
        wait_for(lambda: breaker.state == "closed")
        assert client.ping()


def test_a_client_that_is_closed_looks_for_its_server_no_more(server: EmbeddedRedis) -> None:
    before = set(threading.enumerate())
    with client_of(server) as (client, breaker):
        server.stop()
        for _ in range(3):
            seconds_of(client.ping)
        asker = next(each for each in threading.enumerate() if each.name == "redis-asker" and each not in before)
    asker.join(10)
    assert not asker.is_alive()
    assert breaker.state == "open"


def test_a_server_that_takes_no_more_connections_is_told_as_one_that_is_gone(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker), redis.Redis.from_url(server.url()) as admin:
        admin.config_set("maxclients", 1)
        assert all(seconds_of(client.ping) < SECONDS for _ in range(3))
        assert breaker.state == "open"
        admin.config_set("maxclients", 100)
        wait_for(lambda: breaker.state == "closed")
        assert client.ping()


def test_a_connection_that_is_not_made_in_time_is_a_timeout(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_: object) -> None:
        raise TimeoutError

    with client_of(server) as (client, _), monkeypatch.context() as slow:
        slow.setattr(redis.UnixDomainSocketConnection, "_connect", late)
        with pytest.raises(redis.TimeoutError):
            client.ping()


def test_one_more_than_the_pool_has_waits_for_a_bounded_time_and_says_nothing_against_the_server(
    server: EmbeddedRedis,
) -> None:
    with client_of(server, size=1) as (client, breaker):
        held = client.connection_pool.get_connection()
        assert SECONDS * 0.9 < seconds_of(client.ping) < SECONDS * 1.9
        assert breaker.state == "closed"
        client.connection_pool.release(held)
        assert client.ping()


def test_a_master_that_became_a_replica_is_left_alone(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        client.set("a", 1)
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(redis.ReadOnlyError):
            client.set("a", 2)
        # What it would answer to readers may be old, however long it answers.
        time.sleep(3 * ASK_SECONDS)
        with pytest.raises(CircuitOpenError):
            client.get("a")
        with redis.Redis.from_url(server.url()) as admin:
            admin.replicaof("NO", "ONE")
        wait_for(lambda: breaker.state == "closed")
        assert client.set("a", 2)


@pytest.mark.parametrize(
    "refusal",
    [
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        # A script's, of Redis 6.2.
        "ERR Error running script (call to f_1898f1b1020716618eaa6e3acd093f6c8cc7c135): @user_script:5: "
        "@user_script: 5: -READONLY You can't write against a read only replica. ",
    ],
)
def test_a_server_that_says_in_other_words_that_it_is_no_master_is_left_alone_too(
    server: EmbeddedRedis, refusal: str
) -> None:
    with client_of(server) as (client, breaker), connect_redis(server.url()) as broker:
        for each in (client, broker):
            old = each.client_id()
            with pytest.raises(redis.ResponseError):
                each.eval("return redis.error_reply(ARGV[1])", 0, refusal)
            wait_for(lambda: breaker.state == "closed")
            assert each.client_id() != old


def test_a_script_that_failed_for_another_reason_says_nothing_against_the_server(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        old = client.client_id()
        with pytest.raises(redis.ResponseError):
            client.eval("return redis.error_reply(ARGV[1])", 0, "ERR Error running script: no -READONLY at all")
        assert breaker.state == "closed"
        assert client.client_id() == old


def test_who_is_interrupted_leaves_no_answer_behind_for_the_next(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(server) as (client, _):
        client.set("a", 1)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as interrupted:
            # As Dramatiq does to what takes too long: it may come between the command and its answer.
            interrupted.setattr(client, "parse_response", interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.blpop(["nothing"], timeout=0.2)
        assert client.get("a") == b"1"
        assert client.get("a") == b"1"


def test_a_connection_that_was_not_introduced_to_the_end_is_not_used(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_client(server.url(7), Breaker("redis test"), seconds=SECONDS) as client:

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as interrupted:
            # Before SELECT.
            interrupted.setattr(redis.UnixDomainSocketConnection, "on_connect_check_health", interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.ping()
        client.set("a", 1)
    with redis.Redis.from_url(server.url(7)) as there:
        assert there.get("a") == b"1"


def test_connections_that_were_idle_while_their_server_was_no_master_are_not_used_when_it_is_one_again(
    server: EmbeddedRedis,
) -> None:
    with client_of(server) as (client, breaker), redis.Redis.from_url(server.url()) as admin:
        pool = client.connection_pool
        # One in use and five that are idle.
        held = [pool.get_connection() for _ in range(6)]
        for connection in held[1:]:
            pool.release(connection)
        old = client_ids(admin)
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(redis.ReadOnlyError):
            ask(held[0], "SET", "a", 1)
        pool.release(held[0])
        admin.replicaof("NO", "ONE")
        wait_for(lambda: breaker.state == "closed")
        held = [pool.get_connection() for _ in range(6)]
        for connection in held:
            ask(connection, "PING")
        assert not old & client_ids(admin)
        for connection in held:
            pool.release(connection)


def test_a_user_who_may_use_our_keys_only_finds_the_server_again(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker), redis.Redis.from_url(server.url()) as admin:
        admin.acl_setuser("default", enabled=True, nopass=True, reset_keys=True, keys=["MB:*"], commands=["+@all"])
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(3):
            seconds_of(client.ping)
        assert breaker.state == "open"
        os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: breaker.state == "closed")
        assert client.ping()


def test_an_answer_that_is_an_error_says_nothing_against_the_server(server: EmbeddedRedis) -> None:
    with client_of(server) as (client, breaker):
        client.set("a", "text")
        for _ in range(5):
            with pytest.raises(redis.ResponseError):
                client.incr("a")
        assert breaker.state == "closed"
