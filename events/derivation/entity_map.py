"""The committed entity map: which table leads to which entity, without asking a database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

FILENAME = "entity_map.json"
_RELATIONSHIP = ".l_"


@dataclass(frozen=True, slots=True)
class Table:
    """What a change of a table's row concerns.

    `owners` leads from each column of a part to the table that it points to, which is an entity's or a part's.
    """

    name: str
    role: Literal["entity", "redirect", "part", "none"]
    entity: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EntityMap:
    """Every replicated table by its name, `schema.table` as `quote_ident` writes it.

    `via` are the parts that other parts lead to, in the order in which they are to be looked up: what one leads to
    comes after it.
    """

    schema_sequence: int
    tables: Mapping[str, Table]
    via: tuple[str, ...]

    def entity_types(self, table: str) -> tuple[str, ...]:
        """The types that a table's rows are of, or parts of, sorted; empty for tables that are not in the map."""
        found: set[str] = set()
        pending = [table]
        while pending:
            entry = self.tables.get(pending.pop())
            if entry is None:
                continue
            if entry.entity:
                found.add(entry.entity)
            pending.extend(entry.owners.values())
        return tuple(sorted(found))


def parse(raw: bytes) -> EntityMap:
    """Read the committed form."""
    content = json.loads(raw)
    tables = {
        name: Table(name, entry["role"], entry.get("entity", ""), entry.get("owners", {}), entry.get("reason", ""))
        for name, entry in content["tables"].items()
    }
    return EntityMap(content["schema_sequence"], tables, _in_order(tables))


@cache
def load() -> EntityMap:
    """The map that this release was made with."""
    return parse(files(__package__).joinpath(FILENAME).read_bytes())


def url_column(table: str) -> str:
    """The column of a relationship table that points to the URL (`entity1` of `musicbrainz.l_artist_url`), or ''."""
    _, found, ends = table.partition(_RELATIONSHIP)
    if not found:
        return ""
    if ends.endswith("_url"):
        return "entity1"
    return "entity0" if ends.startswith("url_") else ""


def _in_order(tables: Mapping[str, Table]) -> tuple[str, ...]:
    via = {target for table in tables.values() for target in table.owners.values() if tables[target].role == "part"}
    ordered: list[str] = []

    def place(name: str) -> None:
        if name in ordered:
            return
        for other in sorted(via):
            if name in tables[other].owners.values():
                place(other)
        ordered.append(name)

    for name in sorted(via):
        place(name)
    return tuple(ordered)
