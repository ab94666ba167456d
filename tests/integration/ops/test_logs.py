"""What a worker logs while its broker is away."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from events.queues.broker import RedisQueues
from ops import logs
from tests.integration.events.queues.support import actor, working
from tests.waiting import wait_for


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes meanwhile."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    logs.configure(form="json", stream=made)
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_a_worker_without_its_broker_says_so_once_however_often_it_tries(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, tries = RedisQueues("unix:///nonexistent/redis.sock"), list[str]()
    consume = broker.consume

    def counted(queue_name: str, **options: Any) -> Any:
        tries.append(queue_name)
        return consume(queue_name, **options)

    monkeypatch.setattr(broker, "consume", counted)
    for queue in ("one", "two"):
        actor(broker, queue, queue, lambda: None)
    with working(broker):
        wait_for(lambda: len(tries) >= 6)
    broker.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told if "said" in line] == ["broker_unreachable"]
    assert {line["level"] for line in told} <= {"info", "warning"}
