"""The clock of the limits' Redis is set while many ask: what that does to a limit in true time, which is one observer's
monotonic clock."""

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import redis

from tests.benchmarks.ratelimit import counts
from tests.chaos.redis.faulty import FaultyRedis
from workers.limits.adapters import RedisWindows
from workers.limits.core import Scope

HOUR, MINUTE = 3_600.0, 60.0
LIMIT, WINDOW = 8, 0.3
US = 1_000_000

Span = tuple[int, int]
"""In microseconds: something happened between the two."""


def now() -> int:
    return time.monotonic_ns() // 1_000


def hammered(faulty: FaultyRedis, ahead: Sequence[float]) -> tuple[list[Span], list[Span]]:
    """What was let through while the clock was set ahead by these seconds, one after the other; and when it was set."""
    stop = threading.Event()
    one = Scope("test", uuid.uuid4().hex, LIMIT, WINDOW)

    def hammer(_: int) -> list[Span]:
        with redis.Redis.from_url(faulty.url(4)) as client:
            windows, let_through = RedisWindows(client), []
            while not stop.is_set():
                asked = now()
                if windows.decide([one]).allowed:
                    let_through.append((asked, now()))
            return let_through

    set_at = []
    with ThreadPoolExecutor(3) as threads:
        found = [threads.submit(hammer, number) for number in range(3)]
        for each in ahead:
            time.sleep(1.3 * WINDOW)
            before = now()
            faulty.set_clock(each)
            set_at.append((before, now() + 10_000))
        time.sleep(1.3 * WINDOW)
        stop.set()
    return [span for each in found for span in each.result()], set_at


def longest_wait(let_through: list[Span]) -> float:
    ends = sorted(end for _, end in let_through)
    return max(later - earlier for earlier, later in pairwise(ends)) / US


def test_set_back_a_limit_is_never_exceeded_and_nobody_is_locked_out(faulty: FaultyRedis) -> None:
    faulty.clock.require()
    let_through, _ = hammered(faulty, [-WINDOW / 2, -1, -MINUTE, -HOUR, -5 * HOUR])
    assert max(counts(let_through, int(WINDOW * US))) <= LIMIT
    # The window that it blocks for, and what was left of the one before.
    assert longest_wait(let_through) < 2 * WINDOW + 0.2
    assert len(let_through) >= 4 * LIMIT


def test_set_forward_twice_the_limit_may_pass_in_the_window_of_that_and_in_no_other(faulty: FaultyRedis) -> None:
    faulty.clock.require()
    window = int(WINDOW * US)
    let_through, set_at = hammered(faulty, [WINDOW / 2, MINUTE, HOUR, 0, 5 * HOUR])
    begins = sorted(begin for begin, _ in let_through)
    for begin, number in zip(begins, counts(let_through, window), strict=True):
        met = any(begin - window < end and at < begin + window for at, end in set_at)
        assert number <= (2 * LIMIT if met else LIMIT)
    assert longest_wait(let_through) < 2 * WINDOW + 0.2
