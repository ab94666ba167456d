"""A process that reads through the cache, or changes and forgets; the database is an array of numbers that all share.

What was read must not be older than what was forgotten for certain before the read began.
"""

import random
import threading
import time
from contextlib import suppress
from typing import Any

from events.breaker import Breaker
from events.connections import open_client
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded
from workers.leased.service import ReadThrough, StoreUnavailableError, Times

ROWS = 6


def cache_of(url: str, *, lease_seconds: float) -> ReadThrough:
    client = open_client(url, Breaker("test", open_seconds=0.05), seconds=0.5)
    leased = RedisLeased(client, "MB:s", lease_seconds=lease_seconds)
    return ReadThrough(leased, "search", Times(ttl=3, absent_ttl=1, patience=0.02))


def read(url: str, committed: Any, forgotten: Any, stop: Any, problems: Any, seed: int) -> None:
    """Entries of one row, by their name and a tag, and of two, by tags only."""
    # Some leases end while their load goes on.
    cache = cache_of(url, lease_seconds=0.03 if seed % 2 else 5)

    def reader(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        while not stop.is_set():
            rows = [chance.randrange(ROWS)]
            if chance.random() < 0.5:
                rows.append((rows[0] + 1) % ROWS)
            pause = chance.choice([0, 0.001, 0.02, 0.06])

            def load(rows: list[int] = rows, pause: float = pause) -> Loaded:
                found = [committed[row] for row in rows]
                time.sleep(pause)
                return Loaded(" ".join(map(str, found)).encode(), tuple(f"row:{row}" for row in rows))

            least = [forgotten[row] for row in rows]
            found = cache.get_or_load(f"{len(rows)}:{rows[0]}", load) or b""
            if any(int(each) < known for each, known in zip(found.split(), least, strict=True)):
                problems.put(f"{rows}: {found!r}, and {least} was forgotten")

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def change(url: str, committed: Any, forgotten: Any, stop: Any, seed: int) -> None:
    """The rows that are one process's own."""
    cache, chance = cache_of(url, lease_seconds=5), random.Random(seed)
    while not stop.is_set():
        row = chance.randrange(seed % 2, ROWS, 2)
        committed[row] += 1
        names = [f"1:{row}"] if chance.random() < 0.5 else []
        while not stop.is_set():
            with suppress(StoreUnavailableError):
                cache.forget(names, [f"row:{row}"])
                forgotten[row] = committed[row]
                break
            time.sleep(0.01)
        time.sleep(chance.expovariate(60))
