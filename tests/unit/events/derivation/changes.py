"""Makes row changes, and a resolver that counts what it is asked."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from events.catalogue import EVENT_TYPES
from events.derivation.core import Deriver
from schemas.capture import RowChange
from schemas.envelope import Draft
from schemas.values import ENTITY_TYPES

XID = 7
TIME = "2024-05-06T07:08:09Z"

Row = dict[str, Any]


def mbid(number: int) -> str:
    """A made-up MBID that tells its number."""
    return f"00000000-0000-4000-8000-{number:012d}"


@dataclass
class Feed:
    """Numbers changes as capture does, outbox and replicated tables each by a sequence of its own."""

    changes: list[RowChange] = field(default_factory=list)
    replicated: int = 100
    outbox: int = 10

    def insert(self, table: str, new: Row, *, xid: int = XID) -> None:
        self._add(table, "i", None, new, xid)

    def update(self, table: str, old: Row, new: Row, *, xid: int = XID) -> None:
        self._add(table, "u", old, old | new, xid)

    def delete(self, table: str, old: Row, *, xid: int = XID) -> None:
        self._add(table, "d", old, None, xid)

    def _add(self, table: str, op: Literal["i", "u", "d"], old: Row | None, new: Row | None, xid: int) -> None:
        if table.startswith("outbox."):
            self.outbox += 1
            seqid = self.outbox
        else:
            self.replicated += 1
            seqid = self.replicated
        self.changes.append(RowChange(seqid, xid, table, op, old, new, TIME))


@dataclass
class FakeResolver:
    """A database in which each id has the MBID of the same number, unless it is `gone`."""

    parts: dict[tuple[str, int], tuple[int | None, ...]] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)
    graves: dict[tuple[str, int], Row] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def mbids(self, entity_type: str, ids: Collection[int]) -> Mapping[int, str]:
        assert entity_type in ENTITY_TYPES
        self.asked.append(entity_type)
        return {row_id: mbid(row_id) for row_id in ids if (f"musicbrainz.{entity_type}", row_id) not in self.gone}

    def owners(self, table: str, columns: Sequence[str], ids: Collection[int]) -> Mapping[int, tuple[int | None, ...]]:
        self.asked.append(table)
        found = {row_id: self.parts[table, row_id] for row_id in ids if (table, row_id) in self.parts}
        assert all(len(owners) == len(columns) for owners in found.values())
        return found

    def urls(self, ids: Collection[int]) -> Mapping[int, tuple[str, str]]:
        self.asked.append("urls")
        return {
            row_id: (mbid(row_id), f"https://www.wikidata.org/wiki/Q{row_id}")
            for row_id in ids
            if ("musicbrainz.url", row_id) not in self.gone
        }

    def deleted(self, wanted: Mapping[str, Collection[int]]) -> Mapping[tuple[str, int], Row]:
        self.asked.append("deleted")
        pairs = ((table, row_id) for table, ids in wanted.items() for row_id in ids)
        return {pair: self.graves[pair] for pair in pairs if pair in self.graves}


def derive(feed: Feed, resolver: FakeResolver | None = None, *, xids: Iterable[int] | None = None) -> list[Draft]:
    """The drafts of everything that was fed; each is of the catalogue and nothing was left untold."""
    deriver = Deriver("https://db.example")
    deriver.add(feed.changes)
    drafts = deriver.drafts(
        dict.fromkeys(change.xid for change in feed.changes) if xids is None else xids, resolver or FakeResolver()
    )
    assert (deriver.unresolved, deriver.unknown_tables, deriver.unreadable) == (0, {}, {})
    check(drafts)
    return drafts


def check(drafts: Iterable[Draft]) -> None:
    """Every draft validates against its payload and survives JSON."""
    for draft in drafts:
        EVENT_TYPES[draft.name].payload.model_validate_json(orjson.dumps(draft.data))


def told(drafts: Iterable[Draft]) -> list[tuple[str, str]]:
    return [(draft.name, draft.subject) for draft in drafts]
