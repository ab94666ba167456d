"""Processes read and change at once while everything happens to their Redis, at random: nothing stale is ever read."""

import multiprocessing
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from tests.chaos.redis.faulty import FaultyRedis
from tests.chaos.redis.stale_process import ROWS, change, read

SECONDS = 8.0


def test_nothing_older_than_the_last_invalidation_is_read_whatever_happens(faulty: FaultyRedis) -> None:
    chance = random.Random()
    # A clean process each: this one has threads.
    context = multiprocessing.get_context("spawn")
    committed, forgotten = context.RawArray("q", ROWS), context.RawArray("q", ROWS)
    stop, problems = context.Event(), context.SimpleQueue()
    shared = (faulty.url(), committed, forgotten, stop)
    processes = [
        *(context.Process(target=read, args=(*shared, problems, number)) for number in range(2)),
        *(context.Process(target=change, args=(*shared, number)) for number in range(2)),
    ]
    with running(processes):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 0.4))
            happens(faulty, chance)
        stop.set()
        for process in processes:
            process.join(20)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    assert problems.empty(), problems.get()
    # They did race.
    assert min(forgotten) > 5


def happens(faulty: FaultyRedis, chance: random.Random) -> None:
    """One of the things that happen to a Redis."""
    server = faulty.master
    with suppress(redis.RedisError), redis.Redis.from_url(server.url(), decode_responses=True) as client:
        match chance.randrange(10):
            case 0:
                # What it comes back with is as old as its last save.
                server.kill()
                server.start()
            case 1:
                client.save()
            case 2:
                client.flushall()
            case 3:
                client.script_flush()
            case 4:
                server.send(signal.SIGSTOP)
                time.sleep(chance.uniform(0.05, 0.8))
                server.send(signal.SIGCONT)
            case 5:
                client.hdel("MB:s:clock", "epoch", "number")
            case 6:
                client.delete(*chance.sample(["MB:s:clock", *(f"MB:s:lease:1:{row}" for row in range(ROWS))], 3))
            case 7:
                evict(client, chance)
            case 8:
                # Without the library nothing happens here.
                faulty.clock.set(chance.uniform(-100, 100))
            case 9:
                with faulty.suffering("failed over late"):
                    time.sleep(chance.uniform(0, 0.1))
                faulty.attach_replica()
                # As Sentinel does. Who had nothing to ask there since would believe it to be the master when it is one
                # again, while others are not there yet: what it forgets and they do not, no cache can know of.
                faulty.end_clients_of_replica()


def evict(client: "redis.Redis", chance: random.Random) -> None:
    policies = ("allkeys-random", "allkeys-lru", "volatile-ttl", "volatile-random")
    client.config_set("maxmemory-policy", chance.choice(policies))
    client.mset({f"junk:{number}": "x" * 3_000 for number in range(30)})
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 40_000)
    try:
        time.sleep(chance.uniform(0, 0.3))
    finally:
        client.config_set("maxmemory", 0)
        client.delete(*(f"junk:{number}" for number in range(30)))


@contextmanager
def running(processes: "list[multiprocessing.context.SpawnProcess]") -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()
