"""Redis and Postgres die while workers work: nothing is lost."""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ops.stack.postgres import EmbeddedPostgres
from ops.stack.redis import EmbeddedRedis
from tests.chaos.queues.conftest import Stopwatch, World
from tests.conftest import quick_folder
from tests.integration.events.queues.support import eventually

# The loss is seen after a second, work is lost when it has no message 2 s after it was enqueued.
RECOVERY_SECONDS = 6


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mbe-", dir=quick_folder()) as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        yield Path(folder)


@pytest.fixture
def own_redis(home: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(home)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home, durable=False)
    server.start()
    yield server
    server.stop()


def test_ledgered_work_is_done_after_redis_was_killed(
    clone: Callable[[str], str], own_redis: EmbeddedRedis, make_world: Callable[[str, str], World]
) -> None:
    world = make_world(clone("template1"), own_redis.url(6))
    worker = world.start()
    world.give("slow", range(12))
    eventually(lambda: sum(world.started().values()) >= 4, 20)
    assert own_redis.pid is not None
    os.kill(own_redis.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert own_redis.start() is True
    # Sent by nobody: the bridge found no Redis either.
    world.give("slow", range(100, 104), send=False)
    back = Stopwatch()
    eventually(lambda: world.states() == {"done": 16}, 40)
    # Also a worker that was in the middle of it did it once: it knows what it has in hand.
    assert world.effects() == Counter([*range(12), *range(100, 104)])
    assert back.seconds < RECOVERY_SECONDS + 16 / 4 * 1.5 + 3
    assert worker.poll() is None


def test_a_drain_in_which_redis_lost_everything_does_everything(world: World) -> None:
    world.give("quick", range(400))
    drain = world.start("--drain")
    eventually(lambda: sum(world.effects().values()) >= 20, 20)
    with redis.Redis.from_url(world.redis_url) as client:
        client.flushall()
    assert drain.wait(40) == 0
    assert world.states() == {"done": 400}
    assert world.effects() == Counter(range(400))


def test_a_running_worker_does_everything_within_seconds_after_redis_lost_everything(world: World) -> None:
    world.start()
    world.give("quick", range(1))
    eventually(lambda: world.states() == {"done": 1}, 20)
    with redis.Redis.from_url(world.redis_url) as client:
        world.give("quick", range(1, 50))
        client.flushall()
    lost = Stopwatch()
    eventually(lambda: world.states() == {"done": 50}, 20)
    assert lost.seconds < RECOVERY_SECONDS
    assert world.effects() == Counter(range(50))


def test_work_is_done_after_postgres_was_killed(
    own_postgres: EmbeddedPostgres, own_redis: EmbeddedRedis, make_world: Callable[[str, str], World]
) -> None:
    world = make_world(own_postgres.url(), own_redis.url(6))
    worker = world.start()
    world.give("slow", range(12))
    eventually(lambda: sum(world.started().values()) >= 4, 20)
    assert own_postgres.pid is not None
    os.kill(own_postgres.pid, signal.SIGKILL)
    time.sleep(2)
    assert own_postgres.start() is True
    back = Stopwatch()
    eventually(lambda: world.states() == {"done": 12}, 40)
    assert set(world.effects()) == set(range(12))
    assert back.seconds < 20
    assert worker.poll() is None
    assert world.rows("SELECT count(*) FROM mbevents.dead_letter") == [(0,)]
