"""What is kept of a transaction while its changes arrive: it grows with what is touched, never with the rows.

Entities are addressed by one integer, `id << KIND_BITS | kind`: a tuple for each would double the memory of a bulk
change. Parts that others hang off have kinds too, from `FIRST_PART_KIND` on.
"""

from collections.abc import Iterator
from typing import Any, Final

from schemas.values import ENTITY_TYPES

KIND_BITS: Final = 5
KIND_MASK: Final = (1 << KIND_BITS) - 1
FIRST_PART_KIND: Final = len(ENTITY_TYPES)
ENTITY_KINDS: Final[dict[str, int]] = {entity: kind for kind, entity in enumerate(ENTITY_TYPES)}

# What happened to the entity's own row.
SEEN: Final = 1
BORN: Final = 2  # the first that happened was an insert
GONE: Final = 4  # the last that happened was a delete

OPERATIONS: Final = {"i": "insert", "u": "update", "d": "delete"}


class Shape:
    """A way in which a row changed: one object for each that ever occurs, so touched entities share it."""

    __slots__ = ("columns", "op", "table", "told_once")

    def __init__(self, table: str, op: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.op = OPERATIONS[op]
        self.columns = columns
        # Most entities are touched by one row: they share this list, which nobody changes.
        self.told_once = [self.told(1)]

    def told(self, rows: int) -> dict[str, Any]:
        """The form in the payload."""
        return {"table": self.table, "op": self.op, "columns": list(self.columns), "rows": rows}

    def sort_key(self) -> tuple[str, str, tuple[str, ...]]:
        return self.table, self.op, self.columns


class Touch:
    """An entity or part that a transaction touched: where first, how, and its MBID if its own row was seen."""

    __slots__ = ("first", "flags", "gid", "more", "rows", "shape")

    def __init__(self, first: int, shape: Shape) -> None:
        self.first = first
        self.shape = shape
        self.rows = 1
        self.more: dict[Shape, int] | None = None
        self.gid: str | None = None
        self.flags = 0

    def copy(self) -> "Touch":
        """As much of it as concerns an owner: its changes."""
        other = Touch(self.first, self.shape)
        other.rows = self.rows
        other.more = None if self.more is None else dict(self.more)
        return other

    def add(self, shape: Shape, rows: int = 1) -> None:
        if shape is self.shape:
            self.rows += rows
        elif self.more is None:
            self.more = {shape: rows}
        else:
            self.more[shape] = self.more.get(shape, 0) + rows

    def absorb(self, other: "Touch") -> None:
        """Take over the changes of a part."""
        self.first = min(self.first, other.first)
        for shape, rows in other.changes():
            self.add(shape, rows)

    def changes(self) -> Iterator[tuple[Shape, int]]:
        yield self.shape, self.rows
        if self.more is not None:
            yield from self.more.items()

    def told(self) -> list[dict[str, Any]]:
        """The `changes` of the payload; not to be changed."""
        if self.more is None:
            return self.shape.told_once if self.rows == 1 else [self.shape.told(self.rows)]
        return [shape.told(rows) for shape, rows in sorted(self.changes(), key=lambda change: change[0].sort_key())]


class Redirect:
    """Where an old MBID led before the transaction and leads after it: row ids, None for nowhere."""

    __slots__ = ("after", "before", "first")

    def __init__(self, first: int, before: int | None) -> None:
        self.first = first
        self.before = before
        self.after: int | None = None


class Relationship:
    """A row of l_*_url before and after: (entity id, URL id, link id), None where there was or is none."""

    __slots__ = ("after", "before", "first")

    def __init__(self, first: int, before: tuple[int, int, int] | None) -> None:
        self.first = first
        self.before = before
        self.after: tuple[int, int, int] | None = None


class Image:
    """An image before and after: its owner's id and MIME type, None where there was or is none.

    `seen` is whether its own row changed, `last` what that row said last. If only its types changed, `after` is filled
    in when owners are looked up, with an empty MIME type.
    """

    __slots__ = ("after", "before", "last", "seen", "touch")

    def __init__(self, first: int, shape: Shape) -> None:
        self.touch = Touch(first, shape)
        self.seen = False
        self.before: tuple[int, str] | None = None
        self.after: tuple[int, str] | None = None
        self.last: tuple[int, str] | None = None


class Told:
    """A row of the outbox before and after: only the columns that may be told."""

    __slots__ = ("after", "before", "first")

    def __init__(self, first: int, before: dict[str, Any] | None) -> None:
        self.first = first
        self.before = before
        self.after: dict[str, Any] | None = None


class Extras:
    """What most transactions have nothing of."""

    __slots__ = ("images", "lost", "outbox", "redirects", "relationships", "renamed", "truncated", "urls")

    def __init__(self) -> None:
        # Owners of parts that were deleted, which the database cannot tell any more.
        self.lost: dict[int, tuple[int | None, ...]] = {}
        # The texts of URLs that were deleted, by id.
        self.urls: dict[int, str] = {}
        # MBIDs that entities had before, if they were changed.
        self.renamed: dict[int, str] = {}
        # By kind and old MBID.
        self.redirects: dict[tuple[int, str], Redirect] = {}
        # By table and id.
        self.relationships: dict[tuple[str, int], Relationship] = {}
        self.images: dict[int, Image] = {}
        # By kind of row and id.
        self.outbox: dict[tuple[str, int], Told] = {}
        # Where first, by table.
        self.truncated: dict[str, int] = {}


# Shared by all that have nothing; only `Transaction.own` gives one to write into.
_NO_EXTRAS: Final = Extras()


class Transaction:
    """Everything that is kept of one."""

    __slots__ = ("entities", "extras", "last_outbox", "last_replicated", "time", "via", "xid")

    def __init__(self, xid: int, time: str) -> None:
        self.xid = xid
        self.time = time
        # The outbox counts by a sequence of its own: the two are never compared. -1: has none.
        self.last_replicated = -1
        self.last_outbox = -1
        self.entities: dict[int, Touch] = {}
        # By kind of part, then by id.
        self.via: dict[int, dict[int, Touch]] | None = None
        self.extras: Extras = _NO_EXTRAS

    def own(self) -> Extras:
        """The extras, to write into."""
        if self.extras is _NO_EXTRAS:
            self.extras = Extras()
        return self.extras

    def parts(self, kind: int) -> dict[int, Touch]:
        """The touched parts of a kind, by id."""
        if self.via is None:
            self.via = {}
        return self.via.setdefault(kind, {})

    def take_parts(self, kind: int) -> dict[int, Touch]:
        """The same, and forget them here."""
        return {} if self.via is None else self.via.pop(kind, {})

    def touch(self, key: int, shape: Shape, seqid: int) -> Touch:
        """One more change of an entity."""
        touch = self.entities.get(key)
        if touch is None:
            touch = self.entities[key] = Touch(seqid, shape)
        else:
            touch.add(shape)
        return touch

    def touch_part(self, kind: int, row_id: int, shape: Shape, seqid: int) -> None:
        """One more change of what hangs off a part."""
        parts = self.parts(kind)
        touch = parts.get(row_id)
        if touch is None:
            parts[row_id] = Touch(seqid, shape)
        else:
            touch.add(shape)

    def absorb(self, key: int, touch: Touch) -> None:
        """An entity is changed by what happened to a part of it."""
        there = self.entities.get(key)
        if there is None:
            self.entities[key] = touch.copy()
        else:
            there.absorb(touch)

    def absorb_part(self, kind: int, row_id: int, touch: Touch) -> None:
        """A part is changed by what happened to a part of it."""
        parts = self.parts(kind)
        there = parts.get(row_id)
        if there is None:
            parts[row_id] = touch.copy()
        else:
            there.absorb(touch)
