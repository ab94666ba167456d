"""Whatever Redis does, a call ends in its own kind of outcome, and in its own time."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest
import redis

from events.breaker import Breaker
from events.connections import open_client
from tests.chaos.bridge.proxy import Proxy
from tests.integration.workers.http.hostile import Hostile, answers, hostile, is_silent
from tests.integration.workers.http.making import made
from tests.redis_process import RedisProcess
from workers.http.answers import Answers, Caching
from workers.http.buckets import RedisBuckets
from workers.http.core import Failure, Kind, Outcome
from workers.http.policies import Policies, Policy
from workers.http.service import HttpClient
from workers.leased.adapters import RedisLeased
from workers.leased.keeping import KeptLeased

DEADLINE, SLACK = 0.2, 0.15
MINUTE = Caching(fresh=60)
# Of one host under three names.
POLICIES = Policies(
    [
        Policy("closed", ("127.0.0.1",), rate=1000, burst=9, without_redis="closed"),
        Policy("local", ("localhost",), rate=1000, burst=9),
        Policy("used up", ("127.1",), rate=0.1),
    ]
)


@dataclass
class Servers:
    """Clients reach `server` through the proxy, which may lead to `another`."""

    proxy: Proxy
    server: RedisProcess
    another: RedisProcess

    def command(self, *words: str) -> None:
        with redis.Redis.from_url(self.server.url()) as admin:
            admin.execute_command(*words)


Fault = Callable[[Servers], AbstractContextManager[None]]


@contextmanager
def killed(servers: Servers) -> Iterator[None]:
    servers.server.kill()
    yield
    servers.server.start()


@contextmanager
def stopped(servers: Servers) -> Iterator[None]:
    servers.server.send(signal.SIGSTOP)
    yield
    servers.server.send(signal.SIGCONT)


@contextmanager
def half_open(servers: Servers) -> Iterator[None]:
    servers.proxy.freeze()
    yield


@contextmanager
def slow(servers: Servers) -> Iterator[None]:
    servers.proxy.delay = 0.1
    yield
    servers.proxy.delay = 0.0


@contextmanager
def full(servers: Servers) -> Iterator[None]:
    servers.command("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
    yield
    servers.command("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def demoted(servers: Servers) -> Iterator[None]:
    servers.command("REPLICAOF", "127.0.0.1", "1")
    yield
    servers.command("REPLICAOF", "NO", "ONE")


@contextmanager
def failed_over(servers: Servers) -> Iterator[None]:
    servers.proxy.lead_to(str(servers.another.socket))
    with killed(servers):
        yield
    servers.proxy.lead_to(str(servers.server.socket))


# And whether the host that is not asked without Redis is asked.
FAULTS: list[tuple[Fault, bool]] = [
    (killed, False),
    (stopped, False),
    (half_open, True),
    (slow, False),
    (full, True),
    (demoted, False),
    (failed_over, True),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    server, another = (RedisProcess(tmp_path_factory.mktemp("r")) for _ in range(2))
    proxy = Proxy(str(server.socket))
    yield Servers(proxy, server, another)
    proxy.close()
    server.kill()
    another.kill()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Hostile]:
    with hostile(answers()) as made:
        yield made


@pytest.fixture
def one(servers: Servers) -> Iterator[HttpClient]:
    client = open_client(f"redis://127.0.0.1:{servers.proxy.port}", Breaker("redis test", open_seconds=60))
    leased = KeptLeased(RedisLeased(client, "MB:http", lease_seconds=10), longest=10)
    made_one = made(
        deadline=DEADLINE,
        policies=POLICIES,
        buckets=RedisBuckets(client, namespace="MB"),
        answers=Answers(leased),
        sleep=time.sleep,
    )
    yield made_one
    made_one.close()
    client.close()


def kind(outcome: Outcome) -> Kind | None:
    return outcome.kind if isinstance(outcome, Failure) else None


@pytest.mark.parametrize(("fault", "asked"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_every_call_ends_as_it_should_and_within_its_deadline(
    servers: Servers, upstream: Hostile, one: HttpClient, fault: Fault, asked: bool
) -> None:
    closed = f"{upstream.url}/{fault.__name__}"
    local, used_up = (closed.replace("127.0.0.1", name) for name in ("localhost", "127.1"))
    wrong: list[str] = []

    def check(what: str, url: str, *wanted: Kind | None, caching: Caching | None = None) -> None:
        began = time.monotonic()
        outcome = one.get(url, caching=caching)
        took = time.monotonic() - began
        if kind(outcome) not in wanted or took > DEADLINE + SLACK:
            wrong.append(f"{what}: {kind(outcome)} after {took:.3f} s")

    for url in (closed, f"{local}/kept"):
        one.get(url, caching=MINUTE, deadline=5)
    one.get(used_up, deadline=5)
    with hostile(is_silent) as silent, fault(servers):
        check("first call", f"{local}/new", None, caching=MINUTE)
        check("kept answer", f"{local}/kept", None, caching=MINUTE)
        check("limited host", f"{closed}/new", None if asked else Kind.LIMITED, caching=MINUTE)
        check("limited host, kept answer", closed, None if asked else Kind.LIMITED, caching=MINUTE)
        # Each process counts for itself, or the new server knows nothing.
        check("no turn", used_up, None, Kind.LIMITED)
        for n in range(2):
            url = silent.url.replace("127.0.0.1", "localhost")
            check("silent host", f"{url}/{fault.__name__}/{n}", Kind.DEADLINE, caching=MINUTE)
    assert wrong == []
