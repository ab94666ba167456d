"""The database's side of capture: reading its catalogue, locking tables, making and dropping what a plan says."""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
import structlog
from psycopg.rows import tuple_row

from events.errors import MbeventsError, UnreachableError, UsageError
from events.locks import LEADER_KEY
from events.sql import queries
from events.tables import SCHEMAS, read_tables
from producers.capture.core import Plan
from producers.capture.facts import CAPTURE_TABLES, Facts, Made, Trigger

log = structlog.get_logger(__name__)

Connection = psycopg.Connection[Any]

# 'mbev' and a number, as in events/locks.py.
INSTALL_KEY = 0x6D626576 << 32 | 3
# Each makes its tables with its own schema.sql, which may be run again.
SCRIPTS = ("events.log", "events.ledger", "events.queues", "events.packets", "producers.bridge")
_FILES = ("installed.sql", "hint.sql", "capture.sql", "outbox.sql")
_OBJECT = re.compile(r"^CREATE (?:OR REPLACE )?(?:TABLE|FUNCTION) (?:IF NOT EXISTS )?([\w.]+)", re.MULTILINE)


class LockedError(MbeventsError):
    """Tables could not be locked: somebody uses them."""


@cache
def definitions() -> Mapping[str, str]:
    """The sources of all objects by their qualified name, in the order to make them; scripts by package."""
    objects = [source for file in _FILES for source in queries("producers.capture", file).values()]
    named = {_OBJECT.findall(source)[0]: source for source in objects}
    bookkeeping = {name: named.pop(name) for name in list(named)[: len(queries("producers.capture", "installed.sql"))]}
    scripts = {package: files(package).joinpath("schema.sql").read_text(encoding="utf-8") for package in SCRIPTS}
    return {**bookkeeping, **scripts, **named}


def read(connection: Connection) -> Facts:
    """The database as it is now."""
    database, user, may_create = _rows(connection, "database")[0]
    schemas = dict(_rows(connection, "schemas", schemas=[*SCHEMAS, "mbevents", "dbmirror2"]))
    relations = frozenset(name for (name,) in _rows(connection, "relations"))
    there = frozenset(schemas)
    closed = frozenset(name for name, open_to_us in schemas.items() if not open_to_us)
    ours = "mbevents" not in closed
    installed = _rows(connection, "installed") if ours and "mbevents.installed" in relations else []
    objects = _rows(connection, "objects") if ours and "mbevents.installed_object" in relations else []
    return Facts(
        database=database,
        user=user,
        server_version=connection.info.server_version,
        schema_sequence=_schema_sequence(connection),
        schemas=there,
        tables=read_tables(connection),
        relations=relations,
        functions=dict(_rows(connection, "functions")),
        triggers=tuple(Trigger(*row) for row in _rows(connection, "triggers")),
        editor_columns=_columns(connection, "musicbrainz.editor"),
        pending_columns=_columns(connection, CAPTURE_TABLES[0]),
        may_create_schemas=may_create,
        closed_schemas=closed & {"mbevents", "dbmirror2"},
        version=installed[0][0] if installed else None,
        objects={(kind, name): Made(made, found) for kind, name, made, found in objects},
    )


def claim(connection: Connection, seconds: float) -> None:
    """Be the only one who installs, until the transaction ends."""
    deadline = time.monotonic() + seconds
    while not _rows(connection, "claim", key=INSTALL_KEY)[0][0]:
        if time.monotonic() > deadline:
            raise LockedError(
                f"Another session has been installing or uninstalling in database {connection.info.dbname} for over "
                f"{seconds:g} s. Wait until it is done, and look with `mbevents db check`."
            )
        time.sleep(0.05)


def lock(connection: Connection, tables: Sequence[str], mode: str, seconds: float) -> None:
    """Lock all tables or none. Never waits for one while it holds others: editors would wait for us, or deadlock."""
    # For what comes once they are locked: what is ours must not be waited for, or every editor waits with us.
    connection.execute("SET LOCAL lock_timeout = '2s'")
    if not tables:
        return
    statement = f"LOCK TABLE {', '.join(tables)} IN {mode} MODE NOWAIT".encode()
    deadline = time.monotonic() + seconds
    while True:
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise LockedError(_in_the_way(connection, tables, mode, seconds)) from None
        else:
            return
        time.sleep(random.uniform(0.01, 0.1))


def leader(connection: Connection) -> int | None:
    """The backend of the bridge that leads on this database."""
    found = _rows(connection, "leader", high=LEADER_KEY >> 32, low=LEADER_KEY & 0xFFFFFFFF)
    return found[0][0] if found else None


def carry_out(connection: Connection, plan: Plan) -> None:
    """Do the steps and record what was made, in the caller's transaction, once the plan's tables are locked."""
    # Names in the scripts are qualified; this keeps what PostgreSQL says of functions the same in every session.
    connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
    # `already exists, skipping` is no news.
    connection.execute("SET LOCAL client_min_messages = warning")
    for step in plan.steps:
        connection.execute(step.statement.encode())
    made = [step for step in plan.steps if step.made is not None]
    if made:
        parameters = {
            "kinds": [step.kind for step in made],
            "names": [step.name for step in made],
            "digests": [step.made for step in made],
        }
        connection.execute(queries("producers.capture")["record"], parameters)


def unread(connection: Connection, facts: Facts) -> list[str]:
    """What would be lost with an uninstall, in words; counted once nobody can add to it."""
    counted = {
        "unread_pending": ("dbmirror2.pending_data", "captured changes that no packet or event tells of"),
        "unread_outbox": ("mbevents.outbox", "changes of edits, votes, notes and editors that are not events yet"),
        "open_tasks": ("mbevents.task", "tasks that are not done"),
        "dead_letters": ("mbevents.dead_letter", "dead letters"),
    }
    found = []
    for name, (table, words) in counted.items():
        is_ours = table.startswith("mbevents.") or ("table", table) in facts.objects
        if is_ours and table in facts.relations:
            count = _rows(connection, name)[0][0]
            found += [f"{count} {words}"] if count else []
    return found


def dependants(connection: Connection) -> list[str]:
    """Views of others on tables of ours."""
    return [name for (name,) in _rows(connection, "dependants")]


@contextmanager
def connected(where: "str | Connection") -> Iterator[Connection]:
    """A connection from a URL, or the one given."""
    if not isinstance(where, str):
        yield where
        return
    try:
        opened: Connection = psycopg.connect(where, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise UnreachableError(f"PostgreSQL does not answer: {str(error).strip()}. Check DATABASE_URL.") from error
    with opened:
        yield opened


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turns what PostgreSQL refuses into an error for people."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise UsageError(f"Cannot {doing}: {error.diag.message_primary}. Do it as the owner or a superuser.") from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise UsageError(
            f"Cannot {doing}: the server or session is read-only (a standby?). Use the primary's address."
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise LockedError(
            f"Cannot {doing}: another session has locked tables of mbevents. Nothing was changed; try again when it "
            "has ended."
        ) from error
    except psycopg.OperationalError as error:
        raise UnreachableError(f"Cannot {doing}: {str(error).strip()}. Nothing was changed; try again.") from error
    except psycopg.Error as error:
        raise MbeventsError(f"Cannot {doing}: {str(error).strip()}. Nothing was changed.") from error


def _schema_sequence(connection: Connection) -> int | None:
    if not _columns(connection, "musicbrainz.replication_control"):
        return None
    rows = _rows(connection, "schema_sequence")
    return rows[0][0] if rows else None


def _columns(connection: Connection, table: str) -> frozenset[str]:
    return frozenset(name for (name,) in _rows(connection, "columns", table=table))


def _in_the_way(connection: Connection, tables: Sequence[str], mode: str, seconds: float) -> str:
    found = _rows(connection, "in_the_way", tables=list(tables), readers=mode == "ACCESS EXCLUSIVE")
    who = "; ".join(
        f"pid {pid} ({user}, {state}) holds {table}" + (f" for {age:.0f} s" if age is not None else "")
        for pid, user, state, age, table in found
    )
    return (
        f"Nothing was changed in database {connection.info.dbname}: {len(tables)} tables could not be locked at the "
        f"same time within {seconds:g} s. In the way: {who or 'short transactions, one after the other'}. "
        "Try again when these have ended, with a longer --lock-timeout, or when few people edit."
    )


def _rows(connection: Connection, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(queries("producers.capture")[name], parameters).fetchall()
