"""What the tests of the export share: a master, its exporter with a store in a folder, and packets that are read."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg

from events.errors import MbeventsError
from events.telemetry import NoTelemetry
from producers.bridge.service import Bridge, BridgeOptions
from tests.integration.producers.bridge.conftest import RecordingPublisher
from workers.replication.export.adapters import opened
from workers.replication.export.core import Published
from workers.replication.export.service import Exporter, Signer
from workers.replication.packet import copytext, names
from workers.replication.store.files import FileStore

OPTIONS = BridgeOptions(source="mb://master", replication_type="RT_MASTER")
RENAME = "UPDATE artist SET name = name || '!' WHERE id = %s"


class RememberingStore(FileStore):
    """A packet store in a folder that remembers in which order files came; while it `refuses` one, that cannot come."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.names: list[str] = []
        self.refuses: str | None = None

    def put(self, name: str, path: Path) -> None:
        if name == self.refuses:
            raise MbeventsError("The store is full.")
        super().put(name, path)
        self.names.append(name)

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("[!.]*"))}


@dataclass
class Row:
    """A line of pending_data."""

    seqid: int
    table: str
    op: str
    xid: int
    old: dict[str, Any] | None
    new: dict[str, Any] | None


@dataclass
class Master:
    """A database that packets are exported from."""

    url: str
    folder: Path
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    signer: Signer | None = None

    def __post_init__(self) -> None:
        self.store = RememberingStore(self.folder / "store")
        self.bridge = Bridge(self.url, self.publisher, options=OPTIONS, telemetry=NoTelemetry())

    def exporter(self) -> Exporter:
        return Exporter(partial(opened, self.url), self.store, self.folder / "spool", signer=self.signer)

    def export(self) -> list[Published]:
        """Tick, and export."""
        self.bridge.drain()
        return self.exporter().export()

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            yield connection

    def value(self, query: str, *parameters: Any) -> Any:
        with self.connect() as connection:
            row = connection.execute(query.encode(), parameters or None).fetchone()
            assert row is not None
            return row[0]

    def artists(self, count: int) -> list[int]:
        ids: list[int] = self.value(
            "SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM artist WHERE id > 2 LIMIT 20) a"
        )
        return ids[:count]

    def rename(self, artist: int) -> None:
        with self.connect() as connection:
            connection.execute(RENAME, (artist,))

    def left(self) -> tuple[int, int, int]:
        """How many rows the export has left in pending_data, pending_ts and tick_snapshot."""
        return (
            self.value("SELECT count(*) FROM dbmirror2.pending_data"),
            self.value("SELECT count(*) FROM dbmirror2.pending_ts"),
            self.value("SELECT count(*) FROM mbevents.tick_snapshot"),
        )

    def members(self, sequence: int, version: int = 2) -> dict[str, bytes]:
        """A packet's members in their order, as Python's tarfile reads a stream."""
        with tarfile.open(self.store.folder / names.packet_name(sequence, version), "r|bz2") as archive:
            return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]

    def rows(self, sequence: int) -> list[Row]:
        """What is in pending_data, in the order of the lines."""
        return read_rows(self.members(sequence)[names.PENDING_DATA])


def read_rows(data: bytes) -> list[Row]:
    rows = []
    for line in data.splitlines():
        seqid, table, op, xid, old, new, ctid, depth = copytext.decode(line)
        assert ctid is None
        assert depth is None
        assert seqid is not None
        assert table is not None
        assert op is not None
        assert xid is not None
        rows.append(Row(int(seqid), table.decode(), op.decode(), int(xid), _json(old), _json(new)))
    return rows


def _json(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else orjson.loads(data)
