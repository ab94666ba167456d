"""The Redis of one test, which may do with it what it likes."""

import os
import signal
from collections.abc import Iterator

import pytest

from ops.stack.redis import EmbeddedRedis


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """As the embedded one is started; also ended when it was stopped by a signal."""
    made = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    pid = made.pid
    if pid is not None:
        os.kill(pid, signal.SIGCONT)
    made.stop()
