"""What `mbevents doctor` looks at: each finding says what is wrong and what to do about it."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from events.errors import UnreachableError
from events.queues.types import Depth
from events.sql import queries
from ops import checks
from ops.asking import in_thread
from ops.settings import RedisRole
from ops.web.health import reason_of
from producers.capture import service

if TYPE_CHECKING:
    from ops.wiring import Runtime

# Older than this, something stands still: the bridge takes milliseconds, workers seconds.
LOG_AGE_SECONDS = 30.0
QUEUE_AGE_SECONDS = 300.0
CLOCK_SECONDS = 5.0
# A Redis that has just started, or was emptied, hears of a worker at its next beat: each second.
BEAT_SECONDS = 2.5
# A Redis that is as full as this refuses writes, or soon will.
FULL = 0.95
# Redis of these roles must never evict: what they hold is nowhere else in memory, and its loss is work.
KEEPS = (RedisRole.BROKER, RedisRole.SESSIONS, RedisRole.LIMITS)


# All servers of Redis and RabbitMQ together get this long.
LONGEST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None for what could not be looked at because of another fault."""

    check: str
    ok: bool | None
    detail: str
    fix: str | None = None


_QUEUES_UNKNOWN = [Finding(name, None, "the broker does not answer") for name in ("queues", "workers")]


def examine(runtime: "Runtime") -> list[Finding]:
    """Everything, in the order in which faults should be mended. Servers that hang cost a few seconds, all together."""
    began = time.monotonic()
    roles = {role: in_thread(partial(_redis, runtime, role)) for role in RedisRole}
    queues = in_thread(partial(_queues, runtime))
    database = list(_database(runtime))
    asked: list[Future[Any]] = [*roles.values(), queues]
    wait(asked, max(0.0, began + LONGEST_SECONDS - time.monotonic()))
    silent = UnreachableError(f"nothing came within {LONGEST_SECONDS:g} s")
    redis = [each.result() if each.done() else _away(role, silent) for role, each in roles.items()]
    return [*database, *redis, *(queues.result() if queues.done() else _QUEUES_UNKNOWN)]


def _database(runtime: "Runtime") -> Iterator[Finding]:
    names = ("capture", "log", "bridge", "dead letters", "clock")
    try:
        with checks.connected(runtime) as connection:
            yield from _server(connection)
            yield from _capture(runtime, connection)
            yield from _installed(connection)
    except (psycopg.Error, OSError) as error:
        yield Finding(
            "database",
            False,
            f"PostgreSQL does not answer: {reason_of(error)}",
            "Start PostgreSQL, or set DATABASE_URL right (`mbevents config` shows it).",
        )
        yield from (Finding(name, None, "the database does not answer") for name in names)


def _server(connection: "psycopg.Connection[Any]") -> Iterator[Finding]:
    began = time.time()
    row = connection.execute(queries("ops")["server"]).fetchone()
    assert row is not None
    release, number, database, clock, standby = row
    away = clock - (began + time.time()) / 2
    if standby:
        yield Finding(
            "database", False, f"{database} is a read-only standby", "Point DATABASE_URL at the primary server."
        )
    elif number < 150000:
        yield Finding("database", False, f"PostgreSQL {release} is too old", "Upgrade the server to 15 or newer.")
    else:
        yield Finding("database", True, f"{database} on PostgreSQL {release}")
    if abs(away) > CLOCK_SECONDS:
        yield Finding(
            "clock",
            False,
            f"the database's clock is {away:+.1f} s away from this machine's",
            "Have both machines set their clocks from the network (chrony or systemd-timesyncd).",
        )
    else:
        yield Finding("clock", True, f"{abs(away):.1f} s from the database's")


def _capture(runtime: "Runtime", connection: "psycopg.Connection[Any]") -> Iterator[Finding]:
    kind = runtime.settings.replication_type
    report = service.check(connection, replication_type=kind)
    # Hundreds of tables may have the same fault.
    for fix in dict.fromkeys(fault.fix for fault in report.faults):
        alike = [fault.what for fault in report.faults if fault.fix == fix]
        more = f" (and {len(alike) - 1} more: `mbevents db check`)" if len(alike) > 1 else ""
        yield Finding("capture", False, f"{alike[0]}{more}", fix)
    if report.ok:
        foreign = ", by dbmirror2's own triggers" if report.foreign else ""
        yield Finding("capture", True, f"version {report.version} for {kind}, {report.captured} tables{foreign}")


def _installed(connection: "psycopg.Connection[Any]") -> Iterator[Finding]:
    log, *_ = connection.execute(queries("ops")["installed"]).fetchone() or (False,)
    if not log:
        for name in ("bridge", "log", "dead letters"):
            yield Finding(name, None, "nothing is installed")
        return
    yield _bridge(connection)
    age = checks.log_age(connection)
    yield (
        Finding(
            "log",
            False,
            f"the oldest change or event that is not published is {age:.0f} s old",
            "See that a bridge runs (`mbevents bridge`) and that Redis answers; its log says what it waits for.",
        )
        if age > LOG_AGE_SECONDS
        else Finding("log", True, f"the oldest that is not published is {age:.1f} s old" if age else "all is published")
    )
    letters: list[tuple[str, int]] = connection.execute(queries("ops")["dead_letters"]).fetchall()
    yield (
        Finding(
            "dead letters",
            False,
            ", ".join(f"{number:,} in {queue}" for queue, number in letters),
            "Look at them with `mbevents jobs list`; then `mbevents jobs retry` or `discard`.",
        )
        if letters
        else Finding("dead letters", True, "none")
    )


def _bridge(connection: "psycopg.Connection[Any]") -> Finding:
    holder = checks.leader(connection)
    if holder is None:
        return Finding("bridge", False, "no bridge leads", "Start one: `mbevents bridge` (or `mbevents up`).")
    pid, name, address, since = holder
    where = f" from {address}" if address else ""
    return Finding("bridge", True, f"leads{where} (backend {pid}, {name}) since {since:%Y-%m-%d %H:%M:%S %Z}")


def _redis(runtime: "Runtime", role: RedisRole) -> Finding:
    url = runtime.redis_url(role)
    if url.startswith("amqp"):
        return _tried(
            _name(role),
            checks.redis_check(runtime, role),
            "RabbitMQ answers",
            "Start RabbitMQ, or set BROKER_URL right.",
        )
    client = checks.probe_client(url)
    try:
        memory = client.info("memory")
        release = client.info("server").get("redis_version", "?")
        # It changes nothing, and who takes no writes, such as a replica, refuses it.
        client.persist(f"{runtime.settings.redis_namespace}:nothing")
    except redis.ResponseError as error:
        return Finding(
            _name(role),
            False,
            f"refuses what everything needs: {reason_of(error)}",
            "Have REDIS_SERVER or the role's own URL lead to the master, as a user with the rights that "
            "ops/docs/redis.md names; if it does, Redis's log says why it refuses.",
        )
    except Exception as error:
        return _away(role, error)
    finally:
        client.close()
    policy, limit = str(memory.get("maxmemory_policy", "unknown")), int(memory.get("maxmemory", 0))
    return _policy(_name(role), role, policy, limit, release, used=int(memory.get("used_memory", 0)))


def _away(role: RedisRole, error: Exception) -> Finding:
    return Finding(
        _name(role),
        False,
        f"does not answer: {reason_of(error)}",
        "Start Redis, or set REDIS_SERVER or the role's own URL right (`mbevents config` shows them).",
    )


def _name(role: RedisRole) -> str:
    return f"redis {role.name.lower()}"


def _policy(name: str, role: RedisRole, policy: str, limit: int, release: str, *, used: int) -> Finding:
    if role in KEEPS and policy != "noeviction":
        return Finding(
            name,
            False,
            f"its maxmemory-policy is {policy}: it may throw away what must stay",
            "Run `redis-cli config set maxmemory-policy noeviction` (and write it into redis.conf), "
            "or give this role a Redis of its own.",
        )
    if limit and policy == "noeviction" and used >= FULL * limit:
        return Finding(
            name,
            False,
            f"it is full: {used / 2**20:.0f} of {limit / 2**20:.0f} MiB, and {policy} refuses what is to be written",
            "Raise its maxmemory"
            + ("." if role in KEEPS or role is RedisRole.PUBSUB else ", or set allkeys-lru if only caches use it."),
        )
    bound = f", at most {limit / 2**20:.0f} MiB" if limit else ""
    return Finding(name, True, f"Redis {release}, {policy}{bound}")


def _queues(runtime: "Runtime") -> list[Finding]:
    try:
        return list(_working(checks.depths(runtime), _workers(runtime)))
    except Exception:
        # Its fault is told already, as that of the broker.
        return _QUEUES_UNKNOWN


def _working(depths: dict[str, Depth], workers: int | None) -> Iterator[Finding]:
    old = {queue: depth for queue, depth in depths.items() if depth.oldest_seconds > QUEUE_AGE_SECONDS}
    if old:
        detail = ", ".join(f"{queue}: {d.waiting:,} wait, up to {d.oldest_seconds:.0f} s" for queue, d in old.items())
        yield Finding(
            "queues",
            False,
            detail,
            "Start more workers (`mbevents worker --processes N`) and see that their --queues, if they have any, "
            "leave none out; or see why they are slow.",
        )
    else:
        waiting = sum(depth.waiting for depth in depths.values())
        yield Finding("queues", True, f"{waiting:,} messages wait, none for long")
    if workers == 0:
        yield Finding("workers", False, "no worker runs", "Start one: `mbevents worker` (or `mbevents up`).")
    elif workers is not None:
        yield Finding("workers", True, f"{workers} with a fresh heartbeat")
    else:
        yield Finding("workers", None, "RabbitMQ tells nothing of them")


def _workers(runtime: "Runtime") -> int | None:
    deadline = time.monotonic() + BEAT_SECONDS
    while (alive := checks.workers_alive(runtime)) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def _tried(name: str, attempt: Callable[[], object], detail: str, fix: str) -> Finding:
    try:
        attempt()
    except Exception as error:
        return Finding(name, False, f"does not answer: {reason_of(error)}", fix)
    return Finding(name, True, detail)


def healthy(findings: Iterable[Finding]) -> bool:
    """No fault; what could not be looked at only follows from one."""
    return all(each.ok is not False for each in findings)
