"""make bench-ratelimit: many processes with wrong clocks at one limit, and whether it was ever exceeded.

Processes hammer one scope, each with a clock of its own, up to a second apart, and half of them rest for a while, then
the others: when they are back, their clocks may mislead a limiter. Beside ours, the same load on the moving window of
the package `limits`. Whether a limit was exceeded is judged by the server's clock, which on one machine is the true one
of this process, and never by what a limiter keeps.

    violations        windows of a second, each from one admission on, with more admissions than the limit, by the times
                      that the server told; `limits` tells none, so there only what was in the window for certain is
                      counted: asked for in it, and answered in it
    certain           the same measure for ours
    most              the most admissions of any window, by the same times as `violations`
    us_per_decision   wall clock of all processes together over their decisions, in microseconds
    cpu_us            processor time of these processes and the server over the decisions, which others on the machine
                      change less
    us_alone          median of one process that is alone with the server, in microseconds
    allowed_per_s     admissions a second; the limit is `limit`
"""

import multiprocessing
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from events.breaker import Breaker
from events.connections import open_client
from events.telemetry import NoTelemetry
from ops.stack.redis import EmbeddedRedis
from tests.benchmarks.harness import report, say
from workers.limits.adapters import RedisWindows
from workers.limits.core import Scope
from workers.limits.service import Limiter

PROCESSES = 8
LIMIT = 1_000
SECONDS = 5.0
REST = 1.2
ALONE = 5_000
SECOND_US = 1_000_000

true_time_ns = time.time_ns


class Admission(NamedTuple):
    """Let through between two moments, and when the server says; microseconds of Unix time."""

    before: int
    after: int
    at: int


Ask = Callable[[], int | None]
"""None when refused, else the server's time, or 0 where it is not told."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as home:
        server = EmbeddedRedis(Path(home), progress=say)
        server.start()
        try:
            result: dict[str, Any] = {"processes": PROCESSES, "limit": LIMIT}
            result |= _measured(server, _ours, told=True)
            theirs = _measured(server, _theirs, told=False)
            report(result | {f"limits_{name}": value for name, value in theirs.items()})
        finally:
            server.stop()


def counts(spans: list[tuple[int, int]], window: int = SECOND_US) -> list[int]:
    """Of each window that begins with one of these, how many lie in it, whatever the true moments in their spans.

    Windows are half-open: what is a window later is in the next one.
    """
    begins, ends = sorted(begin for begin, _ in spans), sorted(end for _, end in spans)
    # Ended in time, less all that began before: they may have been before the window.
    return [bisect_left(ends, begin + window) - n for n, begin in enumerate(begins)]


def violations(counted: list[int], limit: int = LIMIT) -> int:
    return sum(each > limit for each in counted)


def _measured(server: EmbeddedRedis, make: Callable[[str], Ask], *, told: bool) -> dict[str, float]:
    url = server.url(4)
    say(f"{PROCESSES} processes for {SECONDS:.0f} s: {'ours' if told else 'the package limits'}.")
    before = _used(server)
    decisions, seconds, busy, admissions = _hammer(url, make)
    busy += _used(server) - before
    certain = counts([(each.before, each.after) for each in admissions])
    judged = counts([(each.at, each.at) for each in admissions]) if told else certain
    return {
        "violations": violations(judged),
        "certain": violations(certain),
        "most": max(judged),
        "us_per_decision": seconds * SECOND_US / decisions,
        "cpu_us": busy * SECOND_US / decisions,
        "us_alone": _alone(make(url)),
        "decisions": decisions,
        "allowed_per_s": len(admissions) / seconds,
    }


def _used(server: EmbeddedRedis) -> float:
    """Seconds of a processor that the server has used."""
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def _hammer(url: str, make: Callable[[str], Ask]) -> tuple[int, float, float, list[Admission]]:
    """How many decisions, in how many seconds, with how many of a processor, and what was let through."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(PROCESSES + 1)
    answers: Any = spawn.Queue()
    workers = [
        spawn.Process(target=_run, args=(url, make, n / (PROCESSES - 1), start, answers)) for n in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    start.wait(60)
    began = time.perf_counter()
    results = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(10)
    decisions, busy, found, ended = zip(*results, strict=True)
    return sum(decisions), max(ended) - began, sum(busy), [each for some in found for each in some]


def _run(url: str, make: Callable[[str], Ask], skew: float, start: Barrier, answers: Any) -> None:
    """One process with a clock that is `skew` seconds ahead."""
    time.time = lambda: true_time_ns() / 1e9 + skew
    time.time_ns = lambda: true_time_ns() + int(skew * 1e9)
    ask = make(url)
    ask()
    decisions = 0
    found: list[tuple[int, int, int]] = []
    start.wait(60)
    busy = time.process_time()
    ends = time.perf_counter() + SECONDS
    # Those that are ahead first: when they are back, what the others did looks older to them than it is.
    rests = ends - SECONDS + (1.0 if skew > 0.5 else 3.0)
    while (now := time.perf_counter()) < ends:
        if now > rests:
            time.sleep(REST)
            rests = ends
        before = true_time_ns()
        at = ask()
        decisions += 1
        if at is not None:
            found.append(Admission(before // 1_000, -(-true_time_ns() // 1_000), at))
    answers.put((decisions, time.process_time() - busy, found, time.perf_counter()))


def _alone(ask: Ask) -> float:
    times = []
    for _ in range(ALONE):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * SECOND_US


def _ours(url: str) -> Ask:
    windows = RedisWindows(open_client(url, Breaker("limits")))
    limiter = Limiter(windows, without_redis="closed", telemetry=NoTelemetry())
    scopes = (Scope("bench", "everybody", LIMIT),)

    def ask() -> int | None:
        decision = limiter.decide(scopes)
        assert decision.at, "Redis is away"
        return decision.at if decision.allowed else None

    return ask


def _theirs(url: str) -> Ask:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(url.replace("unix://", "redis+unix://")))
    item = RateLimitItemPerSecond(LIMIT)
    return lambda: 0 if limiter.hit(item, "everybody") else None


if __name__ == "__main__":
    main()
