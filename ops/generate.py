"""Writes the generated files again: `python -m ops.generate`. With `--check` nothing is written, and stale files fail.

The entity map needs a database with foreign keys, so a private one is built.
"""

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg

import ops.stack
from events.catalogue import EVENT_TYPES
from events.derivation import mapping
from events.derivation.entity_map import FILENAME as ENTITY_MAP
from events.errors import MbeventsError
from events.sql import queries
from ops import alerts, asyncapi
from ops.events_page import events_page
from ops.metrics import metrics_page
from ops.settings_page import settings_page
from ops.stack.schema import SCHEMA_SEQUENCE, build, create_database

ROOT = Path(__file__).resolve().parent.parent

# Where mbdata keeps the replication triggers of each schema.
_TRIGGERS = {
    "musicbrainz": "",
    "cover_art_archive": "caa",
    "event_art_archive": "eaa",
    "documentation": "documentation",
    "statistics": "statistics",
    "wikidocs": "wikidocs",
}
_TRIGGER_TABLE = re.compile(r"\bON (?:\w+\.)?(\S+)\s+FOR EACH ROW")


class Generated(NamedTuple):
    """A file, its path from the root of the project, and what belongs in it."""

    path: str
    content: bytes


class StaleError(MbeventsError):
    """Committed files are not what the code makes."""


def payload_schemas() -> Iterator[Generated]:
    """A JSON Schema for the data of each type of event."""
    for event in EVENT_TYPES.values():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": event.full_name}
        schema |= event.payload.model_json_schema()
        yield Generated(f"schemas/json/{asyncapi.schema_file(event)}", _json(schema))


def asyncapi_document() -> Iterator[Generated]:
    """The description of all channels."""
    yield Generated("schemas/asyncapi.json", _json(asyncapi.document(version("mbevents"), EVENT_TYPES.values())))


def pages() -> Iterator[Generated]:
    """The pages of the documentation, and the rules for alerts, that are made from declarations."""
    yield Generated("ops/docs/settings.md", settings_page().encode())
    yield Generated("ops/docs/metrics.md", metrics_page().encode())
    yield Generated("ops/docs/events.md", events_page().encode())
    yield Generated("ops/docs/alerts.yml", alerts.rules())


def entity_map() -> Iterator[Generated]:
    """Which table leads to which entity, from a database that is built for it."""
    with tempfile.TemporaryDirectory(prefix="mbe-") as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        with ops.stack.start(Path(home), redis=False, durable=False) as stack:
            create_database(stack.database_url("postgres"), ops.stack.DATABASE)
            build(stack.database_url(), _say)
            with psycopg.connect(stack.database_url()) as connection:
                yield Generated(f"events/derivation/{ENTITY_MAP}", entity_map_of(connection))


# Each yields files; one that needs servers comes last, so that the quick ones fail first.
GENERATORS: list[Callable[[], Iterator[Generated]]] = [payload_schemas, asyncapi_document, pages, entity_map]


def entity_map_of(connection: "psycopg.Connection[Any]") -> bytes:
    """The entity map of a database with foreign keys, as it is committed."""
    rows = connection.execute(queries("events.derivation")["foreign_keys"]).fetchall()
    keys = [mapping.ForeignKey(*row) for row in rows]
    return _json(mapping.build(SCHEMA_SEQUENCE, replicated_tables(), keys))


def replicated_tables() -> Iterator[str]:
    """`schema.table` of all that MusicBrainz replicates, by the triggers that mbdata lists."""
    spec = importlib.util.find_spec("mbdata")
    if spec is None or not spec.submodule_search_locations:
        raise MbeventsError("The list of replicated tables comes from the package mbdata, which is not installed.")
    folder = Path(spec.submodule_search_locations[0]) / "sql"
    for schema, sub in _TRIGGERS.items():
        script = (folder / sub / "CreateReplicationTriggers2.sql").read_text(encoding="utf-8")
        for table in _TRIGGER_TABLE.findall(script):
            yield f"{schema}.{table}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args(arguments).check
    try:
        generate(ROOT, check=check)
    except MbeventsError as error:
        _say(str(error))
        return error.exit_code
    return 0


def generate(
    root: Path, *, check: bool, generators: Sequence[Callable[[], Iterator[Generated]]] | None = None
) -> list[str]:
    """Write what is stale and return its paths; with `check`, raise StaleError instead."""
    wanted: dict[str, bytes] = {}
    for make in GENERATORS if generators is None else generators:
        wanted.update(make())
    stale = [path for path, content in wanted.items() if not _is(root / path, content)]
    folder = "schemas/json"
    orphans = [f"{folder}/{file.name}" for file in (root / folder).glob("*.json")]
    orphans = [path for path in orphans if path not in wanted] if any(folder in path for path in wanted) else []
    if check and (stale or orphans):
        raise StaleError(f"Stale: {', '.join(sorted(stale + orphans))}. Run: make generate")
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(wanted[path])
        _say(f"Wrote {path}")
    for path in orphans:
        (root / path).unlink()
        _say(f"Removed {path}")
    return stale + orphans


def _is(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
