"""Making the digests of a master at a packet, and comparing a mirror with them, or with the master itself."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import structlog
from pydantic import ValidationError

from events.errors import NotFoundError, UsageError, VersionMismatchError
from events.tables import NOT_IN_PACKETS
from schemas.replication import Digest, TableDigest
from workers.replication.packet.names import digest_name
from workers.replication.store import PacketStore
from workers.replication.verify import adapters
from workers.replication.verify.adapters import MovedOnError, NotComparedError, Progress, Snapshot
from workers.replication.verify.core import (
    Difference,
    Range,
    Shape,
    compare_rows,
    differing,
    table_digest,
    together,
    totals,
)

log = structlog.get_logger(__name__)

Connection = psycopg.Connection[Any]
Connect = Callable[[], AbstractContextManager[Connection]]
Item = TypeVar("Item")

# What a digest of the whole of MusicBrainz has, many times.
MOST_BYTES = 64 << 20
# So many rows of a range are read and compared one by one.
ROWS_AT_ONCE = 1_000
# Bits by which a range is made finer: 32 parts.
_FINER = 5


@dataclass(frozen=True)
class Compared:
    """One table. `ranges` differ; `differences` are rows, as far as they were looked for (`more`: there are others)."""

    table: str
    expected: int
    found: int
    ranges: tuple[Range, ...] = ()
    key: str | None = None
    uuid: bool = False
    reason: str | None = None
    differences: tuple[Difference, ...] = ()
    more: bool = False
    repaired: int = 0

    @property
    def same(self) -> bool:
        return not self.ranges and self.reason is None

    @property
    def ok(self) -> bool:
        return self.same or (self.repaired > 0 and self.reason is None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "same": self.same,
            "expected_rows": self.expected,
            "found_rows": self.found,
            "reason": self.reason,
            "key": self.key,
            "ranges": [
                {"from": each.low, "to": each.high, "expected_rows": each.expected, "found_rows": each.found}
                for each in self.ranges
            ],
            "rows": [each.to_dict() for each in self.differences],
            "more_rows": self.more,
            "repaired": self.repaired,
        }


@dataclass(frozen=True)
class Report:
    """A mirror compared with its master after packet `sequence`. `absent` tables are not on the mirror."""

    sequence: int
    schema_sequence: int
    tables: tuple[Compared, ...]
    absent: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return all(each.ok for each in self.tables)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "sequence": self.sequence,
            "schema_sequence": self.schema_sequence,
            "tables": len(self.tables),
            "rows": sum(each.found for each in self.tables),
            "different": [each.to_dict() for each in self.tables if not each.same],
            "absent": list(self.absent),
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class Options:
    """`tables` are patterns of names; `rows`: how many differing rows of a table to list; `wait`: seconds for a mirror
    to come to the packet that the master is at; `connections`: how many to each database."""

    tables: Sequence[str] = ()
    rows: int = 20
    repair: bool = False
    wait: float = 60.0
    connections: int = 2
    progress: Progress | None = field(default=None, compare=False)


def make_digest(
    connection: Connection, n: int, *, others: Sequence[Connection] = (), progress: Progress | None = None
) -> Digest:
    """The master's tables as they were after packet `n`, whatever is written meanwhile.

    The connection is in no transaction; `others` to the same database share the work. Raises MovedOnError when the
    master is at another packet by now.
    """
    with adapters.snapshot([connection, *others]) as master:
        if master.sequence != n:
            raise MovedOnError(f"There is no digest of packet {n}: the {master.name} is at packet {master.sequence}.")
        return _digest(master, list(master.shapes().values()), progress)


def publish_digest(connect: Connect, store: PacketStore, spool: Path, n: int) -> None:
    """Put the digest of packet `n` beside it; two connections share the work. Raises as make_digest, and the store."""
    with connect() as connection, connect() as other:
        digest = make_digest(connection, n, others=[other])
    path = spool / digest_name(n)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest.model_dump_json(), encoding="utf-8")
    store.put(path.name, path)
    path.unlink()


def read_digest(pieces: Iterable[bytes], name: str) -> Digest:
    """A published digest. Raises NotComparedError for what is none."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > MOST_BYTES:
            raise NotComparedError(f"{name} is no digest: it has more than {MOST_BYTES:,} bytes.")
    try:
        return Digest.model_validate_json(bytes(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise NotComparedError(
            f"{name} is no digest that this release can read: {where:.80}: {first['msg']:.200}."
        ) from None


def sequence(database: Connect) -> int:
    """The packet that a database is at."""
    with snapshot_of(database, 1) as here:
        return here.sequence


def compare(mirror: Connect, digest: Digest, options: Options) -> Report:
    """A mirror with a published digest. Raises MovedOnError unless it is at that packet."""
    with ExitStack() as stack:
        here = stack.enter_context(snapshot_of(mirror, options.connections))
        _check_schema(here, digest.schema_sequence)
        if here.sequence != digest.sequence:
            raise MovedOnError(
                f"The mirror ({here.name}) is at packet {here.sequence}, the digest is of packet {digest.sequence}: "
                "they can be compared at the same packet only."
            )
        return _compare(here, digest, options)


def compare_with_master(mirror: Connect, master: Connect, options: Options) -> Report:
    """A mirror with its master's database: differing rows are found, and repaired if that is an option.

    Waits for the mirror to come to the packet that the master is at.
    """
    with ExitStack() as stack:
        there, here = _meet(stack, mirror, master, options)
        shapes = _chosen(there.shapes(), options.tables)
        report = _compare(here, _digest(there, list(shapes.values()), options.progress), options)
        tables = []
        for each in report.tables:
            if each.ranges:
                if options.progress is not None:
                    options.progress(f"Looking for the rows of {each.table} that differ")
                tables.append(_narrowed(each, there, here, mirror, options))
            else:
                tables.append(each)
    return replace(report, tables=tuple(tables))


def _digest(master: Snapshot, shapes: Sequence[Shape], progress: Progress | None) -> Digest:
    shifts = master.shifts(shapes)
    found = master.digests({shape: shifts[shape.full] for shape in shapes}, progress)
    return Digest(
        sequence=master.sequence,
        schema_sequence=master.schema_sequence,
        algorithm="md5-sums-1",
        tables={shape.full: table_digest(shape, shifts[shape.full], found[shape.full]) for shape in shapes},
        left_out=NOT_IN_PACKETS,
    )


def _compare(mirror: Snapshot, digest: Digest, options: Options) -> Report:
    if mirror.pending:
        raise UsageError(
            f"The mirror ({mirror.name}) has rows in dbmirror2.pending_data: a packet is half applied, or it captures "
            "changes of its own. Let the packet be applied to its end; a mirror takes no edits."
        )
    chosen = _chosen(digest.tables, options.tables)
    there = mirror.shapes()
    shapes: dict[Shape, int | None] = {}
    tables: dict[str, Compared] = {}
    for full, table in chosen.items():
        if full not in there:
            continue
        missing = set(table.columns) - set(there[full].names)
        if missing:
            reason = f"the mirror has no column {', '.join(sorted(missing))}"
            tables[full] = Compared(full, table.count, 0, reason=reason)
        else:
            shape = _restricted(there[full], table.columns)
            shapes[shape] = table.shift if _same_key(shape, table) else None
    found = mirror.digests(shapes, options.progress)
    for shape, shift in shapes.items():
        table, buckets = chosen[shape.full], found[shape.full]
        expected = totals(table)
        if shift is None:
            expected, buckets = {0: together(expected)}, {0: together(buckets)}
        tables[shape.full] = Compared(
            shape.full,
            table.count,
            together(buckets).rows,
            tuple(differing(expected, buckets, None if shape.key is None else shift)),
            None if shape.key is None else shape.key.name,
            uuid=shape.key is not None and shape.key.type == "uuid",
        )
    return Report(
        digest.sequence,
        digest.schema_sequence,
        tuple(tables[full] for full in sorted(tables)),
        tuple(sorted(set(chosen) - set(there))),
        digest.left_out,
    )


def _narrowed(table: Compared, master: Snapshot, mirror: Snapshot, connect: Connect, options: Options) -> Compared:
    """The rows that differ, from the master; repaired, if that is an option."""
    theirs, ours = master.shapes()[table.table], mirror.shapes()[table.table]
    ours = _restricted(ours, theirs.names)

    def differences() -> Iterator[Difference]:
        for each in table.ranges:
            yield from _narrow(master, theirs, mirror, ours, each)

    listed = list(itertools.islice(differences(), options.rows + 1))
    table = replace(table, differences=tuple(listed[: options.rows]), more=len(listed) > options.rows)
    if not options.repair or not listed:
        return table
    if not theirs.primary_key:
        return replace(table, reason="it has no primary key, so its rows cannot be repaired")
    with connect() as writing:
        repaired = adapters.repair(writing, mirror.sequence, theirs, differences)
    log.info("table_repaired", table=table.table, rows=repaired, sequence=mirror.sequence)
    with snapshot_of(connect, 1) as now:
        spoiled = now.sequence == mirror.sequence and any(
            True for each in table.ranges for _ in _narrow(master, theirs, now, ours, each)
        )
    reason = "it still differs after the repair: a trigger, or somebody else, changes its rows" if spoiled else None
    return replace(table, repaired=repaired, reason=reason)


def _narrow(master: Snapshot, theirs: Shape, mirror: Snapshot, ours: Shape, within: Range) -> Iterator[Difference]:
    width = within.width
    if width is None or width == 1 or within.rows <= ROWS_AT_ONCE:
        yield from compare_rows(theirs, master.rows(theirs, within), mirror.rows(ours, within))
        return
    shift = max(width.bit_length() - 1 - _FINER, 0)
    expected, found = master.totals(theirs, shift, within), mirror.totals(ours, shift, within)
    for each in differing(expected, found, shift):
        yield from _narrow(master, theirs, mirror, ours, each)


def _check_master(master: Snapshot, mirror: Snapshot) -> None:
    if master.identity == mirror.identity:
        raise UsageError(
            f"What was named as the master is the mirror itself (the {mirror.name}). Name the master's database."
        )
    if not master.captures:
        raise UsageError(
            f"The {master.name}, which was named as the master, captures no changes: it is no master, but a mirror or "
            "a copy. Name the database that packets are exported from."
        )
    _check_schema(mirror, master.schema_sequence)


def _check_schema(mirror: Snapshot, expected: int) -> None:
    if mirror.schema_sequence != expected:
        raise VersionMismatchError(
            f"The mirror ({mirror.name}) has schema {mirror.schema_sequence}, and its master {expected}. "
            "Upgrade the mirror's schema first."
        )


def _meet(stack: ExitStack, mirror: Connect, master: Connect, options: Options) -> tuple[Snapshot, Snapshot]:
    """Snapshots of both at the same packet."""
    deadline = time.monotonic() + options.wait
    while True:
        with ExitStack() as attempt:
            there = attempt.enter_context(snapshot_of(master, options.connections))
            # The master's snapshot stays while the mirror comes up to it: it is the one that runs ahead.
            while True:
                with ExitStack() as look:
                    here = look.enter_context(snapshot_of(mirror, options.connections))
                    _check_master(there, here)
                    if here.sequence == there.sequence:
                        attempt.push(look.pop_all())
                        stack.push(attempt.pop_all())
                        return there, here
                    at = here.sequence
                if time.monotonic() > deadline:
                    raise MovedOnError(
                        f"The mirror is at packet {at}, its master at {there.sequence}: they can be compared "
                        f"at the same packet only, and did not meet within {options.wait:g} s. Run the sync."
                    )
                if at > there.sequence:
                    break
                if options.progress is not None:
                    options.progress(f"Waiting for the mirror, which is at packet {at}, its master at {there.sequence}")
                time.sleep(0.2)


@contextmanager
def snapshot_of(connect: Connect, number: int) -> Iterator[Snapshot]:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect()) for _ in range(number)]
        yield stack.enter_context(adapters.snapshot(connections))


def _chosen(tables: Mapping[str, Item], patterns: Sequence[str]) -> dict[str, Item]:
    """Those of the patterns; a name without a schema is one of musicbrainz. Raises NotFoundError."""
    if not patterns:
        return dict(tables)
    chosen: dict[str, Item] = {}
    for pattern in patterns:
        full = pattern if "." in pattern else f"musicbrainz.{pattern}"
        found = {name: table for name, table in tables.items() if fnmatchcase(name, full)}
        if not found:
            raise NotFoundError(f"There is no replicated table {pattern!r:.80}.")
        chosen |= found
    return chosen


def _restricted(shape: Shape, columns: Sequence[str]) -> Shape:
    return replace(shape, columns=tuple(column for column in shape.columns if column.name in columns))


def _same_key(shape: Shape, table: TableDigest) -> bool:
    return table.key == (None if shape.key is None else shape.key.name)
