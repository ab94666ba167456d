"""make bench-http: 200 callers in 4 processes ask for 50 URLs of one host at once.

The server is on loopback and notes when each request comes. Every caller asks for one URL by its number, then for four
others at random. Redis and the processes are as in production; the host's rate is 20 requests a second, without bursts.

    upstream_requests   that came to the server: one for each URL
    rate_violations     that came sooner after the one before than the rate allows
    naive_rate_violations  the same with a bucket that counts from the permission: the check can fail
    max_per_second      most that came in any second
    wrong               outcomes that are not the answer to what was asked
    seconds, answers_per_s, upstream_per_s
"""

import multiprocessing
import random
import tempfile
import threading
import time
from bisect import bisect_left
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import redis

import ops.stack
from events.breaker import Breaker
from ops.stack import Stack
from tests.benchmarks.harness import report, say
from workers.http.adapters import Wire
from workers.http.answers import Answers, Caching
from workers.http.buckets import RedisBuckets
from workers.http.core import Answer
from workers.http.gate import Gate
from workers.http.policies import Policies, Policy
from workers.http.service import HttpClient
from workers.leased.adapters import RedisLeased

PROCESSES, THREADS, URLS, MORE = 4, 50, 50, 4
RATE = 20.0
# What a service takes to answer, at least.
SERVICE_SECONDS = 0.01


class Upstream(ThreadingHTTPServer):
    """Answers with the path; `came` is when, by this process's clock."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.came: list[float] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.came.append(time.monotonic())
        time.sleep(SERVICE_SECONDS)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class NaiveBuckets(RedisBuckets):
    """Tokens come back from the permission on, as everybody's do."""

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        wait = super().take(bucket, policy, lease, seconds)
        if wait == 0:
            super().give_back(bucket, policy, lease)
        return wait


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="mbe-bench-") as home,
        ops.stack.start(Path(home), postgres=False, progress=say) as stack,
    ):
        came, wrong, seconds = asked(stack, naive=False)
        with redis.Redis.from_url(stack.redis_url()) as client:
            client.flushall()
        naive, _, _ = asked(stack, naive=True)
    answers = PROCESSES * THREADS * (1 + MORE)
    report(
        {
            "callers": PROCESSES * THREADS,
            "urls": URLS,
            "answers": answers,
            "upstream_requests": len(came),
            "rate_violations": violations(came),
            "naive_rate_violations": violations(naive),
            "rate": RATE,
            "max_per_second": max(bisect_left(came, at + 1) - n for n, at in enumerate(came)),
            "wrong": wrong,
            "seconds": seconds,
            "answers_per_s": answers / seconds,
            "upstream_per_s": len(came) / (came[-1] - came[0]),
        }
    )


def violations(came: list[float]) -> int:
    return sum(later - earlier < 1 / RATE for earlier, later in pairwise(came))


def asked(stack: Stack, *, naive: bool) -> tuple[list[float], int, float]:
    """When requests came to the server; how many outcomes are wrong; how long it took."""
    upstream = Upstream()
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES + 1)
    told: multiprocessing.Queue[int] = context.Queue()
    url = f"http://127.0.0.1:{upstream.server_port}"
    processes = [
        context.Process(target=process, args=(n, url, stack.redis_url(2), stack.redis_url(4), naive, together, told))
        for n in range(PROCESSES)
    ]
    for each in processes:
        each.start()
    together.wait(60)
    say(f"{PROCESSES * THREADS} callers begin{', by tokens that come back at once' if naive else ''}.")
    began = time.monotonic()
    wrong = sum(told.get(timeout=120) for _ in processes)
    seconds = time.monotonic() - began
    for each in processes:
        each.join(60)
    upstream.shutdown()
    upstream.server_close()
    return sorted(upstream.came), wrong, seconds


def process(
    n: int,
    url: str,
    answers_url: str,
    limits_url: str,
    naive: bool,
    together: "threading.Barrier",
    told: "multiprocessing.Queue[int]",
) -> None:
    answers, limits = redis.Redis.from_url(answers_url), redis.Redis.from_url(limits_url)
    policy = Policy("upstream", ("127.0.0.1",), rate=RATE, burst=1, concurrency=3, without_redis="closed")
    client = HttpClient(
        Wire("mbevents-bench"),
        Gate((NaiveBuckets if naive else RedisBuckets)(limits, namespace="MB")),
        Policies([policy]),
        lru_cache(Breaker),
        answers=Answers(RedisLeased(answers, "MB:http", lease_seconds=60)),
    )
    wrong: list[str] = []

    def call(caller: int) -> None:
        chosen = random.Random(caller)
        for path in (caller % URLS, *(chosen.randrange(URLS) for _ in range(MORE))):
            outcome = client.get(f"{url}/{path}", caching=Caching(fresh=600))
            if not isinstance(outcome, Answer) or outcome.body != f"/{path}".encode():
                wrong.append(str(outcome))

    threads = [threading.Thread(target=call, args=(n * THREADS + m,)) for m in range(THREADS)]
    together.wait(60)
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for text in wrong[:3]:
        say(text)
    client.close()
    told.put(len(wrong))


if __name__ == "__main__":
    main()
