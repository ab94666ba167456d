"""The clock of the sessions' Redis is set back and forward: no session stands longer than it may."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import redis

from tests.chaos.redis.faulty import FaultyRedis
from tests.integration.workers.accounts.sessions.conftest import kept, make_sessions
from workers.accounts.sessions.core import Session
from workers.accounts.sessions.service import Sessions

MINUTE, HOUR, DAY = 60, 3_600, 86_400


class Time:
    """What passes, and how far the clock is off; for the server the one is like the other."""

    def __init__(self, faulty: FaultyRedis) -> None:
        faulty.clock.require()
        self._set = faulty.set_clock
        self._passed = self._off = 0.0

    def passes(self, seconds: float) -> None:
        self._passed += seconds
        self._set(self._passed + self._off)

    def is_set(self, seconds: float) -> None:
        self._off += seconds
        self.passes(0)


@pytest.fixture
def client(faulty: FaultyRedis) -> "Iterator[redis.Redis]":
    with redis.Redis.from_url(faulty.master.url(1)) as client:
        yield client


@pytest.fixture
def sessions(client: "redis.Redis") -> Sessions:
    """10 h, and 3 h unused."""
    return make_sessions(client)


@pytest.mark.parametrize(
    "steps",
    [[-MINUTE], [-5 * HOUR], [-400 * DAY], [-HOUR, -HOUR], [HOUR, -HOUR], [-8 * HOUR, 8 * HOUR]],
    ids=str,
)
def test_whatever_is_done_to_the_clock_it_ends_after_10_hours_and_after_3_unused(
    faulty: FaultyRedis, client: "redis.Redis", sessions: Sessions, steps: Sequence[float]
) -> None:
    clock, used = Time(faulty), sessions.sign_in(7)
    for _ in range(3):
        clock.passes(2.4 * HOUR)
        assert sessions.get(used.id) is not None
    clock.passes(MINUTE)
    unused = sessions.sign_in(8)
    for step in steps:
        clock.is_set(step)
        found = sessions.get(used.id)
        # Forward it may end sooner than it should, never later.
        if step < 0 and sum(steps) < 0:
            assert found is not None
            assert _lasts(client, found) == pytest.approx(10 * HOUR - 7.2 * HOUR - MINUTE, abs=5)
            assert (found.ends - found.began).total_seconds() == 10 * HOUR
    clock.passes(2.7 * HOUR)
    if sum(steps) < 0:
        assert sessions.get(used.id) is not None
        assert sessions.look(unused.id) is not None
        assert [each.editor_id for each in sessions.of_editor(8)] == [8]
    clock.passes(0.4 * HOUR)
    assert sessions.get(used.id) is None
    assert sessions.look(unused.id) is None
    assert sessions.of_editor(8) == []


def _lasts(client: "redis.Redis", session: Session) -> float:
    """In seconds, for who has the server's clock."""
    seconds, _ = client.time()
    return (session.ends - datetime.fromtimestamp(seconds, UTC)) / timedelta(seconds=1)


def test_who_signs_in_after_it_was_set_back_has_all_the_time_and_can_be_logged_out(
    faulty: FaultyRedis, client: "redis.Redis", sessions: Sessions
) -> None:
    clock, old = Time(faulty), sessions.sign_in(7)
    clock.is_set(-DAY)
    new = sessions.sign_in(7)
    assert _lasts(client, new.session) == pytest.approx(10 * HOUR, abs=5)
    clock.passes(2.9 * HOUR)
    assert {each.editor_id for each in sessions.of_editor(7)} == {7}
    assert sessions.end_everywhere(new.id) == 2
    assert sessions.get(old.id) is None
    assert not kept(client)


def test_one_that_was_used_by_a_clock_that_redis_threw_away_ends(
    faulty: FaultyRedis, client: "redis.Redis", sessions: Sessions
) -> None:
    clock, old = Time(faulty), sessions.sign_in(7)
    clock.is_set(-2 * HOUR)
    assert sessions.get(old.id) is not None
    client.delete("MB:sessions:clock")
    # It would stand for two hours more than it may.
    assert sessions.look(old.id) is None
    new = sessions.sign_in(7)
    assert [each.ends for each in sessions.of_editor(7)] == [new.session.ends]
