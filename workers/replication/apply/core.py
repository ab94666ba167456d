"""What a packet's changes come to: decoded rows, their net effect by primary key, and in which order it is made. Pure.

    changes → Net (by table and key: what was there before, what is there after) → Work (COPY text for each table)

A change is applied where it says, by its old key. Changes of one row come in the order of their sequence numbers:
whoever changes a row waits for the one before to commit, so it is the order of commits for whatever two of them share.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
import orjson

from events.derivation.entity_map import EntityMap

Operation = Literal["i", "u", "d"]
# The values of a row's columns in the table's order; with them COPY text is written.
Values = tuple[Any, ...]
Row = dict[str, Any]

# How null is written: `%` formats None so, and a column whose text is the same is written with a backslash.
NULL: Final = "None"

_NO_PLAIN_VALUE: Final = "has an object or list where a plain value belongs"


class Change(NamedTuple):
    """One line of a packet. `old` and `new` are JSON objects of the whole row; one of them is None for d and i."""

    seqid: int
    xid: int
    table: str
    op: Operation
    old: bytes | None
    new: bytes | None


class RowError(ValueError):
    """A row is not what its table can hold; the text says why, and is completed with table and change."""


class ContradictionError(Exception):
    """The changes cannot have happened in the order in which they come."""


@dataclass(frozen=True, slots=True)
class Column:
    """`kind`: how JSON becomes text. A `plain` one is exact through Python's numbers and strings."""

    name: str
    kind: Literal["plain", "exact", "json", "array", "json array"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the mirror. `name` is `schema.table` as `quote_ident` writes it, which is SQL by itself; `rows` is how
    many it had when it was analysed last, about, and negative if it never was."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rows: float = -1


class Codec:
    """Rows of one table, from JSON to values, and from values to the text of COPY.

    `texts`: the JSON has PostgreSQL's own texts, and of an old row the key alone, as in packets of version 1.
    """

    def __init__(self, table: Table, key: tuple[str, ...], *, texts: bool = False) -> None:
        self.table = table
        self.key = key
        self._texts = texts
        names = [column.name for column in table.columns]
        self._columns = len(names)
        self._names = frozenset(names)
        self._plain = all(column.kind == "plain" for column in table.columns)
        self._pick = _getter(names)
        self._pick_key = _getter(key)
        first = names[0] if names else ""
        # As capture writes it: the key is an integer and comes first.
        self._key_first = re.compile(rb'\{"%b": ?(-?[0-9]+),' % re.escape(first.encode())) if key == (first,) else None
        self._template = "\t".join(["%s"] * len(names))
        self._full = "\t".join(["%s"] * (len(names) + len(key)))

    def row(self, data: bytes) -> Row:
        """A row as JSON gives it, by column; exact. Raises RowError for anything but one value for each column."""
        if self._texts:
            row = orjson.loads(data)
            if row.keys() != self._names:
                raise RowError(self._difference(row))
            return row  # type: ignore[no-any-return]
        if not self._plain:
            return self._exact(data)
        try:
            row = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise RowError(f"is no JSON ({error})") from None
        # Every key is followed by a colon, and inside of a string the quotes before one are escaped, but found as
        # well: as many as there are columns means that no column is there twice.
        if type(row) is not dict or len(row) != self._columns or data.count(b'":') + data.count(b'" :') != len(row):
            self._check(data)
        # Mostly they are in a text.
        if (data.find(b"{", 1) > 0 or b"[" in data) and any(type(value) in (dict, list) for value in row.values()):
            raise RowError(_NO_PLAIN_VALUE)
        return row  # type: ignore[no-any-return]

    def old_row(self, data: bytes) -> Row:
        """As `row`, but for what was there before. Raises RowError."""
        return orjson.loads(data) if self._texts else self.row(data)

    def old_key(self, data: bytes) -> Values:
        """The key of what was there before, whatever else it was. Raises RowError."""
        if self._key_first is not None and not self._texts and data.count(b'":') == self._columns:
            match = self._key_first.match(data)
            if match is not None:
                return (int(match[1]),)
        return self.key_of(self.old_row(data))

    def told(self, row: Row | None, data: bytes | None) -> Row | None:
        """The row as events are derived from it: with numbers as numbers."""
        return row if self._plain or data is None else orjson.loads(data)

    def values(self, row: Row) -> Values:
        """In the order of the table's columns. Raises RowError."""
        try:
            return self._pick(row)
        except KeyError:
            raise RowError(self._difference(row)) from None

    def key_of(self, row: Row) -> Values:
        """The primary key's values. Raises RowError."""
        try:
            return self._pick_key(row)
        except KeyError:
            raise RowError(self._difference(row)) from None

    def line(self, values: Values) -> str:
        """One line of COPY text, without its newline."""
        text = self._template % values
        if "\\" in text or "\n" in text or "\r" in text or text.count("\t") != self._columns - 1 or NULL in values:
            return "\t".join(map(_escaped, values))
        return text

    def keyed_line(self, values: Values, key: Values) -> str:
        """The same with a key behind it: a row's new columns, and where it is now."""
        return f"{self.line(values)}\t{self.key_line(key)}"

    @staticmethod
    def key_line(key: Values) -> str:
        return "\t".join(map(_escaped, key))

    def _exact(self, data: bytes) -> Row:
        self._check(data)
        try:
            raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except msgspec.DecodeError as error:
            raise RowError(f"is no JSON ({error})") from None
        return {column.name: _text(bytes(raw[column.name]), column.kind) for column in self.table.columns}

    def _check(self, data: bytes) -> None:
        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            row = dict(found)
            if len(row) != len(found):
                names = [name for name, _ in found]
                twice = next(name for name in names if names.count(name) > 1)
                raise RowError(f"has {twice!r:.80} twice")
            return row

        try:
            row = json.loads(data, object_pairs_hook=pairs)
        except RowError:
            raise
        except (ValueError, RecursionError) as error:
            raise RowError(f"is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise RowError("is no JSON object")
        if row.keys() != self._names:
            raise RowError(self._difference(row))

    def _difference(self, row: Mapping[str, Any]) -> str:
        unknown = sorted(row.keys() - self._names)
        missing = sorted(self._names - row.keys())
        if unknown:
            return f"has a column {unknown[0]!r:.80} that the mirror's table has not"
        return f"lacks the column {missing[0]!r:.80}"


def _getter(names: Iterable[str]) -> Callable[[Row], Values]:
    listed = list(names)
    if len(listed) == 1:
        name = listed[0]
        return lambda row: (row[name],)
    return itemgetter(*listed)


def _escaped(value: Any) -> str:
    """A value as COPY text."""
    if value is None:
        return NULL
    text = str(value)
    if text == NULL:
        return f"{text[0]}\\{text[1:]}"
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _text(raw: bytes, kind: str) -> str | None:
    """A JSON value as the text that PostgreSQL reads, digits untouched."""
    if raw == b"null":
        return None
    if kind == "json":
        return raw.decode()
    first = raw[:1]
    if first == b'"':
        text: str = orjson.loads(raw)
        return text
    if first == b"[" and kind in ("array", "json array"):
        return _array(raw, of_json=kind == "json array")
    if first in b"{[":
        raise RowError(_NO_PLAIN_VALUE)
    return raw.decode()


def _array(raw: bytes, *, of_json: bool) -> str:
    items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    texts = []
    for item in map(bytes, items):
        if item[:1] == b"[" and not of_json:
            texts.append(_array(item, of_json=False))
            continue
        text = _text(item, "json" if of_json else "plain")
        if text is None:
            texts.append("NULL")
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            texts.append(f'"{escaped}"')
    return "{" + ",".join(texts) + "}"


class _Born:
    """A row that is in the database nowhere yet."""


_BORN: Final = _Born()


@dataclass(slots=True)
class Work:
    """What is to be made of one table's changes. The texts are COPY text: `updates` have the new columns and then the
    old key, `deletes` the old key; `passing` are keys of rows that came and went, and which nobody may have."""

    table: str
    inserts: list[str] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    passing: list[str] = field(default_factory=list)


class Net:
    """The net effect of one table's changes."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # By current key: the key in the database (or _BORN), and the values.
        self._live: dict[Values, tuple[Values | _Born, Values]] = {}
        self._gone: set[Values] = set()
        self._passed: set[Values] = set()

    def take(self, old_key: Values | None, new: Row | None) -> None:
        """A change: where the row was, and what it is now. Raises RowError, ContradictionError."""
        if new is None:
            assert old_key is not None
            self.delete(old_key)
        elif old_key is None:
            self.insert(self._codec.key_of(new), self._codec.values(new))
        else:
            self.update(old_key, self._codec.key_of(new), self._codec.values(new))

    def insert(self, key: Values, values: Values) -> None:
        if key in self._live:
            raise ContradictionError
        if key in self._gone:
            # Deleted and made again: what is there is replaced.
            self._gone.remove(key)
            self._live[key] = key, values
        else:
            self._live[key] = _BORN, values

    def update(self, old_key: Values, key: Values, values: Values) -> None:
        entry = self._live.pop(old_key, None)
        if entry is None and old_key in self._gone:
            raise ContradictionError
        if key != old_key and key in self._live:
            raise ContradictionError
        self._live[key] = old_key if entry is None else entry[0], values

    def delete(self, key: Values) -> None:
        entry = self._live.pop(key, None)
        if entry is None:
            if key in self._gone:
                raise ContradictionError
            self._gone.add(key)
        elif isinstance(entry[0], _Born):
            self._passed.add(key)
        else:
            self._gone.add(entry[0])

    def work(self) -> Work:
        codec = self._codec
        work = Work(codec.table.name, deletes=[codec.key_line(key) for key in self._gone])
        work.passing = [codec.key_line(key) for key in self._passed - self._live.keys()]
        for origin, values in self._live.values():
            if isinstance(origin, _Born):
                work.inserts.append(codec.line(values))
            else:
                work.updates.append(codec.keyed_line(values, origin))
        return work


def ranks(entity_map: EntityMap) -> dict[str, int]:
    """Owners before their parts: the order of inserts and updates. Deletes go the other way.

    A mirror's own triggers look at the rows that a row belongs to.
    """
    found: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in found:
            table = entity_map.tables[name]
            found[name] = 0 if not table.owners else 1 + max(map(rank, table.owners.values()))
        return found[name]

    for name in entity_map.tables:
        rank(name)
    # A release's group is there before the release.
    return {name: 2 * value + (name == "musicbrainz.release") for name, value in found.items()}
