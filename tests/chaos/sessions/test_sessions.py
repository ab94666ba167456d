"""Whatever happens to the Redis of the sessions: it is told soon, as configured, and who logged out stays so."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from events.breaker import Breaker
from events.connections import open_client
from tests.chaos.redis.faulty import AWAY, FAULTS, LONGEST, SECONDS, Fault, FaultyRedis, Stopwatch
from tests.integration.workers.accounts.sessions.conftest import make_sessions
from tests.waiting import wait_for
from workers.accounts.sessions.core import Session
from workers.accounts.sessions.service import Sessions, SessionsUnavailableError

# Everybody is signed out: it is empty, or the time of all is over.
LOST = {"killed", "emptied", "clock ahead"}
# Over when it is well: for sessions time never goes back.
LATE = {"clock behind"}
# What was done while it lasted is lost with the server that it was done at.
FORGOTTEN = {"restored", "failed over late", "failed over and back"}
MOMENT = timedelta(milliseconds=5)


class Asker(Stopwatch):
    def answers(self, sessions: Sessions, session_id: str) -> bool:
        try:
            self(lambda: sessions.look(session_id))
        except SessionsUnavailableError:
            return False
        return True


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_told_soon_and_as_configured_and_who_logged_out_stays_so(faulty: FaultyRedis, fault: Fault) -> None:
    client = open_client(faulty.url(1), Breaker("sessions", open_seconds=0.2), seconds=SECONDS)
    refusing, anonymous = make_sessions(client), make_sessions(client, without_redis="anonymous")
    asked = Asker()

    def get(session_id: str) -> Session | None:
        return asked(lambda: refusing.get(session_id))

    kept, later, ended = (refusing.sign_in(7).id for _ in range(3))
    assert refusing.end(ended)
    before = refusing.get(kept)
    assert before is not None
    with faulty.suffering(fault):
        if fault in AWAY:
            for _ in range(3):
                for call in (refusing.get, refusing.end, anonymous.end):
                    with pytest.raises(SessionsUnavailableError, match="REDIS_SESSIONS_URL"):
                        asked(lambda call=call: call(kept))  # type: ignore[misc]
                assert asked(lambda: anonymous.get(kept)) is None
        else:
            wait_for(lambda: asked.answers(refusing, kept))
            found = asked(lambda: refusing.look(kept))
            assert (found is None) is (fault in LOST)
            if found is not None:
                # It ends when it would have.
                assert abs(found.ends - before.ends) < MOMENT or fault == "clock behind"
                assert abs(found.idle_ends - before.idle_ends) < MOMENT or fault == "clock behind"
            assert (get(kept) is None) is (fault in LOST)
            assert refusing.end(later) is (fault not in LOST)
            assert get(later) is None
            assert get(ended) is None
            if fault == "full":
                with pytest.raises(SessionsUnavailableError, match="OutOfMemoryError"):
                    asked(lambda: refusing.sign_in(7))
    wait_for(lambda: asked.answers(refusing, kept))
    assert get(ended) is None
    assert (get(kept) is None) is (fault in LOST | LATE)
    if fault not in AWAY:
        assert (get(later) is None) is (fault not in FORGOTTEN)
    # Ended again, it is over.
    refusing.end_all(7)
    assert [get(each) for each in (kept, later, ended)] == [None] * 3
    assert get(refusing.sign_in(7).id) is not None
    assert asked.slowest < LONGEST
    client.close()


def test_a_log_out_that_replicas_must_know_of_is_undone_by_none_that_takes_over(faulty: FaultyRedis) -> None:
    with open_client(faulty.url(1), Breaker("sessions", open_seconds=0.05)) as client:
        sessions = make_sessions(client, replicas=1)
        asked = Asker()
        one, other, third = (sessions.sign_in(editor_id).id for editor_id in (7, 8, 9))
        ends: list[Callable[[], int]] = [
            lambda: sessions.end(one), lambda: sessions.end_everywhere(other), lambda: sessions.end_all(9)
        ]  # fmt: skip
        with faulty.suffering("failed over late"):
            for end in ends:
                with pytest.raises(SessionsUnavailableError, match="0 of 1 replicas"):
                    asked(end)
            assert [sessions.get(each) for each in (one, other, third)] == [None] * 3
        assert asked.slowest < 1
        faulty.attach_replica()
        wait_for(lambda: asked.answers(sessions, one))
        assert None not in [sessions.get(each) for each in (one, other, third)]
        assert [end() for end in ends] == [1, 1, 1]
        with faulty.suffering("failed over"):
            # Who took over has no replica itself.
            with pytest.raises(SessionsUnavailableError, match="0 of 1 replicas"):
                sessions.end_all(7)
            assert [sessions.get(each) for each in (one, other, third)] == [None] * 3
