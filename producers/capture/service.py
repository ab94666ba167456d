"""Installing, checking and taking away the capture of changes, each in one transaction.

A connection that is given may be in autocommit or not; outside of a transaction each of these functions begins and
commits its own, inside of one it becomes a part of it. A URL may be given instead.
"""

from dataclasses import replace
from typing import Any

import psycopg
import structlog

from events.errors import UsageError
from producers.capture import adapters, core
from producers.capture.core import Plan, Report
from producers.capture.facts import ReplicationType

log = structlog.get_logger(__name__)

LOCK_TIMEOUT = 10.0


def install(
    where: "str | psycopg.Connection[Any]",
    *,
    replication_type: ReplicationType = "RT_STANDALONE",
    dry_run: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Plan:
    """Make what is missing; the plan that was carried out, or would be (`dry_run`).

    All tables are locked against writers for the moment that it takes, or none: `lock_timeout` are the seconds to try.
    Raises UsageError or VersionMismatchError for a database that cannot be served, LockedError for a busy one.
    """
    with adapters.connected(where) as connection, adapters.told("install"), connection.transaction():
        adapters.claim(connection, lock_timeout)
        plan = core.plan_install(adapters.read(connection), replication_type, adapters.definitions())
        if dry_run or not plan.steps:
            return plan
        adapters.lock(connection, plan.locked, "SHARE ROW EXCLUSIVE", lock_timeout)
        adapters.carry_out(connection, plan)
        log.info("capture_installed", database=connection.info.dbname, steps=len(plan.steps), foreign=plan.foreign)
    return replace(plan, done=True)


def check(where: "str | psycopg.Connection[Any]", *, replication_type: ReplicationType = "RT_STANDALONE") -> Report:
    """What is installed and what is wrong with it; changes nothing."""
    with adapters.connected(where) as connection, adapters.told("check"), connection.transaction():
        return core.report(adapters.read(connection), replication_type, adapters.definitions())


def uninstall(
    where: "str | psycopg.Connection[Any]",
    *,
    discard: bool = False,
    dry_run: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Plan:
    """Take away what is ours, with the event log; the plan that was carried out, or would be.

    All tables are locked for the moment that it takes, also against readers, or none: `lock_timeout` as for `install`.
    Refuses (UsageError) when captured changes, tasks or dead letters would be lost, unless told to `discard` them.
    """
    with adapters.connected(where) as connection, adapters.told("uninstall"), connection.transaction():
        adapters.claim(connection, lock_timeout)
        facts = adapters.read(connection)
        plan = core.plan_uninstall(facts)
        views = adapters.dependants(connection)
        if views:
            raise UsageError(
                f"Nothing was taken away from database {facts.database}: tables of mbevents are read by "
                f"{', '.join(views[:5])}. Drop these views first."
            )
        if not dry_run and plan.steps:
            leader = adapters.leader(connection)
            if leader is not None:
                raise UsageError(
                    f"Nothing was taken away from database {facts.database}: a bridge leads on it (backend {leader}). "
                    "Stop the bridges and workers first."
                )
            adapters.lock(connection, plan.locked, "ACCESS EXCLUSIVE", lock_timeout)
            lost = [] if discard else adapters.unread(connection, facts)
            if lost:
                raise UsageError(
                    f"Nothing was taken away from database {facts.database}: {', '.join(lost)} would be lost. Let the "
                    "bridge, the export and the workers finish (`bridge --drain`, `worker --drain`), or use --discard."
                )
            adapters.carry_out(connection, plan)
            log.info("capture_uninstalled", database=connection.info.dbname, steps=len(plan.steps))
    return replace(plan, done=not dry_run and bool(plan.steps))
