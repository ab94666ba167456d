"""Waiting for one's turn."""

# ruff: noqa: ARG002 (doubles have the signatures of what they stand for)

import ctypes
import linecache
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.waiting import wait_for
from workers.http.buckets import BucketsUnavailableError
from workers.http.core import CallError, Kind
from workers.http.gate import Gate
from workers.http.policies import Policy
from workers.leased.keeping import Keeper


class Scripted:
    """Buckets that answer what they are told to; `asked` counts."""

    def __init__(self, *waits: float | Exception) -> None:
        self.waits = list(waits)
        self.asked = 0
        self.given_back: list[float] = []
        self.renewed: list[float] = []

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        self.asked += 1
        wait = self.waits.pop(0) if len(self.waits) > 1 else self.waits[0]
        if isinstance(wait, Exception):
            raise wait
        return wait

    def renew(self, bucket: str, lease: str, seconds: float) -> bool:
        self.renewed.append(seconds)
        return True

    def give_back(self, bucket: str, policy: Policy, lease: str, *, hold: float = 0) -> None:
        self.given_back.append(hold)


class Slow(Scripted):
    """Gives turns to all who asked when it may `go` on."""

    def __init__(self) -> None:
        super().__init__(0)
        self.go = threading.Event()

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        wait = super().take(bucket, policy, lease, seconds)
        self.go.wait(10)
        return wait


class Counted:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        self.counts[name, labels.get("rule", "")] += int(value)

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def gate(buckets: Any, time: Time, telemetry: Counted | None = None) -> Gate:
    return Gate(buckets, clock=time, sleep=time.sleep, telemetry=telemetry)


AWAY = BucketsUnavailableError("away")


def test_a_turn_is_waited_for_and_given_back_with_what_the_server_asked_for() -> None:
    time, buckets = Time(), Scripted(0.5, 0.25, 0)
    with gate(buckets, time).turn("b", Policy("p"), until=10) as turn:
        assert time.now == 0.75
        turn.hold = 7
    assert buckets.given_back == [7]


def test_a_turn_is_given_back_whatever_happens_in_it() -> None:
    buckets = Scripted(0)
    with pytest.raises(ZeroDivisionError), gate(buckets, Time()).turn("b", Policy("p"), until=10):
        raise ZeroDivisionError
    assert buckets.given_back == [0]


def test_a_turn_that_is_too_late_is_told_at_once() -> None:
    time = Time()
    with pytest.raises(CallError) as caught, gate(Scripted(30), time).turn("b", Policy("p"), until=10):
        raise AssertionError
    assert (caught.value.kind, caught.value.retry_after, time.now) == (Kind.LIMITED, 30, 0)


def test_without_redis_a_closed_policy_asks_nothing() -> None:
    counted = Counted()
    policy = Policy("wikipedia", without_redis="closed")
    turn = gate(Scripted(AWAY), Time(), counted).turn("b", policy, until=10)
    with pytest.raises(CallError, match="REDIS_LIMITS_URL") as caught, turn:
        raise AssertionError
    assert caught.value.kind is Kind.LIMITED
    assert counted.counts["mbevents_http_turns_without_redis_total", "closed"] == 1


def test_without_redis_a_local_policy_counts_for_itself_and_at_the_same_rate() -> None:
    time, counted, policy = Time(), Counted(), Policy("p", rate=2, burst=1)
    turns = gate(Scripted(AWAY), time, counted)
    for _ in range(4):
        with turns.turn("b", policy, until=100):
            pass
    assert time.now == 1.5
    assert counted.counts["mbevents_http_turns_without_redis_total", "local"] >= 4


def test_a_redis_that_goes_away_meanwhile_loses_no_answer() -> None:
    buckets = Scripted(0)

    def give_back(*_: object, **__: object) -> None:
        raise AWAY

    buckets.give_back = give_back  # type: ignore[method-assign]
    with gate(buckets, Time()).turn("b", Policy("p"), until=10):
        pass


def test_what_could_not_be_given_back_is_with_the_next_turn() -> None:
    time, buckets = Time(), Scripted(0)
    turns, back = gate(buckets, time), buckets.give_back

    def give_back(*_: object, **__: object) -> None:
        raise AWAY

    buckets.give_back = give_back  # type: ignore[method-assign]
    with turns.turn("b", Policy("p"), until=10) as turn:
        turn.hold = 7
    time.now += 2
    buckets.give_back = back  # type: ignore[method-assign]
    with turns.turn("other", Policy("q"), until=10):
        assert buckets.given_back == [5]
    assert buckets.given_back == [5, 0]


def test_a_turn_that_may_have_been_given_too_late_is_given_back() -> None:
    slow = BucketsUnavailableError("slow")
    slow.in_doubt = True
    buckets = Scripted(slow, 0)
    turns = gate(buckets, Time())
    with pytest.raises(CallError), turns.turn("b", Policy("p", without_redis="closed"), until=10):
        pass
    with turns.turn("b", Policy("p", without_redis="closed"), until=10):
        assert buckets.given_back == [0]


def test_what_is_owed_is_what_was_asked_for_and_one_call_gives_back_a_part_of_it() -> None:
    buckets, policy = Scripted(0), Policy("p", without_redis="closed")
    turns, back = gate(buckets, Time()), buckets.give_back
    slow = BucketsUnavailableError("slow")
    slow.in_doubt = True

    def give_back(*_: object, **__: object) -> None:
        raise slow

    with ExitStack() as together:
        for n in range(30):
            together.enter_context(turns.turn(f"b{n}", policy, until=10))
        buckets.give_back = give_back  # type: ignore[method-assign]
    for _ in range(5):
        # It does not get as far as asking for its own.
        with pytest.raises(CallError), turns.turn("b", policy, until=10):
            raise AssertionError
    buckets.give_back = back  # type: ignore[method-assign]
    with turns.turn("b", policy, until=10):
        assert len(buckets.given_back) == 20
    with turns.turn("b", policy, until=10):
        assert len(buckets.given_back) == 21 + 10


def test_a_turn_stands_as_long_as_its_call_and_no_longer_than_its_deadline() -> None:
    time, buckets = Time(), Scripted(0)
    turns = Gate(buckets, keeper=Keeper(every=0.01), clock=lambda: time.now, sleep=time.sleep)
    with turns.turn("b", Policy("p"), until=30):
        wait_for(lambda: len(buckets.renewed) > 2)
        assert set(buckets.renewed) == {10}
        time.now = 30
        wait_for(lambda: buckets.renewed[-1] == 5)
        time.now = 35
        wait_for(lambda: not threads("lease-keeper"))
    with turns.turn("b", Policy("p"), until=100):
        assert threads("lease-keeper")
    wait_for(lambda: not threads("lease-keeper"))


def threads(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == name]


def test_of_a_process_only_the_first_in_line_asks() -> None:
    buckets = Slow()
    turns = Gate(buckets)
    done: list[int] = []

    def call(n: int) -> None:
        with turns.turn("b", Policy("p"), until=float("1e9")):
            done.append(n)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(5)]
    for each in threads:
        each.start()
    wait_for(lambda: buckets.asked == 1)
    assert buckets.asked == 1
    buckets.go.set()
    for each in threads:
        each.join(10)
    assert sorted(done) == list(range(5))


class Interrupted(BaseException):
    """As Dramatiq's for what takes too long."""


def test_who_is_interrupted_while_waiting_keeps_nobody_from_the_host() -> None:
    buckets, done = Slow(), []
    turns = Gate(buckets)

    def call(n: int) -> None:
        with suppress(Interrupted), turns.turn("b", Policy("p"), until=time.monotonic() + 5):
            done.append(n)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(5)]
    callers[0].start()
    wait_for(lambda: buckets.asked == 1)
    for each in callers[1:]:
        each.start()
        wait_for(lambda each=each: "acquire" in waits_in(each))  # type: ignore[misc]
    ended = callers[1].ident
    assert ended is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ended), ctypes.py_object(Interrupted))
    buckets.go.set()
    for each in callers:
        each.join(10)
    assert sorted(done) == [0, 2, 3, 4]


def waits_in(thread: threading.Thread) -> str:
    """The line that it is at."""
    frame = sys._current_frames().get(thread.ident or 0)
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno) if frame is not None else ""
