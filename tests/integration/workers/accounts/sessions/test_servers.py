"""Sessions while their Redis is not well; more of that is in tests/chaos/sessions."""

import pytest
import redis

from tests.integration.workers.accounts.sessions.conftest import kept, make_sessions
from workers.accounts.sessions.service import Sessions, SessionsUnavailableError

Client = redis.Redis


def test_scripts_that_the_server_forgot_are_sent_again(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    client.script_flush()
    assert sessions.get(opened.id) is not None
    client.script_flush()
    assert sessions.end_all(7) == 1


def test_when_memory_is_full_sessions_are_used_and_ended_and_no_half_one_is_made(client: Client) -> None:
    sessions = make_sessions(client)
    old, other = sessions.sign_in(7), sessions.sign_in(7)
    before = kept(client)
    client.config_set("maxmemory", 1)
    try:
        for work in (lambda: sessions.sign_in(7, old.id), lambda: sessions.write(old.id, {"a": 1})):
            with pytest.raises(SessionsUnavailableError, match="OutOfMemoryError"):
                work()
        assert kept(client) == before
        assert sessions.get(old.id) is not None
        assert sessions.end(other.id)
        assert sessions.end_all(7) == 1
    finally:
        client.config_set("maxmemory", 0)
    assert not kept(client)
