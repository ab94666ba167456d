from contextlib import ExitStack
from typing import Any, NoReturn

import pytest
from dramatiq.brokers.stub import StubBroker

from events.catalogue import ACTORS
from events.errors import UsageError
from events.telemetry import NoTelemetry
from ops import wiring
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime
from workers.middleware import PostgresLedger, standard_middleware

CONFIGURED: dict[str, Any] = {"database_url": "postgresql://nowhere.invalid/mb", "redis_server": "nowhere.invalid"}


def _nowhere() -> NoReturn:
    raise AssertionError("nobody asks the ledger here")


def test_the_actors_that_are_registered_are_those_of_the_catalogue() -> None:
    with ExitStack() as closing:
        broker = StubBroker(middleware=standard_middleware(PostgresLedger(_nowhere), NoTelemetry()))
        Runtime(Settings.model_validate(CONFIGURED), None, closing).register_actors(broker)
        assert {name: broker.get_actor(name).queue_name for name in broker.get_declared_actors()} == {
            actor.name: actor.queue for actor in ACTORS.values()
        }
        broker.close()


def test_the_source_is_the_databases_name_unless_it_is_set() -> None:
    with ExitStack() as closing:
        assert Runtime(Settings.model_validate(CONFIGURED), None, closing).source == "/databases/mb"
        named = Settings.model_validate({**CONFIGURED, "event_source": "https://musicbrainz.org"})
        assert Runtime(named, None, closing).source == "https://musicbrainz.org"


def test_roles_are_served_from_where_the_settings_say() -> None:
    with ExitStack() as closing:
        runtime = Runtime(Settings.model_validate({**CONFIGURED, "broker_url": "amqp://rabbit"}), None, closing)
        assert runtime.redis_url(RedisRole.BROKER) == "amqp://rabbit"
        assert runtime.redis_url(RedisRole.PUBSUB) == "redis://nowhere.invalid:6379/5"
        assert runtime.client(RedisRole.PUBSUB) is runtime.client(RedisRole.PUBSUB)


def test_opening_parts_of_configured_servers_connects_to_nothing() -> None:
    with wiring.open_runtime(Settings.model_validate(CONFIGURED)) as runtime:
        assert runtime.servers is None
        with pytest.raises(UsageError, match="A configured database is the operator's"):
            wiring.ensure_database(runtime, lambda _: None)
