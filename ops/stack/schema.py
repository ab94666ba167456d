"""The MusicBrainz schema, built from the SQL that the `mbdata` package brings."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from events.errors import MbeventsError, UnreachableError, UsageError
from ops.stack.errors import DiskFullError, EmbeddedServerError

SCHEMA_SEQUENCE = 31
SCHEMAS = ("musicbrainz", "cover_art_archive", "event_art_archive", "documentation", "statistics", "wikidocs")

# In the order of MusicBrainz's own InitDb. Left out: json_dump, report and sitemaps, which nobody replicates, and
# everything of replication, which capture installs.
# fmt: off
_FILES = (
    "Extensions", "CreateCollations", "CreateSearchConfiguration", "CreateTypes", "CreateTables", "caa/CreateTables",
    "eaa/CreateTables", "documentation/CreateTables", "statistics/CreateTables", "wikidocs/CreateTables",
    "CreatePrimaryKeys", "caa/CreatePrimaryKeys", "eaa/CreatePrimaryKeys", "documentation/CreatePrimaryKeys",
    "statistics/CreatePrimaryKeys", "wikidocs/CreatePrimaryKeys", "CreateFunctions", "caa/CreateFunctions",
    "eaa/CreateFunctions", "CreateIndexes", "caa/CreateIndexes", "eaa/CreateIndexes", "statistics/CreateIndexes",
    "CreateFKConstraints", "caa/CreateFKConstraints", "caa/CreateEditFKConstraints", "eaa/CreateFKConstraints",
    "eaa/CreateEditFKConstraints", "documentation/CreateFKConstraints", "CreateConstraints", "CreateViews",
    "caa/CreateViews", "eaa/CreateViews", "CreateTriggers", "caa/CreateTriggers", "eaa/CreateTriggers",
    "CreateSearchIndexes", "CreateCollateIndexes",
)
# fmt: on
_SEQUENCES = ("SetSequences", "caa/SetSequences", "eaa/SetSequences", "statistics/SetSequences")
# What a mirror has not, as statements, constraints before triggers.
_MIRROR_DROPS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname), 1 AS turn
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
WHERE contype IN ('f', 'c', 'u', 'x') AND conparentid = 0 AND coninhcount = 0
  AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY (%(schemas)s))
UNION ALL
SELECT format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass), 2
FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
WHERE NOT tgisinternal AND tgparentid = 0
  AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY (%(schemas)s))
ORDER BY turn
"""
_PSQL_COMMAND = re.compile(r"^\\.*$", re.MULTILINE)


def create_database(admin_url: str, name: str) -> None:
    """An empty database in UTF-8."""
    with _told(f"make the database {name}"), psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        )


def build(url: str, progress: Callable[[str], None]) -> None:
    """The whole schema in an empty database; a failure leaves a part of it, so build under a temporary name."""
    folder = _folder()
    progress(f"Building the MusicBrainz schema {SCHEMA_SEQUENCE}.")
    with _told("build the MusicBrainz schema"), psycopg.connect(url, autocommit=True) as connection:
        _refuse(connection)
        for schema in SCHEMAS:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for name in _FILES:
            if name == "CreateCollations":
                _create_collation(connection, folder)
            else:
                _run(connection, folder, name)
        _run(connection, folder, *_SEQUENCES)
        connection.execute(
            "INSERT INTO musicbrainz.replication_control (id, current_schema_sequence) VALUES (1, %s)",
            (SCHEMA_SEQUENCE,),
        )
        use_search_path(connection)


def make_mirror(connection: psycopg.Connection) -> None:
    """Turn a copy of the database into a mirror as MusicBrainz sets one up: no foreign keys, constraints or triggers
    but a mirror's own; primary keys and indexes stay."""
    folder = _folder()
    with _told("make a mirror of the database"):
        # Constraints first: their internal triggers go with them.
        for statement in connection.execute(_MIRROR_DROPS, {"schemas": list(SCHEMAS)}).fetchall():
            connection.execute(statement[0])
        _run(connection, folder, "CreateMirrorIndexes", "CreateMirrorOnlyFunctions", "CreateMirrorOnlyTriggers")


def set_sequences(connection: psycopg.Connection) -> None:
    """Let every sequence go on after the highest id that is there."""
    _run(connection, _folder(), *_SEQUENCES)


def use_search_path(connection: psycopg.Connection) -> None:
    """What MusicBrainz's clients set: its triggers name their tables without a schema. Clones do not inherit it."""
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET search_path = musicbrainz, public").format(database))
    connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'UTC'").format(database))


def _run(connection: psycopg.Connection, folder: Path, *names: str) -> None:
    for name in names:
        script = _PSQL_COMMAND.sub("", (folder / f"{name}.sql").read_text(encoding="utf-8"))
        # The scripts set other paths and begin and commit themselves.
        connection.execute("SET search_path = musicbrainz, public")
        connection.execute(script)


def _create_collation(connection: psycopg.Connection, folder: Path) -> None:
    try:
        _run(connection, folder, "CreateCollations")
    except psycopg.errors.FeatureNotSupported:
        # Built without ICU, as the wheel is; PostgreSQL has a provider of its own from 17 on.
        connection.execute("ROLLBACK")
        builtin = connection.info.server_version >= 170000
        provider = sql.SQL("builtin, locale = 'C.UTF-8'" if builtin else "libc, locale = 'C'")
        connection.execute(sql.SQL("CREATE COLLATION musicbrainz.musicbrainz (provider = {})").format(provider))


def _refuse(connection: psycopg.Connection) -> None:
    """Say before anything is made why it could not be finished."""
    where = f"database {connection.info.dbname}"
    if connection.info.server_version < 150000:
        version = connection.info.server_version // 10000
        raise UsageError(f"The server of {where} is PostgreSQL {version}; 15 is the oldest that is supported.")
    there = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", (list(SCHEMAS),)).fetchall()
    if there:
        raise UsageError(f"The schema {there[0][0]} is already there in {where}: the schema is built in an empty one.")
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row is None or not row[0]:
        raise UsageError(
            f"User {connection.info.user} is not a superuser in {where}, and only one may create the extensions "
            "cube, earthdistance and unaccent. Build the schema as a superuser."
        )


def _folder() -> Path:
    spec = importlib.util.find_spec("mbdata")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "The MusicBrainz schema comes from the package mbdata, which is not installed. "
            "Run: pip install 'mbevents[embedded]'"
        )
    return Path(spec.submodule_search_locations[0]) / "sql"


class _told:  # noqa: N801 (reads as a verb: with _told("do this"))
    """Turns what PostgreSQL refuses into an error for people."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, psycopg.errors.DiskFull):
            raise DiskFullError(f"Cannot {self._doing}: the disk of PostgreSQL is full ({error}).") from error
        if isinstance(error, psycopg.errors.FeatureNotSupported | psycopg.errors.UndefinedFile):
            raise UsageError(
                f"Cannot {self._doing}: {error}. Install PostgreSQL's contrib modules on the server "
                "(cube, earthdistance, unaccent)."
            ) from error
        if isinstance(error, psycopg.OperationalError):
            raise UnreachableError(f"Cannot {self._doing}: PostgreSQL does not answer ({error}).") from error
        if isinstance(error, psycopg.Error):
            raise MbeventsError(f"Cannot {self._doing}: {error}") from error
