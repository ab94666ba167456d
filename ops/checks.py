"""Whether the servers that a process depends on answer: what /readyz asks, and the web page's gauges."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from events.errors import UnreachableError
from events.queues.types import Depth
from ops.asking import Asking
from ops.settings import RedisRole

if TYPE_CHECKING:
    from ops.wiring import Runtime
    from ops.wiring.servers import Servers

SECONDS = 2
# All servers together, when the system is measured: who scrapes gives up after 10 s.
LONGEST_SECONDS = 4.0
_DATABASE_AWAY = (psycopg.Error, OSError)
# Of these nothing is measured.
_ONLY_ASKED = [role for role in RedisRole if role is not RedisRole.BROKER]
Sample = tuple[str, dict[str, str], float]


def database_check(runtime: "Runtime") -> Callable[[], None]:
    """PostgreSQL answers on a new connection, and has our tables."""

    def check() -> None:
        with connected(runtime) as connection:
            row = connection.execute("SELECT to_regclass('mbevents.event') IS NOT NULL").fetchone()
            if row is None or not row[0]:
                raise UnreachableError("the database has no event log: run `mbevents db install`")

    return check


def redis_check(runtime: "Runtime", role: RedisRole) -> Callable[[], object]:
    """A role's Redis (or, for the broker, RabbitMQ) answers, as a master: as whoever uses it would find out."""
    if runtime.redis_url(role).startswith("amqp"):
        return lambda: depths(runtime)
    client = runtime.client(role)
    # It changes nothing, and a replica refuses it; of the one namespace that the user may be confined to.
    return lambda: client.persist(f"{runtime.settings.redis_namespace}:nothing")


def redis_checks(runtime: "Runtime", roles: Iterable[RedisRole]) -> dict[str, Callable[[], object]]:
    """As `redis_check`, by the roles' names."""
    return {role.name.lower(): redis_check(runtime, role) for role in roles}


def depths(runtime: "Runtime") -> dict[str, Depth]:
    """Of every queue, asked by a broker of its own: each question may come in another thread."""
    with closing(runtime.new_sender()) as broker:
        return broker.depths()


@contextmanager
def connected(runtime: "Servers") -> Iterator["psycopg.Connection[Any]"]:
    """A connection of its own, given up on soon: who asks waits."""
    with psycopg.connect(
        runtime.database_url,
        autocommit=True,
        connect_timeout=SECONDS,
        application_name="mbevents check",
        # A server that is gone without a word would else be waited for for hours.
        keepalives_idle=SECONDS,
        keepalives_interval=1,
        keepalives_count=2,
    ) as connection:
        connection.execute(f"SET statement_timeout = '{SECONDS}s'")
        yield connection


def probe_client(url: str) -> "redis.Redis":
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=Retry(NoBackoff(), 0)
    )


def system_samples(runtime: "Runtime") -> Callable[[], Iterator[Sample]]:
    """Asks for the gauges of `ops.metrics.SYSTEM`, as the servers tell them then; what is away is told as such."""
    servers: dict[str, Callable[[], list[Sample]]] = {
        "database": partial(_of_database, runtime),
        "broker": partial(_of_broker, runtime),
        **{name: partial(_of_role, check) for name, check in redis_checks(runtime, _ONLY_ASKED).items()},
    }
    replication: Callable[[], list[Sample]] = partial(_of_replication, runtime)
    asking = Asking({**servers, "replication": replication})

    def ask() -> Iterator[Sample]:
        answers = asking.ask(LONGEST_SECONDS)
        for name in servers:
            # Two kinds of broker, each with errors of its own.
            samples = _told(answers[name], *(_DATABASE_AWAY if name == "database" else (Exception,)))
            yield ("mbevents_server_up", {"server": name}, samples is not None)
            yield from samples or ()
        # Nothing of it is worse than none of it, and that the database is away is told already.
        yield from _told(answers["replication"], *_DATABASE_AWAY) or ()

    return ask


def _told(answer: "Future[list[Sample]]", *away: type[Exception]) -> list[Sample] | None:
    """None: it is away, or does not answer in time. A mistake of ours is raised."""
    if not answer.done():
        return None
    try:
        return answer.result()
    except away:
        return None


def _of_role(check: Callable[[], object]) -> list[Sample]:
    check()
    return []


def _of_database(runtime: "Runtime") -> list[Sample]:
    from events.ledger import service as ledger
    from events.log import service as event_log

    with connected(runtime) as connection:
        head = event_log.head(connection)
        letters = connection.execute("SELECT count(*) FROM mbevents.dead_letter").fetchone()
        age = log_age(connection)
        tasks = ledger.counts(connection)
    samples: list[Sample] = [
        ("mbevents_head_position", {}, head.position),
        ("mbevents_head_published_position", {}, head.published),
        ("mbevents_log_age_seconds", {}, age),
        ("mbevents_dead_letters", {}, letters[0] if letters else 0),
    ]
    samples += [("mbevents_tasks", {"state": state}, number) for state, number in tasks.items()]
    return samples


def _of_replication(runtime: "Runtime") -> list[Sample]:
    status = runtime.replication_status.read()
    mirror, master = status.mirror, status.master
    samples: list[tuple[str, dict[str, str], float | None]] = []
    if mirror is not None or master is not None:
        samples += [
            ("mbevents_replication_sequence", {}, status.replication_sequence),
            ("mbevents_replication_packet_age_seconds", {}, status.packet_seconds),
        ]
    if mirror is not None:
        success = None if mirror.succeeded_at is None else mirror.succeeded_at.timestamp()
        samples += [
            ("mbevents_replication_lag_packets", {}, mirror.lag_packets),
            ("mbevents_replication_lag_seconds", {}, mirror.lag_seconds),
            ("mbevents_replication_last_success_timestamp_seconds", {}, success),
            ("mbevents_replication_paused", {}, mirror.paused),
            ("mbevents_replication_applied_changes_total", {}, mirror.changes_total),
        ]
        for outcome, number in mirror.outcomes.items():
            samples.append(("mbevents_replication_runs_total", {"outcome": outcome}, number))
    if master is not None:
        samples += [
            ("mbevents_replication_pending_changes", {}, master.pending_changes),
            ("mbevents_replication_pending_age_seconds", {}, master.pending_seconds or 0),
        ]
    return [(name, labels, value) for name, labels, value in samples if value is not None]


def _of_broker(runtime: "Runtime") -> list[Sample]:
    samples: list[Sample] = []
    for queue, depth in depths(runtime).items():
        for state in ("waiting", "in_progress", "delayed", "dead"):
            samples.append(("mbevents_queue_messages", {"queue": queue, "state": state}, getattr(depth, state)))
        samples.append(("mbevents_queue_age_seconds", {"queue": queue}, depth.oldest_seconds))
    workers = workers_alive(runtime)
    if workers is not None:
        samples.append(("mbevents_workers", {}, workers))
    return samples


def log_age(connection: "psycopg.Connection[Any]") -> float:
    """Seconds since the oldest change or event was written that is not published; 0 when there is none."""
    from events.sql import queries

    sql = queries("ops")
    log, pending, outbox, tick = connection.execute(sql["installed"]).fetchone() or (False,) * 4
    asked = [
        name
        for name, there in (
            ("unpublished", log),
            ("unticked_pending", pending and tick),
            ("unticked_outbox", outbox and tick),
        )
        if there
    ]
    ages = [row[0] for name in asked if (row := connection.execute(sql[name]).fetchone()) and row[0] is not None]
    return max(0.0, *ages) if ages else 0.0


def leader(connection: "psycopg.Connection[Any]") -> tuple[Any, ...] | None:
    """Backend, name, address and time of connection of the bridge that leads; None when none does."""
    from events.locks import LEADER_KEY
    from events.sql import queries

    return connection.execute(queries("ops")["lock_holder"], {"key": LEADER_KEY}).fetchone()


def workers_alive(runtime: "Runtime") -> int | None:
    """Worker processes with a fresh heartbeat; None with a broker that has none (RabbitMQ)."""
    from events.queues.keys import Keys

    url = runtime.redis_url(RedisRole.BROKER)
    if url.startswith("amqp"):
        return None
    client = probe_client(url)
    try:
        seconds, micros = client.time()
        now = seconds * 1000 + micros // 1000
        heartbeats = Keys(runtime.settings.redis_namespace).heartbeats
        return int(client.zcount(heartbeats, now - 10_000, "+inf"))
    finally:
        client.close()
