"""Whatever the transactions did: the events do not depend on how they were fed, and tell nothing private."""

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.derivation.core import Deriver
from events.derivation.entity_map import load
from schemas.capture import RowChange
from schemas.envelope import Draft
from schemas.values import ENTITY_TYPES
from tests.unit.events.derivation.changes import FakeResolver, Feed, Row, check, mbid

SECRET = "s3cr3t"
_MAP = load()
_SMALL = st.integers(1, 3)
_FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Parts as the tables really are, with values that must never be told in every column that is no id.
_PARTS: dict[str, Row] = {
    table.name: dict.fromkeys(table.owners, 0)
    | {"id": 0, "link": 1, "name": SECRET, "text": SECRET, "mime_type": "image/png", "edits_pending": 0}
    | dict.fromkeys(table.owners, 0)
    for table in _MAP.tables.values()
    if table.role == "part"
}
_OUTBOX: dict[str, Row] = {
    "outbox.edit": {
        "id": 0,
        "editor": 1,
        "type": 2,
        "status": 1,
        "autoedit": 0,
        "quality": 1,
        "open_time": "2024-01-01T00:00:00Z",
        "close_time": None,
        "expire_time": "2024-01-01T00:00:00Z",
        "data": SECRET,
    },
    "outbox.vote": {"id": 0, "editor": 1, "edit": 2, "vote": 1, "vote_time": None, "ip": SECRET},
    "outbox.edit_note": {"id": 0, "editor": 1, "edit": 2, "post_time": None, "text": SECRET},
    "outbox.editor": {"id": 0, "name": "Public", "privs": 0, "deleted": False, "email": SECRET, "password": SECRET},
}


class World:
    """Rows that live, so that the changes are possible ones: an old row is what the last change left."""

    def __init__(self) -> None:
        self.feed = Feed()
        self._rows: dict[tuple[str, int], Row] = {}

    def change(self, table: str, row_id: int, values: list[int], xid: int, what: int) -> None:
        template = _PARTS.get(table) or _OUTBOX.get(table) or self._entity(row_id)
        new = dict(template)
        owners = _MAP.tables[table].owners if table in _MAP.tables else {}
        new |= dict(zip(owners, values, strict=False))
        if "id" not in owners:
            new["id"] = row_id
        if "status" in new:
            new["status"] = values[0]
        new["comment"] = f"{SECRET} {values[-1]}"
        key = (table, new["id"])
        old = self._rows.get(key)
        if old is None:
            self._rows[key] = new
            self.feed.insert(table, new, xid=xid)
        elif what == 0:
            del self._rows[key]
            self.feed.delete(table, old, xid=xid)
        else:
            self._rows[key] = old | new
            self.feed.update(table, old, new, xid=xid)

    def _entity(self, row_id: int) -> Row:
        return {"gid": mbid(row_id), "name": SECRET, "url": "https://a.example", "edits_pending": 0}


@st.composite
def feeds(draw: st.DrawFn) -> list[RowChange]:
    world = World()
    tables = [f"musicbrainz.{entity}" for entity in ENTITY_TYPES] + sorted(_PARTS) + sorted(_OUTBOX)
    chosen = draw(st.lists(st.sampled_from(tables), min_size=1, max_size=5, unique=True))
    for table, row_id, values, xid, what in draw(
        st.lists(
            st.tuples(st.sampled_from(chosen), _SMALL, st.lists(_SMALL, min_size=3, max_size=3), _SMALL, _SMALL),
            max_size=30,
        )
    ):
        world.change(table, row_id, values, xid, what - 1)
    return world.feed.changes


def resolver() -> FakeResolver:
    parts: dict[tuple[str, int], tuple[int | None, ...]] = {
        (table, row_id): tuple(row_id for _ in _MAP.tables[table].owners)
        for table in _MAP.via
        for row_id in range(1, 4)
    }
    return FakeResolver(parts=parts)


def derived(changes: list[RowChange], cuts: list[int] | None = None) -> list[Draft]:
    deriver = Deriver("db")
    edges = [0, *sorted(cut % (len(changes) + 1) for cut in cuts or []), len(changes)]
    for start, end in pairwise(edges):
        deriver.add(changes[start:end])
    drafts = deriver.drafts([1, 2, 3], resolver())
    assert (deriver.unresolved, deriver.unknown_tables, deriver.unreadable) == (0, {}, {})
    return drafts


@_FEW
@given(feeds(), st.lists(st.integers(0, 100), max_size=4))
def test_the_events_do_not_depend_on_how_the_changes_are_cut(changes: list[RowChange], cuts: list[int]) -> None:
    assert derived(changes, cuts) == derived(changes)


@_FEW
@given(feeds())
def test_the_events_of_a_transaction_do_not_depend_on_what_else_is_in_the_batch(changes: list[RowChange]) -> None:
    together = {xid: [draft for draft in derived(changes) if draft.xid == xid] for xid in (1, 2, 3)}
    for xid in (1, 2, 3):
        assert derived([change for change in changes if change.xid == xid]) == together[xid]


@_FEW
@given(feeds())
def test_an_entity_has_one_event_a_transaction_and_every_event_its_own_id(changes: list[RowChange]) -> None:
    drafts = derived(changes)
    entities = Counter((draft.xid, draft.subject) for draft in drafts if draft.name.startswith("entity."))
    assert set(entities.values()) <= {1}
    assert len({draft.id for draft in drafts}) == len(drafts)


@_FEW
@given(feeds())
def test_every_event_is_as_its_schema_says_and_tells_nothing_private(changes: list[RowChange]) -> None:
    drafts = derived(changes)
    check(drafts)
    for draft in drafts:
        assert SECRET not in orjson.dumps([draft.data, draft.subject]).decode()


@_FEW
@given(feeds())
def test_each_table_is_asked_once_whatever_the_number_of_rows(changes: list[RowChange]) -> None:
    deriver = Deriver("db")
    deriver.add(changes)
    asked = resolver()
    deriver.drafts([1, 2, 3], asked)
    assert max(Counter(asked.asked).values(), default=0) <= 1


def test_no_event_can_carry_a_value_of_a_row_but_ids_urls_and_public_names() -> None:
    """The closed list of what leaves: a new field has to be thought about here."""
    from events.catalogue import EVENT_TYPES

    told = {name for event in EVENT_TYPES.values() for name in _fields(event.payload.model_json_schema())}
    ids = {name for name in told if re.fullmatch(r"(\w+_)?(id|mbid)", name)}
    times = {name for name in told if name.endswith(("_time", "_at"))}
    assert told - ids - times == {
        # what changed
        "action", "cause", "changes", "columns", "entity_type", "entity_types", "keys", "mime_type", "op", "rows",
        "table",
        # public: the edit's page, the editor's page, the link
        "autoedit", "name", "quality", "spammer", "status", "type", "url", "vote",
        # packets
        "files", "number", "schema_sequence", "sha256", "size_bytes", "transactions",
    }  # fmt: skip


def _fields(schema: dict[str, Any]) -> set[str]:
    nested = [schema, *schema.get("$defs", {}).values()]
    return {name for part in nested for name in part.get("properties", {})}
