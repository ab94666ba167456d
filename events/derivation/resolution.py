"""Looking up owners and MBIDs for a batch of transactions: each table is asked once, whatever the number of rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from events.derivation.collect import part_kinds
from events.derivation.drafting import Resolved
from events.derivation.entity_map import EntityMap
from events.derivation.state import ENTITY_KINDS, FIRST_PART_KIND, KIND_BITS, KIND_MASK, Transaction
from schemas.values import ENTITY_TYPES

Owners = tuple[int | None, ...]
_URL = ENTITY_KINDS["url"]


class Resolver(Protocol):
    """Where ids lead; each call is one query whatever the number of ids. What does not exist is left out."""

    def mbids(self, entity_type: str, ids: Collection[int]) -> Mapping[int, str]:
        """The MBIDs of entities by id."""
        ...

    def owners(self, table: str, columns: Sequence[str], ids: Collection[int]) -> Mapping[int, Owners]:
        """What rows of a table with the primary key `id` lead to: the values of those columns, by id."""
        ...

    def urls(self, ids: Collection[int]) -> Mapping[int, tuple[str, str]]:
        """MBID and text of URLs by id."""
        ...

    def deleted(self, wanted: Mapping[str, Collection[int]]) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        """The last row of what was deleted lately, by table and id; asked only for what the others did not find."""
        ...


class Via(NamedTuple):
    """A part that others lead to, and what its columns lead to."""

    table: str
    kind: int
    columns: tuple[str, ...]
    kinds: tuple[int, ...]


def via_tables(entity_map: EntityMap) -> tuple[Via, ...]:
    """In the order of look-up."""
    kinds = part_kinds(entity_map)
    tables = [(name, entity_map.tables[name].owners) for name in entity_map.via]
    return tuple(
        Via(name, kinds[name], tuple(owners), tuple(kinds[target] for target in owners.values()))
        for name, owners in tables
    )


class Resolution:
    """Fills in what the transactions of a batch need. `others` may know rows that they deleted themselves."""

    def __init__(
        self, batch: Sequence[Transaction], others: Collection[Transaction], via: Sequence[Via], resolver: Resolver
    ) -> None:
        self._batch = batch
        self._others = others
        self._via = via
        self._resolver = resolver
        self._resolved = Resolved()
        # Most transactions have neither.
        self._with_parts = [tx for tx in batch if tx.via]
        self._with_images = [tx for tx in batch if tx.extras.images]
        self._with_relationships = [tx for tx in batch if tx.extras.relationships]

    def run(self) -> Resolved:
        if self._with_parts:
            for via in self._via:
                self._resolve_parts(via)
        self._resolve_urls()
        self._resolve_mbids()
        return self._resolved

    def _resolve_parts(self, via: Via) -> None:
        """Hand what happened to parts of this table's rows on to what the rows lead to."""
        owners = self._owners_of(via, self._wanted_parts(via))
        for tx in self._with_parts:
            for row_id, touch in tx.take_parts(via.kind).items():
                found = tx.extras.lost.get(row_id << KIND_BITS | via.kind) or owners.get(row_id)
                if found is None:
                    self._resolved.unresolved += 1
                    continue
                for kind, owner in zip(via.kinds, found, strict=True):
                    if owner is None:
                        continue
                    if kind >= FIRST_PART_KIND:
                        tx.absorb_part(kind, owner, touch)
                    else:
                        tx.absorb(owner << KIND_BITS | kind, touch)
        for tx in self._with_images:
            for key, image in tx.extras.images.items():
                if key & KIND_MASK == via.kind and not image.seen:
                    found = owners.get(key >> KIND_BITS)
                    if found is not None and found[0] is not None:
                        image.after = (found[0], "")

    def _wanted_parts(self, via: Via) -> set[int]:
        return {
            row_id
            for tx in self._with_parts
            for row_id in tx.parts(via.kind)
            if row_id << KIND_BITS | via.kind not in tx.extras.lost
        }

    def _owners_of(self, via: Via, wanted: set[int]) -> dict[int, Owners]:
        if not wanted:
            return {}
        found = dict(self._resolver.owners(via.table, via.columns, wanted))
        missing = wanted - found.keys()
        if missing:
            keys = {row_id << KIND_BITS | via.kind for row_id in missing}
            for tx in self._others:
                found.update((key >> KIND_BITS, tx.extras.lost[key]) for key in keys.intersection(tx.extras.lost))
        missing -= found.keys()
        if missing:
            for (_, row_id), row in self._resolver.deleted({via.table: missing}).items():
                found[row_id] = tuple(row.get(column) for column in via.columns)
        return found

    def _resolve_urls(self) -> None:
        wanted = {
            ends[1]
            for tx in self._with_relationships
            for relationship in tx.extras.relationships.values()
            for ends in (relationship.before, relationship.after)
            if ends is not None and ends[1] not in tx.extras.urls
        }
        if not wanted:
            return
        for row_id, (mbid, url) in self._resolver.urls(wanted).items():
            self._resolved.mbids[row_id << KIND_BITS | _URL] = mbid
            self._resolved.urls[row_id] = url
        missing = wanted - self._resolved.urls.keys()
        for tx in self._others if missing else ():
            self._resolved.urls.update(
                (row_id, tx.extras.urls[row_id]) for row_id in missing.intersection(tx.extras.urls)
            )

    def _resolve_mbids(self) -> None:
        known = self._resolved.mbids
        missing: set[int] = set()
        for kind, wanted in self._wanted_entities().items():
            found = self._resolver.mbids(ENTITY_TYPES[kind], wanted)
            known.update((row_id << KIND_BITS | kind, mbid) for row_id, mbid in found.items())
            missing.update(row_id << KIND_BITS | kind for row_id in wanted if row_id not in found)
        if missing:
            self._resolve_gone(missing)
        for tx in self._batch:
            for key, touch in tx.entities.items():
                if touch.gid is None:
                    touch.gid = known.get(key)

    def _wanted_entities(self) -> dict[int, set[int]]:
        """Ids by kind, of those whose own rows were not seen."""
        known = self._resolved.mbids
        wanted: dict[int, set[int]] = {}
        for tx in self._batch:
            entities = tx.entities
            unseen = [key for key, touch in entities.items() if touch.gid is None]
            unseen += [key for key in _survivors(tx) if key not in entities]
            for key in unseen:
                if key not in known:
                    wanted.setdefault(key & KIND_MASK, set()).add(key >> KIND_BITS)
        return wanted

    def _resolve_gone(self, missing: set[int]) -> None:
        """What the database has not any more: deleted by another transaction of this batch, or by a later one."""
        known = self._resolved.mbids
        for tx in self._others:
            for key in missing.intersection(tx.entities):
                gid = tx.extras.renamed.get(key, tx.entities[key].gid)
                if gid is not None:
                    known[key] = gid
        asked: dict[str, set[int]] = {}
        for key in missing - known.keys():
            asked.setdefault(f"musicbrainz.{ENTITY_TYPES[key & KIND_MASK]}", set()).add(key >> KIND_BITS)
        if not asked:
            return
        for (table, row_id), row in self._resolver.deleted(asked).items():
            kind = ENTITY_KINDS[table.partition(".")[2]]
            if (mbid := row.get("gid")) is not None:
                known[row_id << KIND_BITS | kind] = mbid
            if kind == _URL and (url := row.get("url")) is not None:
                self._resolved.urls.setdefault(row_id, url)


def _survivors(tx: Transaction) -> Iterator[int]:
    """Entities into which others were merged: their MBIDs are told even if nothing else of them changed."""
    for (kind, _), redirect in tx.extras.redirects.items():
        if redirect.after is not None:
            yield redirect.after << KIND_BITS | kind
