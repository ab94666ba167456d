"""The script on a real server, at a clock that the tests set: exact, atomic, and not to be confused by that clock."""

import uuid
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.stack import Stack
from tests.integration.workers.limits.clock import AT, Clock
from workers.limits.adapters import RedisWindows
from workers.limits.core import Decision, Scope

NOON = 1_795_656_858_000_000
HOUR = 3_600_000_000


@pytest.fixture(scope="session")
def client(stack: Stack) -> "Iterator[redis.Redis]":
    with redis.Redis.from_url(stack.redis_url(4)) as client:
        yield client


@pytest.fixture
def clock(client: "redis.Redis") -> Clock:
    return Clock(client, NOON)


def scope(limit: int = 3, *, seconds: float = 1.0, name: str = "test") -> Scope:
    """One that nobody else has used."""
    return Scope(name, uuid.uuid4().hex, limit, seconds)


def size(client: "redis.Redis", *scopes: Scope) -> list[int]:
    windows = RedisWindows(client)
    return [client.zcard(windows.key_of(each)) for each in scopes]


def test_the_limit_is_let_through_and_then_what_is_told_is_exact(clock: Clock) -> None:
    one = scope(3)
    decisions = [clock.at(NOON + offset).decide([one]) for offset in (0, 10, 250_000, 900_000)]
    assert [each.outcome for each in decisions] == ["allowed", "allowed", "allowed", "refused"]
    assert [each.remaining for each in decisions] == [2, 1, 0, 0]
    refused = decisions[-1]
    # The first leaves 1 s after it came; all is there again 1 s after the last.
    assert refused == Decision("refused", one, 0, 0.1, (NOON + 1_250_000) / 1e6, NOON + 900_000)
    assert clock.at(NOON + 999_999).decide([one]).retry_after == 0.000001
    assert clock.at(NOON + 1_000_000).decide([one]).allowed
    assert clock.at(NOON + 1_000_000).decide([one]).retry_after == 0.00001


def test_a_microsecond_of_this_century_is_not_rounded(clock: Clock) -> None:
    one = scope(1)
    for at in (NOON + 1, NOON + 1_000_001, 9_007_199_254_740_991 - 2_000_000):
        assert clock.at(at).decide([one]) == Decision("allowed", one, 0, 0.0, (at + 1_000_000) / 1e6, at)
        assert clock.at(at + 999_999).decide([one]).retry_after == 0.000001


def test_many_in_one_microsecond_are_many(clock: Clock) -> None:
    one = scope(50)
    assert sum(clock.decide([one]).allowed for _ in range(120)) == 50


def test_what_is_refused_is_not_kept_and_what_is_old_goes(clock: Clock, client: "redis.Redis") -> None:
    one = scope(5)
    for _ in range(100):
        clock.decide([one])
    assert size(client, one) == [5]
    clock.at(NOON + 1_000_000).decide([one])
    assert size(client, one) == [1]


def test_several_scopes_are_counted_in_all_of_them_or_in_none(clock: Clock, client: "redis.Redis") -> None:
    wide, narrow, other = scope(5, name="wide"), scope(2, name="narrow"), scope(9, seconds=60, name="other")
    outcomes = [clock.at(NOON + n).decide([wide, narrow, other]) for n in range(4)]
    assert [each.outcome for each in outcomes] == ["allowed", "allowed", "refused", "refused"]
    # Told of is the one that has least left, or that refuses.
    assert [(each.scope, each.remaining) for each in outcomes[1:]] == [(narrow, 0)] * 3
    assert size(client, wide, narrow, other) == [2, 2, 2]


def test_of_several_that_refuse_the_longest_wait_is_told_wherever_it_stands(clock: Clock) -> None:
    short, long = scope(1), scope(1, seconds=60)
    clock.decide([short, long])
    for order in ([short, long], [long, short]):
        decision = clock.at(NOON + 500_000).decide(order)
        assert (decision.scope, decision.retry_after) == (long, 59.5)
        assert decision.reset == (NOON + 60_000_000) / 1e6


def test_a_scope_that_is_given_twice_counts_once(clock: Clock) -> None:
    one = scope(2)
    assert [clock.decide([one, one]).allowed for _ in range(3)] == [True, True, False]


def test_windows_of_one_name_and_key_do_not_forget_for_each_other(clock: Clock) -> None:
    hour = scope(2, seconds=3_600)
    second = Scope(hour.name, hour.key, 1)
    for n in range(2):
        assert clock.at(NOON + n * 2_000_000).decide([hour, second]).allowed
    assert clock.at(NOON + 10_000_000).decide([second]).allowed
    assert clock.at(NOON + 20_000_000).decide([hour, second]).scope == hour


def test_a_limit_that_was_lowered_holds_at_once(clock: Clock) -> None:
    before = scope(5)
    after = Scope(before.name, before.key, 2)
    for n in range(5):
        clock.at(NOON + n).decide([before])
    # The fourth of five must have left, for one of two to be there.
    assert clock.at(NOON + 10).decide([after]).retry_after == (1_000_003 - 10) / 1e6
    assert not clock.at(NOON + 1_000_002).decide([after]).allowed
    assert clock.at(NOON + 1_000_003).decide([after]).allowed


@pytest.mark.parametrize(
    "key",
    ["", "a" * 1_000_000, "x:y} {z\r\n*1\r\n$8\r\nFLUSHALL\r\n", "\0\n", "\ud800", "名前", "2001:db8::/64"],
    ids=["empty", "long", "commands", "nul", "surrogate", "letters", "address"],
)
def test_a_key_may_be_anything_from_anywhere(clock: Clock, client: "redis.Redis", key: str) -> None:
    one = Scope(uuid.uuid4().hex, key, 1)
    assert [clock.decide([one]).allowed for _ in range(2)] == [True, False]
    name = RedisWindows(client).key_of(one)
    assert len(name) < 100
    assert not key or key not in name


def test_keys_that_look_alike_are_others(clock: Clock) -> None:
    name = uuid.uuid4().hex
    keys = ["a", "A", "a ", "a:", "ä", "a\u0308", "\ud800", "\udfff"]
    assert all(clock.decide([Scope(name, key, 1)]).allowed for key in keys)


def test_a_clock_that_is_set_back_blocks_for_a_window_and_no_longer(clock: Clock) -> None:
    one = scope(2)
    for _ in range(2):
        assert clock.decide([one]).allowed
    clock.at(NOON - HOUR)
    refused = clock.decide([one])
    assert (refused.outcome, refused.retry_after, refused.reset) == ("refused", 1.0, (NOON - HOUR + 1_000_000) / 1e6)
    assert not clock.at(NOON - HOUR + 999_999).decide([one]).allowed
    assert clock.at(NOON - HOUR + 1_000_000).decide([one]).remaining == 1


def test_a_clock_that_is_set_forward_forgets_and_nothing_else(clock: Clock, client: "redis.Redis") -> None:
    one = scope(2)
    for at in (NOON, NOON, NOON + HOUR, NOON + HOUR):
        assert clock.at(at).decide([one]).allowed
    assert not clock.decide([one]).allowed
    assert size(client, one) == [2]


STEPS = st.lists(
    st.tuples(
        # What passes, in tenths of a second and microseconds; how far the clock is set back then, mostly not at all.
        st.integers(0, 7), st.integers(0, 2), st.sampled_from([0, 0, 0, 0, 1, 100_000, 900_000, 5_000_000]),
        st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
    ),
    max_size=40,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_in_true_time_no_window_ever_has_more_than_its_limit(client: "redis.Redis", steps: list[AT]) -> None:
    _check_against_truth(client, steps)


@given(STEPS.map(lambda steps: [(tenths, us, 0, which) for tenths, us, _, which in steps]))
@settings(max_examples=60, deadline=None)
def test_with_a_steady_clock_it_lets_through_exactly_what_may_be(client: "redis.Redis", steps: list[AT]) -> None:
    _check_against_truth(client, steps, exact=True)


def _check_against_truth(client: "redis.Redis", steps: list[AT], *, exact: bool = False) -> None:
    scopes = [scope(1), scope(2, seconds=0.3), scope(4, seconds=2.5)]
    let_through: list[list[int]] = [[] for _ in scopes]
    clock = Clock(client, NOON)
    truth, offset = 0, NOON
    for tenths, us, back, which in steps:
        truth += tenths * 100_000 + us
        offset -= back
        decision = clock.at(truth + offset).decide([scopes[n] for n in which])
        # Half-open windows: what was done exactly a window ago is out of it.
        waits = {n: _wait(let_through[n], scopes[n], truth) for n in which}
        if decision.allowed:
            assert max(waits.values()) == 0
            assert decision.remaining == min(_room(let_through[n], scopes[n], truth) - 1 for n in which) or not exact
            for n in which:
                let_through[n].append(truth)
        elif exact:
            assert decision.retry_after == max(waits.values()) / 1e6
            assert waits[scopes.index(decision.scope)] == max(waits.values())
        # Whatever was done to the clock, nobody waits for longer than a window.
        assert decision.retry_after <= decision.scope.seconds


def _wait(times: list[int], one: Scope, now: int) -> int:
    """Microseconds until there is room, by looking at all that was ever let through."""
    return max(0, times[-one.limit] + one.window_us - now) if len(times) >= one.limit else 0


def _room(times: list[int], one: Scope, now: int) -> int:
    return one.limit - sum(at > now - one.window_us for at in times)
