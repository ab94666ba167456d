"""Collectors: one for each captured table; each notes in the transaction what a change of a row concerns.

This is the hot path, a few microseconds a row: plain dictionaries and tuples, no models.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from events.derivation.entity_map import EntityMap, Table, url_column
from events.derivation.state import (
    BORN,
    ENTITY_KINDS,
    FIRST_PART_KIND,
    GONE,
    KIND_BITS,
    SEEN,
    Image,
    Redirect,
    Relationship,
    Shape,
    Transaction,
)

Row = Mapping[str, Any]

_ENTITY_SCHEMA = "musicbrainz."
_ARTWORK = ("cover_art_archive.cover_art", "event_art_archive.event_art")
# MusicBrainz counts open edits in the row itself: nothing that an archive or a link has to know.
_BOOKKEEPING = frozenset({"edits_pending", "last_updated"})


class Collector(Protocol):
    """Takes the changes of one table, in the order of their seqids inside a transaction."""

    replicated: bool

    def collect(self, tx: Transaction, seqid: int, op: str, old: Row | None, new: Row | None, /) -> None: ...


class Nothing:
    """For tables whose changes concern no entity."""

    replicated = True

    def collect(self, tx: Transaction, seqid: int, op: str, old: Row | None, new: Row | None, /) -> None: ...


class Rows:
    """What the collectors of replicated tables have in common."""

    replicated = True

    def __init__(self, table: str) -> None:
        self.table = table
        self._shapes: dict[tuple[str, tuple[str, ...]], Shape] = {}

    def collect(self, tx: Transaction, seqid: int, op: str, old: Row | None, new: Row | None) -> None:
        columns: tuple[str, ...] = ()
        if old is not None and new is not None:
            if old == new:
                return
            before = old.get
            columns = tuple([column for column, value in new.items() if before(column) != value])
        shape = self._shapes.get((op, columns))
        if shape is None:
            shape = self._shapes[op, columns] = Shape(self.table, op, columns)
        self.note(tx, seqid, shape, old, new)

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None, /) -> None:
        """A real change: `shape` says how, at least one of the rows is there."""
        raise NotImplementedError


class Entities(Rows):
    """The rows of a core entity."""

    def __init__(self, table: str, kind: int) -> None:
        super().__init__(table)
        self._kind = kind
        self._is_url = kind == ENTITY_KINDS["url"]

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None) -> None:
        if new is not None:
            row_id: int = new["id"]
            key = row_id << KIND_BITS | self._kind
            touch = tx.touch(key, shape, seqid)
            gid = new["gid"]
            before = touch.gid if old is None else old["gid"]
            if before is not None and before != gid:
                tx.own().renamed.setdefault(key, before)
            touch.gid = gid
            if old is None and not touch.flags & SEEN:
                touch.flags = SEEN | BORN
            else:
                touch.flags = (touch.flags | SEEN) & ~GONE
            if self._is_url:
                tx.extras.urls.pop(row_id, None)
        elif old is not None:
            row_id = old["id"]
            touch = tx.touch(row_id << KIND_BITS | self._kind, shape, seqid)
            touch.gid = old["gid"]
            touch.flags |= SEEN | GONE
            if self._is_url:
                tx.own().urls[row_id] = old["url"]


class Parts(Rows):
    """The rows of a table that is part of entities, directly or by way of other parts."""

    def __init__(self, table: Table, kinds: Mapping[str, int]) -> None:
        super().__init__(table.name)
        self._columns = tuple(table.owners)
        self._owners = tuple((column, kinds[target]) for column, target in table.owners.items())
        # Only parts that others hang off are looked up.
        self._own_kind = kinds.get(table.name)

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None) -> None:
        row = old if new is None else new
        assert row is not None
        told: list[int] = []
        for column, kind in self._owners:
            # A row that moved is a change of both owners; one that leads to the same entity twice is one change.
            now = row[column]
            was = old[column] if old is not None and column in shape.columns else None
            for owner in (now,) if was is None else (now, was):
                if owner is None:
                    continue
                key = owner << KIND_BITS | kind
                if key in told:
                    continue
                told.append(key)
                if kind >= FIRST_PART_KIND:
                    tx.touch_part(kind, owner, shape, seqid)
                else:
                    tx.touch(key, shape, seqid)
        if self._own_kind is not None:
            key = row["id"] << KIND_BITS | self._own_kind
            if new is None:
                tx.own().lost[key] = tuple([row[column] for column in self._columns])
            elif old is None:
                tx.extras.lost.pop(key, None)


class Redirects(Rows):
    """Where the old MBIDs of an entity type lead."""

    def __init__(self, table: str, kind: int) -> None:
        super().__init__(table)
        self._kind = kind

    def note(self, tx: Transaction, seqid: int, _shape: Shape, old: Row | None, new: Row | None) -> None:
        if old is not None:
            self._redirect(tx, seqid, old["gid"], old["new_id"]).after = None
        if new is not None:
            self._redirect(tx, seqid, new["gid"], None).after = new["new_id"]

    def _redirect(self, tx: Transaction, seqid: int, gid: str, before: int | None) -> Redirect:
        redirects = tx.own().redirects
        redirect = redirects.get((self._kind, gid))
        if redirect is None:
            redirect = redirects[self._kind, gid] = Redirect(seqid, before)
        return redirect


class UrlRelationships(Parts):
    """The rows of l_*_url: parts of both ends, and links besides."""

    def __init__(self, table: Table, kinds: Mapping[str, int]) -> None:
        super().__init__(table, kinds)
        self._url = url_column(table.name)
        self._entity = "entity0" if self._url == "entity1" else "entity1"

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None) -> None:
        super().note(tx, seqid, shape, old, new)
        # The dates and types of a relationship are the link's: another link is another statement.
        if shape.columns and not {"entity0", "entity1", "link"}.intersection(shape.columns):
            return
        row = old if new is None else new
        assert row is not None
        key = (self.table, row["id"])
        relationships = tx.own().relationships
        relationship = relationships.get(key)
        if relationship is None:
            relationship = relationships[key] = Relationship(seqid, self._ends(old))
        relationship.after = self._ends(new)

    def _ends(self, row: Row | None) -> tuple[int, int, int] | None:
        return None if row is None else (row[self._entity], row[self._url], row["link"])


class Images(Parts):
    """The rows of cover_art and event_art: parts of a release or an event, and artwork besides."""

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None) -> None:
        super().note(tx, seqid, shape, old, new)
        if shape.columns and _BOOKKEEPING.issuperset(shape.columns):
            return
        row = old if new is None else new
        assert row is not None
        assert self._own_kind is not None
        image = _image(tx, row["id"] << KIND_BITS | self._own_kind, shape, seqid)
        if not image.seen:
            image.seen = True
            image.before = self._owner(old)
        image.after = self._owner(new)
        image.last = image.after or self._owner(old)

    def _owner(self, row: Row | None) -> tuple[int, str] | None:
        return None if row is None else (row[self._columns[0]], row["mime_type"])


class ImageTypes(Parts):
    """The rows of cover_art_type and event_art_type: parts of an image."""

    def note(self, tx: Transaction, seqid: int, shape: Shape, old: Row | None, new: Row | None) -> None:
        super().note(tx, seqid, shape, old, new)
        column, kind = self._owners[0]
        for image_id in sorted({row[column] for row in (old, new) if row is not None}):
            _image(tx, image_id << KIND_BITS | kind, shape, seqid)


def _image(tx: Transaction, key: int, shape: Shape, seqid: int) -> Image:
    images = tx.own().images
    image = images.get(key)
    if image is None:
        image = images[key] = Image(seqid, shape)
    else:
        image.touch.add(shape)
    return image


def part_kinds(entity_map: EntityMap) -> dict[str, int]:
    """The kinds of the tables that parts lead to: entities first, then other parts in the order of their look-up."""
    tables = [_ENTITY_SCHEMA + entity for entity in ENTITY_KINDS] + list(entity_map.via)
    return {table: kind for kind, table in enumerate(tables)}


def collectors(entity_map: EntityMap) -> dict[str, Collector]:
    """One for each replicated table."""
    kinds = part_kinds(entity_map)
    return {table.name: _collector(table, kinds) for table in entity_map.tables.values()}


def _collector(table: Table, kinds: Mapping[str, int]) -> Collector:
    if table.role == "entity":
        return Entities(table.name, ENTITY_KINDS[table.entity])
    if table.role == "redirect":
        return Redirects(table.name, ENTITY_KINDS[table.entity])
    if table.role == "none":
        return Nothing()
    return _part_class(table, _ARTWORK)(table, kinds)


def _part_class(table: Table, artwork: Sequence[str]) -> type[Parts]:
    if table.name in artwork:
        return Images
    if any(target in artwork for target in table.owners.values()):
        return ImageTypes
    # A URL that is linked from something without events (a mood) is a part only.
    if url_column(table.name) and len(table.owners) == 2:
        return UrlRelationships
    return Parts
