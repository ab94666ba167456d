"""Events from the outbox: edits, votes, notes, editors, packets, and truncated tables. One for a row and transaction.

Only the columns that are named here leave: whatever else a row may carry stays.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from events.derivation.collect import Collector, Row
from events.derivation.drafting import Drafting, Ordered
from events.derivation.entity_map import EntityMap
from events.derivation.state import Told, Transaction
from schemas.editor import SPAMMER

OPEN: Final = 1

_COLUMNS: Final = {
    "edit": ("id", "editor", "type", "status", "autoedit", "quality", "open_time", "close_time", "expire_time"),
    "vote": ("id", "editor", "edit", "vote", "vote_time"),
    "edit_note": ("id", "editor", "edit", "post_time"),
    "editor": ("id", "name", "privs", "deleted"),
    # Written by the export, as its event tells it.
    "packet": ("number", "schema_sequence", "transactions", "changes", "size_bytes", "exported_at", "files"),
}
_KEYS: Final = {"packet": "number"}

Data = dict[str, Any]
Events = Iterator[tuple[str, str, Data]]


class Outbox:
    """The rows of one kind: edit, vote, edit_note, editor, packet."""

    replicated = False

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._columns = _COLUMNS[kind]
        self._key = _KEYS.get(kind, "id")

    def collect(self, tx: Transaction, seqid: int, _op: str, old: Row | None, new: Row | None) -> None:
        row = old if new is None else new
        assert row is not None
        key = (self._kind, row[self._key])
        outbox = tx.own().outbox
        told = outbox.get(key)
        if told is None:
            told = outbox[key] = Told(seqid, self._tellable(old))
        told.after = self._tellable(new)

    def _tellable(self, row: Row | None) -> Data | None:
        return None if row is None else {column: row[column] for column in self._columns}


class Truncates:
    """Tables that were emptied."""

    replicated = False

    def collect(self, tx: Transaction, seqid: int, _op: str, old: Row | None, _new: Row | None) -> None:
        assert old is not None
        tx.own().truncated.setdefault(old["table"], seqid)


def outbox_collectors() -> dict[str, Collector]:
    kinds: dict[str, Collector] = {f"outbox.{kind}": Outbox(kind) for kind in _COLUMNS}
    return kinds | {"outbox.truncate": Truncates()}


def outbox_drafts(drafting: Drafting, entity_map: EntityMap) -> Iterator[Ordered]:
    """The events of everything that is not replicated."""
    for (kind, _), told in drafting.tx.extras.outbox.items():
        for rank, (event, subject, data) in enumerate(_EVENTS[kind](told.before, told.after)):
            yield drafting.draft(told.first, rank, event, subject, data)
    for table, first in drafting.tx.extras.truncated.items():
        data = {"table": table, "entity_types": list(entity_map.entity_types(table))}
        yield drafting.draft(first, 0, "table.truncated", f"table/{table}", data)


def _edit(before: Data | None, after: Data | None) -> Events:
    if after is None:
        return
    subject = f"edit/{after['id']}"
    data = {"edit_id": after["id"], "editor_id": after["editor"], "type": after["type"], "status": after["status"]}
    data["autoedit"] = bool(after["autoedit"])
    if before is None:
        times = {"open_time": after["open_time"], "expire_time": after["expire_time"]}
        # As it was opened: what became of it in the same transaction is the next event's.
        yield "edit.opened", subject, data | {"quality": after["quality"]} | times
    if after["status"] != OPEN and (before is None or before["status"] == OPEN):
        yield "edit.closed", subject, data | {"close_time": after["close_time"]}


def _vote(before: Data | None, after: Data | None) -> Events:
    # A vote that is superseded or taken back is told by the vote that took its place.
    if after is None or (before is not None and before["vote"] == after["vote"]):
        return
    data = {"edit_id": after["edit"], "vote_id": after["id"], "editor_id": after["editor"], "vote": after["vote"]}
    yield "edit.voted", f"edit/{after['edit']}", data | {"vote_time": after["vote_time"]}


def _edit_note(before: Data | None, after: Data | None) -> Events:
    if after is None or before is not None:
        return
    data = {"edit_id": after["edit"], "note_id": after["id"], "editor_id": after["editor"]}
    yield "edit.noted", f"edit/{after['edit']}", data | {"post_time": after["post_time"]}


def _editor(before: Data | None, after: Data | None) -> Events:
    row = after or before
    if row is None:  # registered and gone again: its id is all that could be told, and nobody heard of it
        return
    subject = f"editor/{row['id']}"
    if after is None or (after["deleted"] and not (before is not None and before["deleted"])):
        # Never the name: it is what the deletion took away.
        yield "editor.deleted", subject, {"editor_id": row["id"]}
    elif before is None:
        yield "editor.registered", subject, {"editor_id": row["id"], "name": after["name"]}
    elif columns := [column for column in ("name", "privs", "deleted") if before[column] != after[column]]:
        data = {"editor_id": row["id"], "name": after["name"], "columns": columns}
        yield "editor.updated", subject, data | {"spammer": bool((after["privs"] or 0) & SPAMMER)}


def _packet(_before: Data | None, after: Data | None) -> Events:
    if after is not None:
        yield "packet.published", f"packet/{after['number']}", after


_EVENTS: Final[Mapping[str, Callable[[Data | None, Data | None], Events]]] = {
    "edit": _edit,
    "vote": _vote,
    "edit_note": _edit_note,
    "editor": _editor,
    "packet": _packet,
}
