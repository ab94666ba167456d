"""Digests of tables: how they add up, where two of them differ, and which rows do. Pure.

A digest is a sum over rows, so it needs no order, parts of a table can be read in parallel, and what a change does to
it is known from the change alone: minus the old row, plus the new one. So the master's tables as they were after packet
N are its tables as one snapshot shows them, plus all old rows and minus all new rows of the changes that the snapshot
shows as pending: what lies between cancels out, whatever the order.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from schemas.replication import TableDigest

_64 = (1 << 64) - 1
_NUMBER = re.compile(r"-?[0-9]{1,19}")
# Ranges of a table's key: enough to find what differs, few enough for a file.
MOST_BUCKETS = 128

Row = tuple[str | None, ...]


class Total(NamedTuple):
    """A number of rows, and two sums of halves of their hashes."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def plus(self, other: "Total", times: int = 1) -> "Total":
        return Total(
            self.rows + times * other.rows, (self.high + times * other.high) & _64, (self.low + times * other.low) & _64
        )

    @property
    def digest(self) -> str:
        return f"{self.high:016x}{self.low:016x}"


NOTHING = Total()
Buckets = Mapping[int, Total]


def added(parts: Iterable[tuple[int, Buckets]]) -> dict[int, Total]:
    """The sum of what was found, each so many times (-1: it is taken away), without buckets that have nothing left."""
    found: dict[int, Total] = {}
    for times, buckets in parts:
        for number, total in buckets.items():
            found[number] = found.get(number, NOTHING).plus(total, times)
    return {number: total for number, total in sorted(found.items()) if total != NOTHING}


def together(buckets: Buckets) -> Total:
    """All of a table."""
    return added((1, {0: total}) for total in buckets.values()).get(0, NOTHING)


class Column(NamedTuple):
    """A column; `foreign` types are not PostgreSQL's own: their numbers differ between databases."""

    name: str
    type: str
    foreign: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A table to read: its columns by name, and its size in pages."""

    full: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    pages: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def key(self) -> Column | None:
        """The column by which ranges are made."""
        first = next((each for each in self.columns if self.primary_key[:1] == (each.name,)), None)
        return first if first is not None and first.type in (*INTEGERS, "uuid") else None


INTEGERS = ("smallint", "integer", "bigint")
# Of a uuid, what is taken as a number.
UUID_BITS = 32


def shift_for(least: int, greatest: int, most: int = MOST_BUCKETS) -> int:
    """By how many bits to shift keys so that there are at most so many buckets."""
    shift = 0
    while (greatest >> shift) - (least >> shift) >= most:
        shift += 1
    return shift


class Pages(NamedTuple):
    """A part of a table by its pages; `last` is excluded, and None means all that follow."""

    first: int
    last: int | None


def parts(pages: int, most: int) -> list[Pages]:
    """Cuts a table; the last part is open, as the table may have grown after it was measured."""
    starts = range(0, max(pages, 1), most)
    return [Pages(start, start + most if start != starts[-1] else None) for start in starts]


@dataclass(frozen=True, slots=True)
class Range:
    """Keys from `low` to before `high`, and how many rows either side has there; without bounds, a whole table."""

    low: int | None
    high: int | None
    expected: int
    found: int

    @property
    def rows(self) -> int:
        return max(self.expected, self.found)

    @property
    def width(self) -> int | None:
        return None if self.low is None or self.high is None else self.high - self.low


def differing(expected: Buckets, found: Buckets, shift: int | None) -> list[Range]:
    """The ranges where two digests of a table differ; `shift` is None where there is but one, the table."""
    return [
        Range(
            None if shift is None else number << shift,
            None if shift is None else number + 1 << shift,
            expected.get(number, NOTHING).rows,
            found.get(number, NOTHING).rows,
        )
        for number in sorted({*expected, *found})
        if expected.get(number, NOTHING) != found.get(number, NOTHING)
    ]


def table_digest(shape: Shape, shift: int, buckets: Buckets) -> TableDigest:
    total = together(buckets)
    return TableDigest(
        columns=shape.names,
        count=total.rows,
        digest=total.digest,
        key=None if shape.key is None else shape.key.name,
        shift=shift,
        buckets={number: (each.rows, each.digest) for number, each in buckets.items()},
    )


def totals(table: TableDigest) -> dict[int, Total]:
    """A digest's buckets as they can be compared."""
    return {
        number: Total(count, int(digest[:16], 16), int(digest[16:], 16))
        for number, (count, digest) in table.buckets.items()
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs, by its primary key: `missing` from the mirror, too much there (`extra`), or `changed`.

    `expected` and `found` are the whole rows; `columns` those that differ.
    """

    table: str
    kind: Literal["missing", "extra", "changed"]
    key: Mapping[str, str | None]
    columns: tuple[str, ...]
    expected: Mapping[str, str | None] | None
    found: Mapping[str, str | None] | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "kind": self.kind,
            "key": dict(self.key),
            "columns": {
                name: {
                    "expected": None if self.expected is None else self.expected[name],
                    "found": None if self.found is None else self.found[name],
                }
                for name in self.columns
            },
        }


def compare_rows(shape: Shape, expected: "Counter[Row]", found: "Counter[Row]") -> Iterator[Difference]:
    """What differs between two sets of rows (columns as in `shape`); without a primary key, a row is its own."""
    names = shape.names
    places = [names.index(name) for name in shape.primary_key] or list(range(len(names)))

    def by_key(rows: "Counter[Row]") -> dict[Row, list[Row]]:
        keyed: dict[Row, list[Row]] = {}
        for row in rows.elements():
            keyed.setdefault(tuple(row[place] for place in places), []).append(row)
        return keyed

    ours, theirs = by_key(expected - found), by_key(found - expected)
    for key in sorted({*ours, *theirs}, key=_in_order):
        # One each, but for tables without a key.
        for place in range(max(len(ours.get(key, ())), len(theirs.get(key, ())))):
            yield _difference(shape, key, ours.get(key, []), theirs.get(key, []), place)


def _difference(shape: Shape, key: Row, ours: Sequence[Row], theirs: Sequence[Row], place: int) -> Difference:
    names = shape.names
    expected = dict(zip(names, ours[place], strict=True)) if place < len(ours) else None
    found = dict(zip(names, theirs[place], strict=True)) if place < len(theirs) else None
    told = dict(zip(shape.primary_key or names, key, strict=True))
    if expected is None or found is None:
        return Difference(shape.full, "extra" if expected is None else "missing", told, (), expected, found)
    columns = tuple(name for name in names if expected[name] != found[name])
    return Difference(shape.full, "changed", told, columns, expected, found)


def _in_order(key: Row) -> list[tuple[int, str]]:
    """Numbers by their value."""
    return [(int(part) if part is not None and _NUMBER.fullmatch(part) else 0, part or "") for part in key]
