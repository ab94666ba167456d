"""Writes the two files of a packet from its rows; the same rows make the same bytes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import structlog

from schemas.replication import Manifest
from workers.replication.export import texts
from workers.replication.export.core import CONTROL, Built, Cut, File, Shape
from workers.replication.export.legacy import Legacy
from workers.replication.export.spool import Spooled
from workers.replication.packet import copytext, names
from workers.replication.packet.archive import LINE_BYTES, PacketWriter

log = structlog.get_logger(__name__)

_PIECE = 1 << 20

Progress = Callable[[str], None]


class Rows(Protocol):
    """The rows of a packet, in commit order, as the database has them; the same ones each time."""

    transactions: int

    def shapes(self) -> Mapping[str, Shape]: ...

    def data(self) -> Iterator[list[bytes]]:
        """Lines of pending_data, some at a time."""
        ...

    def times(self) -> Iterator[list[bytes]]:
        """Lines of pending_ts."""
        ...


def build(
    cut: Cut,
    opened: AbstractContextManager[Rows],
    folder: Path,
    *,
    threads: int,
    progress: Progress = lambda _: None,
) -> Built:
    """Writes both files into an empty folder; `progress` is told how far that is."""
    with opened as rows:
        # Open for as long as it takes to read, not to compress: it holds back vacuum.
        shapes = rows.shapes()
        large, tables = _spool(cut, rows, shapes, folder, progress)
        # The UPDATE of replication_control is a transaction of its own.
        content = _Content(cut, rows.transactions + 1, tables)
    with ThreadPoolExecutor(1, "packet") as beside:
        # To compress is most of the work, and leaves the interpreter to who writes version 1 meanwhile.
        second = beside.submit(_write, content, 2, large, folder, threads)
        old = _transcribe(cut, large[names.PENDING_DATA].path, shapes, folder, progress)
        file = second.result()
    for each in large.values():
        each.path.unlink()
    progress(f"Packet {cut.sequence}: version 2 is written; compressing version 1")
    # As they are published: who finds version 1 finds version 2, from which alone a mirror has events.
    files = (file, _write(content, 1, old, folder, threads))
    for each in old.values():
        each.path.unlink()
    return Built(content.transactions, tables, files)


def _spool(
    cut: Cut, rows: Rows, shapes: Mapping[str, Shape], folder: Path, progress: Progress
) -> tuple[dict[str, Spooled], dict[str, dict[str, int]]]:
    """Writes the members of version 2 that can be large; the changes by table and operation."""
    counts: dict[tuple[bytes, bytes], int] = defaultdict(int)
    read = 0
    with _spooled(folder, names.TABLES_V2) as large:
        for lines in chain(rows.data(), [[_control(cut)]]):
            for line in lines:
                seqid, table, op, _ = line.split(b"\t", 3)
                counts[table, op] += 1
                if len(line) > LINE_BYTES:
                    # Others take it, and ours where they are told to.
                    log.error(
                        "row_too_large_for_mirrors",
                        packet=cut.sequence,
                        seqid=int(seqid),
                        table=table.decode(),
                        bytes=len(line),
                        setting="REPLICATION_ROW_MB",
                    )
            large[names.PENDING_DATA].lines(lines)
            read += len(lines)
            progress(f"Packet {cut.sequence}: {read:,} changes read")
        for lines in rows.times():
            large[names.PENDING_TS].lines(lines)
        large[names.PENDING_TS].lines([copytext.encode([b"%d" % cut.control_xid, cut.time.encode()])])
        tables: dict[str, dict[str, int]] = defaultdict(dict)
        for (table, op), count in sorted(counts.items()):
            tables[copytext.unescape(table).decode()][op.decode()] = count
        large[names.PENDING_KEYS].lines(
            copytext.encode([table.encode(), _array(shape.key)])
            for table in tables
            if (shape := shapes.get(table)) is not None and shape.key
        )
    return large, dict(tables)


def _transcribe(
    cut: Cut, path: Path, shapes: Mapping[str, Shape], folder: Path, progress: Progress
) -> dict[str, Spooled]:
    """Writes the members of version 1 that can be large."""
    size = path.stat().st_size
    legacy = Legacy(shapes, last_seqid=cut.control_seqid, last_xid=cut.control_xid)
    with _spooled(folder, names.TABLES_V1) as large, path.open("rb") as file:
        while lines := file.readlines(_PIECE):
            pending, data = legacy.rows(line[:-1].split(b"\t") for line in lines)
            large[names.DBMIRROR_PENDING].lines(pending)
            large[names.DBMIRROR_PENDINGDATA].lines(data)
            # Meanwhile version 2 is compressed.
            progress(f"Packet {cut.sequence}: compressing; {100 * file.tell() // size} % put into version 1's form")
    return large


@contextmanager
def _spooled(folder: Path, members: Iterable[str]) -> Iterator[dict[str, Spooled]]:
    """Files for members, closed in the end."""
    with ExitStack() as files:
        yield {name: files.enter_context(closing(Spooled(folder / name.replace("/", ".")))) for name in members}


def _control(cut: Cut) -> bytes:
    numbers = b"%d" % cut.control_seqid, b"%d" % cut.control_xid
    rows = cut.control_old.encode(), cut.control_new.encode()
    return copytext.encode([numbers[0], CONTROL.encode(), b"u", numbers[1], *rows, None, None])


def _array(names_: Iterable[str]) -> bytes:
    """An array of names as PostgreSQL writes it."""
    quoted = []
    for name in names_:
        plain = name.replace("_", "").isalnum() and name.isascii() and name.upper() != "NULL"
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        quoted.append(name if plain else f'"{escaped}"')
    return ("{" + ",".join(quoted) + "}").encode()


class _Content(NamedTuple):
    """What both versions have."""

    cut: Cut
    transactions: int
    tables: Mapping[str, Mapping[str, int]]

    def small(self, version: int) -> dict[str, bytes]:
        members = {
            names.TIMESTAMP: f"{self.cut.time}\n",
            names.COPYING: texts.COPYING,
            names.README: texts.README,
            names.REPLICATION_SEQUENCE: f"{self.cut.sequence}\n",
            names.SCHEMA_SEQUENCE: f"{self.cut.schema_sequence}\n",
        }
        if version == 2:
            members[names.DBMIRROR_VERSION] = "2\n"
        return {name: text.encode() for name, text in members.items()}

    def manifest(self, sums: Mapping[str, str]) -> bytes:
        manifest = Manifest(
            replication_sequence=self.cut.sequence,
            schema_sequence=self.cut.schema_sequence,
            exported_at=self.cut.exported_at,
            first_position=self.cut.first_position,
            last_position=self.cut.last_position,
            transactions=self.transactions,
            changes=sum(sum(operations.values()) for operations in self.tables.values()),
            tables=cast(Any, self.tables),
            sha256=dict(sums),
        )
        return manifest.model_dump_json(indent=1).encode() + b"\n"


def _write(content: _Content, version: int, large: Mapping[str, Spooled], folder: Path, threads: int) -> File:
    """The packet of one version. A table without rows is left out."""
    members: dict[str, bytes | Path] = {**content.small(version)}
    sums = {name: sha256(data).hexdigest() for name, data in content.small(version).items()}
    for name, spooled in large.items():
        if spooled.size:
            members[name] = spooled.path
            sums[name] = spooled.sha256
    members[names.MANIFEST] = content.manifest(sums)
    name = names.packet_name(content.cut.sequence, version)
    with closing(Spooled(folder / name)) as target:
        with PacketWriter(cast(BinaryIO, target), modified=content.cut.exported_at, threads=threads) as packet:
            for member in sorted(members, key=names.ORDER.index):
                data = members[member]
                if isinstance(data, Path):
                    packet.add_file(member, data)
                else:
                    packet.add(member, data)
        return File(name, target.size, target.sha256)
