"""What an operator sees of a follower."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from events.pubsub.listening import Timing
from ops.metrics import PrometheusTelemetry, make_registry
from ops.stack import Stack
from tests.integration.events.pubsub.support import Follower, Log, publish
from tests.proxy import Proxy
from tests.waiting import wait_for

# Nothing is found by looking: only what is heard, or what follows from not hearing.
TIMING = Timing(poll=30, ask=0.1, deaf=0.3)


@pytest.fixture
def url(redis_server: Stack) -> str:
    return redis_server.redis_url(5)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    between = Proxy(urlsplit(url).path)
    yield between
    between.close()


def test_where_it_is_what_it_hears_and_how_often_it_had_to_begin_anew(
    log: Log, log_database: str, url: str, proxy: Proxy
) -> None:
    registry = make_registry("test")

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"mbevents_follower_{name}", {"follower": "mirror", **labels})

    through = f"redis://127.0.0.1:{proxy.port}/5"
    log.append(*["edit.opened"] * 3)
    with Follower(
        log_database, through, after=0, timing=TIMING, telemetry=PrometheusTelemetry(registry), name="mirror"
    ) as follower:
        wait_for(lambda: told("position") == 3 and told("listening") == 1)
        assert told("events_total", way="caught_up") == 3
        # One message for both: a second one would have it look again later.
        publish(url, log.append("edit.closed", "edit.voted")[0])
        wait_for(lambda: told("position") == 5)
        assert told("events_total", way="told") == 2
        assert told("canaries_lost_total") is told("reconnects_total") is None
        missed = log.append("edit.opened")
        proxy.freeze()
        publish(url, *missed)
        wait_for(lambda: told("listening") == 0)
        wait_for(lambda: told("listening") == 1 and told("position") == 6)
    assert told("canaries_lost_total") == told("reconnects_total") == 1
    assert told("events_total", way="caught_up") == 4
    assert follower.positions == [1, 2, 3, 4, 5, 6]
