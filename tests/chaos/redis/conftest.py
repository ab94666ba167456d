import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.redis.faulty import FaultyRedis
from tests.redis_process import RedisProcess


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisProcess]]:
    made: list[RedisProcess] = []
    # Not pytest's own folder: its long path does not fit into a socket's name.
    with tempfile.TemporaryDirectory(prefix="mbe-") as folder:

        def start(*, master: RedisProcess | None = None, keeps: bool = False) -> RedisProcess:
            made.append(RedisProcess(Path(folder), master=master, keeps=keeps))
            return made[-1]

        yield start
        for each in made:
            each.kill()


@pytest.fixture(scope="module")
def one_for_all() -> Iterator[FaultyRedis]:
    with tempfile.TemporaryDirectory(prefix="mbe-") as folder:
        made = FaultyRedis(Path(folder))
        yield made
        made.close()


@pytest.fixture
def faulty(one_for_all: FaultyRedis) -> FaultyRedis:
    """The same servers for all tests of a file; each finds them well and empty."""
    one_for_all.begin_anew()
    return one_for_all
