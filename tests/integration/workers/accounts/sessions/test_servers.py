"""Sessions while their Redis is not well."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from events.breaker import Breaker
from events.connections import open_client
from ops.stack.redis import EmbeddedRedis
from tests.integration.workers.accounts.sessions.conftest import make_sessions
from tests.own_redis import server
from tests.waiting import wait_for
from workers.accounts.sessions.service import Sessions, SessionsUnavailableError

__all__ = ["server"]

Client = redis.Redis


@pytest.fixture
def replica(tmp_path: Path, server: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """Follows `server`."""
    made = EmbeddedRedis(tmp_path / "two")
    made.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Client.from_url(server.url()) as master, Client.from_url(made.url()) as follower:
        master.config_set("bind", "127.0.0.1")
        master.config_set("port", port)
        master.config_set("repl-diskless-sync-delay", 0)
        follower.replicaof("127.0.0.1", str(port))
        wait_for(lambda: follower.info("replication")["master_link_status"] == "up")
    yield made
    made.stop()


def test_killed_restarted_and_paused_it_is_told_quickly_and_heals_by_itself(server: EmbeddedRedis) -> None:
    client = open_client(server.url(1), Breaker("redis sessions", open_seconds=0.2), seconds=0.3)
    refusing, anonymous = make_sessions(client), make_sessions(client, without_redis="anonymous")
    opened = refusing.sign_in(7)
    assert server.pid is not None

    os.kill(server.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(SessionsUnavailableError, match="REDIS_SESSIONS_URL"):
        refusing.get(opened.id)
    assert anonymous.get(opened.id) is None
    assert time.monotonic() - began < 2
    os.kill(server.pid, signal.SIGCONT)
    wait_for(lambda: anonymous.get(opened.id) is not None)

    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: server.pid is None)
    with pytest.raises(SessionsUnavailableError):
        refusing.get(opened.id)
    with pytest.raises(SessionsUnavailableError):
        anonymous.end(opened.id)
    assert anonymous.get(opened.id) is None
    server.start()
    # It keeps nothing: nobody is signed in, and everybody can.
    wait_for(lambda: _answers(refusing, opened.id))
    assert refusing.get(opened.id) is None
    assert refusing.get(refusing.sign_in(7).id) is not None
    client.close()


def _answers(sessions: Sessions, session_id: str) -> bool:
    try:
        sessions.look(session_id)
    except SessionsUnavailableError:
        return False
    return True


def test_scripts_that_the_server_forgot_are_sent_again(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    client.script_flush()
    assert sessions.get(opened.id) is not None
    client.script_flush()
    assert sessions.end_all(7) == 1


def test_after_flushall_nobody_is_signed_in_and_everybody_can_be(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    client.flushall()
    assert sessions.get(opened.id) is None
    assert sessions.of_editor(7) == []
    assert sessions.get(sessions.sign_in(7).id) is not None


def test_when_memory_is_full_sessions_are_used_and_ended_and_no_half_one_is_made(client: Client) -> None:
    sessions = make_sessions(client)
    old, other = sessions.sign_in(7), sessions.sign_in(7)
    before = set(client.keys())
    client.config_set("maxmemory", 1)
    try:
        for work in (lambda: sessions.sign_in(7, old.id), lambda: sessions.write(old.id, {"a": 1})):
            with pytest.raises(SessionsUnavailableError, match="OutOfMemoryError"):
                work()
        assert set(client.keys()) == before
        assert sessions.get(old.id) is not None
        assert sessions.end(other.id)
        assert sessions.end_all(7) == 1
    finally:
        client.config_set("maxmemory", 0)
    assert client.keys() == []


def test_after_a_failover_sessions_end_when_they_would_have_and_the_old_master_is_not_believed(
    server: EmbeddedRedis, replica: EmbeddedRedis
) -> None:
    master, follower = (open_client(each.url(1), Breaker("redis sessions")) for each in (server, replica))
    before, after = make_sessions(master), make_sessions(follower)
    kept, ended = before.sign_in(7), before.sign_in(7)
    before.end(ended.id)
    renewed = before.get(kept.id)
    assert master.wait(1, 5_000) == 1
    follower.replicaof("NO", "ONE")
    master.replicaof("127.0.0.1", "1")
    with pytest.raises(SessionsUnavailableError):
        before.get(kept.id)
    found = after.look(kept.id)
    assert found is not None
    assert renewed is not None
    assert (found.ends, found.idle_ends) == (renewed.ends, renewed.idle_ends)
    assert after.look(ended.id) is None
    assert after.end_all(7) == 1
    for client in (master, follower):
        client.close()
