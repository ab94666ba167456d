from typing import Any

import psycopg

from events.derivation.entity_map import load
from ops.generate import ROOT, entity_map_of, replicated_tables


def test_the_committed_map_is_what_the_foreign_keys_say(plain: psycopg.Connection[Any]) -> None:
    committed = (ROOT / "events/derivation/entity_map.json").read_bytes()
    assert entity_map_of(plain) == committed, "run: make generate"


def test_every_replicated_table_is_there_and_named_as_capture_names_it(plain: psycopg.Connection[Any]) -> None:
    names = list(replicated_tables())
    real = plain.execute(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables "
        "WHERE schemaname || '.' || tablename = ANY (%s)",
        (names,),
    ).fetchall()
    assert len(names) == 410
    assert {name for (name,) in real} == set(names) == set(load().tables)


def test_what_others_are_parts_of_has_the_primary_key_that_is_looked_up(plain: psycopg.Connection[Any]) -> None:
    entity_map = load()
    entities = [table.name for table in entity_map.tables.values() if table.role == "entity"]
    for table in (*entities, *entity_map.via):
        keys = plain.execute(
            "SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
            "WHERE indrelid = %s::regclass AND indisprimary",
            (table,),
        ).fetchall()
        assert keys == [("id",)], table
