"""Who loads, who waits, and what is kept."""

import threading
import time
from typing import Any

import pytest

from tests.unit.workers.caches.making import FakeTelemetry
from tests.waiting import wait_for
from workers.leased.core import Loaded
from workers.leased.service import ReadThrough, StoreUnavailableError, Taken, Times

from .making import FakeLeased


class Rows:
    """Loads the next one of some bodies; counts."""

    def __init__(self, *bodies: bytes | None, tags: tuple[str, ...] = ()) -> None:
        self._bodies = list(bodies)
        self._tags = tags
        self.loads = 0

    def __call__(self) -> Loaded:
        self.loads += 1
        return Loaded(self._bodies.pop(0) if len(self._bodies) > 1 else self._bodies[0], self._tags)


def through(leased: FakeLeased, **more: Any) -> ReadThrough:
    return ReadThrough(leased, "search", **more)


def test_times_to_live_differ_by_up_to_a_tenth() -> None:
    leased = FakeLeased()
    cache = through(leased, times=Times(ttl=1000, absent_ttl=10))
    for number in range(200):
        cache.get_or_load(f"{number}", Rows(b"{}"))
    times = [entry[2] for entry in leased.log]
    assert 900 <= min(times) < 950
    assert 1050 < max(times) <= 1100
    cache.get_or_load("absent", Rows(None))
    assert 9 <= leased.log[-1][2] <= 11


def test_what_is_invalidated_during_its_load_is_not_kept() -> None:
    leased, telemetry = FakeLeased(), FakeTelemetry()
    cache = through(leased, telemetry=telemetry)

    def overtaken() -> Loaded:
        cache.forget(tags=["artist:1"])
        return Loaded(b"old", ("artist:1",))

    assert cache.get_or_load("page", overtaken) == b"old"
    assert cache.get("page") is None
    assert telemetry.counts["mbevents_cache_loads_total", "search", "refused"] == 1


def test_a_load_that_fails_leaves_the_next_one_free() -> None:
    telemetry = FakeTelemetry()
    cache = through(FakeLeased(), telemetry=telemetry)

    def fail() -> Loaded:
        raise LookupError

    with pytest.raises(LookupError):
        cache.get_or_load("page", fail)
    rows = Rows(b"{}")
    assert cache.get_or_load("page", rows) == b"{}"
    assert cache.get_or_load("page", rows) == b"{}"
    assert rows.loads == 1
    assert telemetry.counts["mbevents_cache_loads_total", "search", "failed"] == 1


def many(work: Any, number: int = 6) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads


class Slow:
    """A load that goes on until it is told."""

    def __init__(self, body: bytes = b"{}") -> None:
        self.loads = 0
        self.begun, self.finish = threading.Event(), threading.Event()
        self._body = body

    def __call__(self) -> Loaded:
        self.loads += 1
        self.begun.set()
        assert self.finish.wait(10)
        return Loaded(self._body)


def test_others_wait_for_the_one_that_loads_however_long_it_takes() -> None:
    cache, slow = through(FakeLeased(), times=Times(patience=0)), Slow()
    results: list[bytes | None] = []
    readers = many(lambda: results.append(cache.get_or_load("page", slow)))
    assert slow.begun.wait(10)
    slow.finish.set()
    for reader in readers:
        reader.join(10)
    assert results == [b"{}"] * 6
    assert slow.loads == 1


def test_who_comes_after_an_invalidation_is_not_given_what_was_loaded_before_it() -> None:
    """The load of the first reader began before; it may keep what it got, the second may not."""
    cache, slow = through(FakeLeased()), Slow(b"old")
    results: dict[str, bytes | None] = {}
    first = threading.Thread(target=lambda: results.update(first=cache.get_or_load("page", slow)))
    first.start()
    assert slow.begun.wait(10)
    cache.forget(["page"])
    second = threading.Thread(target=lambda: results.update(second=cache.get_or_load("page", Rows(b"new"))))
    second.start()
    slow.finish.set()
    first.join(10)
    second.join(10)
    assert results == {"first": b"old", "second": b"new"}


class Gated(FakeLeased):
    """Nobody's lease comes before `open` is set: until then no load begins."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.open = threading.Event(), threading.Event()

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        self.asked.set()
        assert self.open.wait(10)
        return super().lease(name, anew=anew)


@pytest.mark.parametrize("fails", [False, True])
def test_who_asked_before_a_load_began_takes_what_it_finds_although_it_is_overtaken_or_fails(fails: bool) -> None:
    leased, loads, results = Gated(), list[int](), list[bytes | str | None]()
    cache = through(leased)

    def load() -> Loaded:
        loads.append(1)
        leased.forget(["page"])
        if fails:
            raise LookupError("no such thing")
        return Loaded(b"{}")

    def read() -> None:
        try:
            results.append(cache.get_or_load("page", load))
        except LookupError as error:
            results.append(str(error))

    leader = many(read, 1)
    assert leased.asked.wait(10)
    readers = leader + many(read, 5)
    # All of them wait: what they asked is behind them.
    wait_for(lambda: sum(1 for _ in filter(threading.Thread.is_alive, readers)) == 6)
    time.sleep(0.1)
    leased.open.set()
    for reader in readers:
        reader.join(10)
    assert results == ["no such thing" if fails else b"{}"] * 6
    assert len(loads) == 1


def test_a_load_that_hangs_hangs_nobody_else() -> None:
    cache, slow = through(FakeLeased(), times=Times(patience=0, longest=0.5)), Slow(b"late")
    hanging = many(lambda: cache.get_or_load("page", slow), 1)
    assert slow.begun.wait(10)
    try:
        assert cache.get_or_load("page", Rows(b"new")) == b"new"
        began = time.monotonic()
        assert cache.get_or_load("page", Rows(b"newer")) == b"newer"
        assert time.monotonic() - began < 0.5
    finally:
        slow.finish.set()
    hanging[0].join(10)


def test_waiting_for_another_process_has_an_end_and_stores_nothing() -> None:
    leased, now = FakeLeased(), [0.0]
    lease = leased.lease("page").lease
    assert lease is not None

    def sleep(seconds: float) -> None:
        now[0] += seconds

    cache = through(leased, times=Times(patience=0.5), sleep=sleep, clock=lambda: now[0])
    assert cache.get_or_load("page", Rows(b"{}")) == b"{}"
    assert 0.5 <= now[0] < 0.6
    assert cache.get("page") is None
    assert leased.store("page", lease, Loaded(b"{}"), seconds=1, cost=0)


class Dead(FakeLeased):
    """Redis is down."""

    def read(self, names: Any) -> Any:
        raise StoreUnavailableError(f"down, no {names}")

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        raise StoreUnavailableError(f"down, no {name}, {anew}")


def test_without_redis_everybody_loads_and_nobody_waits_for_another() -> None:
    cache, slow = through(Dead()), Slow()
    readers = many(lambda: cache.get_or_load("page", slow))
    wait_for(lambda: slow.loads > 1)
    slow.finish.set()
    for reader in readers:
        reader.join(10)
    rows = Rows(b"1", b"2")
    assert [cache.get_or_load("page", rows), cache.get_or_load("page", rows)] == [b"1", b"2"]


def test_what_nears_its_end_is_loaded_anew_by_one_while_others_are_served() -> None:
    leased, slow = FakeLeased(), Slow(b"new")
    cache = through(leased)
    cache.get_or_load("page", Rows(b"old"))
    leased.left = 0.0
    results: list[bytes | None] = []
    leader = threading.Thread(target=lambda: results.append(cache.get_or_load("page", slow)))
    leader.start()
    assert slow.begun.wait(10)
    assert [cache.get_or_load("page", Rows(b"never")) for _ in range(5)] == [b"old"] * 5
    slow.finish.set()
    leader.join(10)
    assert results == [b"new"]
    leased.left = None
    assert cache.get_or_load("page", Rows(b"never")) == b"new"


def test_what_cannot_be_loaded_anew_is_served_as_long_as_it_is_kept() -> None:
    leased, telemetry = FakeLeased(), FakeTelemetry()
    cache = through(leased, telemetry=telemetry)
    cache.get_or_load("page", Rows(b"old"))
    leased.left = -5.0

    def fail() -> Loaded:
        raise ConnectionError

    assert cache.get_or_load("page", fail) == b"old"
    assert telemetry.counts["mbevents_cache_loads_total", "search", "stale"] == 1
    assert cache.get_or_load("page", Rows(b"new")) == b"new"


def test_in_the_background_nobody_waits_for_a_stale_entry() -> None:
    leased, spawned = FakeLeased(), list[Any]()
    cache = through(leased, spawn=spawned.append)
    cache.get_or_load("page", Rows(b"old"))
    leased.left = -5.0
    assert cache.get_or_load("page", Rows(b"new")) == b"old"
    assert cache.get_or_load("page", Rows(b"never")) == b"old"
    assert len(spawned) == 1
    spawned[0]()
    leased.left = None
    assert cache.get_or_load("page", Rows(b"never")) == b"new"


def test_reads_are_counted_by_how_they_ended() -> None:
    telemetry = FakeTelemetry()
    cache = through(FakeLeased(), telemetry=telemetry)
    cache.get_or_load("a", Rows(b"{}"))
    cache.get_or_load("b", Rows(None))
    cache.get_many(["a", "b", "c", "a"])
    counts = {name[2]: number for name, number in telemetry.counts.items() if name[0] == "mbevents_cache_reads_total"}
    assert counts == {"miss": 3, "hit": 2, "absent": 1}


def test_tags_that_cannot_be_written_are_refused_with_the_lease_given_back() -> None:
    cache = through(FakeLeased())
    for tag in ("", "a b", "ü", "x" * 201):
        with pytest.raises(ValueError, match="tags"):
            Loaded(b"{}", (tag,))
    with pytest.raises(ValueError, match="at most 500 tags"):
        Loaded(b"{}", tuple(f"{number}" for number in range(501)))
    assert cache.get_or_load("page", Rows(b"{}", tags=("artist:1",))) == b"{}"
