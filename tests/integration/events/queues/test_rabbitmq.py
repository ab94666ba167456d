"""What RabbitMQ alone does: whoever only asks leaves nothing there, and an unreachable one is told with the reason."""

import threading
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
import pytest
from dramatiq.errors import ConnectionClosed

from events.queues.rabbitmq import RabbitQueues
from ops import checks
from ops.settings import RedisRole, Settings
from ops.wiring import open_runtime
from tests.integration.events.queues.support import message

MakeBroker = Callable[..., Any]


@pytest.mark.rabbitmq
def test_asking_makes_no_queue(rabbitmq_broker: MakeBroker, rabbitmq_url: str, queue: str) -> None:
    asker = rabbitmq_broker()
    asker.declare_queue(queue)
    asker.depths()
    with (
        pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection,
        pytest.raises(pika.exceptions.ChannelClosedByBroker, match="no queue"),
    ):
        connection.channel().queue_declare(queue, passive=True)


@pytest.mark.rabbitmq
def test_a_check_leaves_no_connection_behind(rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    connect = pika.BlockingConnection

    def recorded(*args: Any, **kwargs: Any) -> Any:
        made.append(connect(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(pika, "BlockingConnection", recorded)
    configured = {
        "database_url": "postgresql://nowhere.invalid/mb",
        "redis_server": "nowhere.invalid",
        "broker_url": rabbitmq_url,
    }
    with open_runtime(Settings.model_validate(configured)) as runtime:
        check = checks.redis_check(runtime, RedisRole.BROKER)
        threads = [threading.Thread(target=check) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(made) == 3
        assert all(each.is_closed for each in made)


@pytest.mark.parametrize("use", [RabbitQueues.depths, lambda broker: broker.enqueue(message("q", "keep", n=1))])
def test_a_server_that_is_away_is_told_with_the_reason(use: Callable[[RabbitQueues], object]) -> None:
    with pytest.raises(ConnectionClosed, match=r"RabbitMQ: .*Connection refused"):
        use(RabbitQueues("amqp://guest:s3cret@127.0.0.1:1/"))
