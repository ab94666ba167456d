"""Whatever Redis does, a call ends in its own kind of outcome, and in its own time."""

import time
from collections.abc import Iterator, Sequence

import pytest

from events.breaker import Breaker
from events.connections import open_client
from tests.chaos.redis.faulty import AWAY, Fault, FaultyRedis
from tests.integration.workers.http.hostile import Hostile, answers, hostile, is_silent
from tests.integration.workers.http.making import made
from tests.waiting import wait_for
from workers.http.answers import Answers, Caching
from workers.http.buckets import RedisBuckets
from workers.http.core import Failure, Kind, Outcome
from workers.http.policies import Policies, Policy
from workers.http.service import HttpClient
from workers.leased.adapters import RedisLeased
from workers.leased.keeping import KeptLeased

DEADLINE, SLACK = 0.2, 0.15
MINUTE = Caching(fresh=60)
# Of one host under three names.
POLICIES = Policies(
    [
        Policy("closed", ("127.0.0.1",), rate=1000, burst=9, without_redis="closed"),
        Policy("local", ("localhost",), rate=1000, burst=9),
        Policy("used up", ("127.1",), rate=0.1),
    ]
)
# Those that cost a call time, or its turn.
MET: Sequence[Fault] = ("killed", "stopped", "silent", "slow", "too slow", "full", "failed over")
# Of its part of a deadline, "slow" may take too much; and whoever meets the old master is without one for a moment.
EITHER = {"slow", "failed over"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Hostile]:
    with hostile(answers()) as made:
        yield made


@pytest.fixture
def one(faulty: FaultyRedis) -> Iterator[HttpClient]:
    client = open_client(faulty.url(), Breaker("redis test", open_seconds=60))
    leased = KeptLeased(RedisLeased(client, "MB:http", lease_seconds=10), longest=10)
    made_one = made(
        deadline=DEADLINE,
        policies=POLICIES,
        buckets=RedisBuckets(client, namespace="MB"),
        answers=Answers(leased),
        sleep=time.sleep,
    )
    yield made_one
    made_one.close()
    client.close()


def kind(outcome: Outcome) -> Kind | None:
    return outcome.kind if isinstance(outcome, Failure) else None


@pytest.mark.parametrize("fault", MET)
def test_every_call_ends_as_it_should_and_within_its_deadline_and_turns_are_given_again(
    faulty: FaultyRedis, upstream: Hostile, one: HttpClient, fault: Fault
) -> None:
    closed = f"{upstream.url}/{fault.replace(' ', '-')}"
    asked = {Kind.LIMITED} if fault in AWAY else {None, Kind.LIMITED} if fault in EITHER else {None}
    local, used_up = (closed.replace("127.0.0.1", name) for name in ("localhost", "127.1"))
    wrong: list[str] = []

    def check(what: str, url: str, *wanted: Kind | None, caching: Caching | None = None) -> None:
        began = time.monotonic()
        outcome = one.get(url, caching=caching)
        took = time.monotonic() - began
        if kind(outcome) not in wanted or took > DEADLINE + SLACK:
            wrong.append(f"{what}: {kind(outcome)} after {took:.3f} s")

    for url in (closed, f"{local}/kept"):
        one.get(url, caching=MINUTE, deadline=5)
    one.get(used_up, deadline=5)
    with hostile(is_silent) as silent, faulty.suffering(fault):
        check("first call", f"{local}/new", None, caching=MINUTE)
        check("kept answer", f"{local}/kept", None, caching=MINUTE)
        check("limited host", f"{closed}/new", *asked, caching=MINUTE)
        check("limited host, kept answer", closed, *asked, caching=MINUTE)
        # Each process counts for itself, or the new server knows nothing.
        check("no turn", used_up, None, Kind.LIMITED)
        for n in range(2):
            url = silent.url.replace("127.0.0.1", "localhost")
            check("silent host", f"{url}/{n}", Kind.DEADLINE, caching=MINUTE)
    assert wrong == []
    wait_for(lambda: kind(one.get(f"{closed}/after")) is None)
