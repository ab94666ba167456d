"""What a packet to be exported is: what was decided when it was cut, what is known when it is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

CONTROL = "musicbrainz.replication_control"


class File(NamedTuple):
    """A file of the store that belongs to a packet."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A packet of which it is decided what is in it; see events/packets/schema.sql. `time` is `exported_at` as
    PostgreSQL writes it. `files` is empty until the packet is built."""

    sequence: int
    schema_sequence: int
    exported_at: datetime
    time: str
    until: int
    running: tuple[int, ...]
    tick: int
    first_position: int
    last_position: int
    control_seqid: int
    control_xid: int
    control_old: str
    control_new: str
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """What is in a packet, and the files of it. `tables` has the changes by table and operation."""

    transactions: int
    tables: Mapping[str, Mapping[str, int]]
    files: tuple[File, ...]

    @property
    def changes(self) -> int:
        return sum(sum(operations.values()) for operations in self.tables.values())


ColumnKind = Literal["json", "array", "json array"]


class Shape(NamedTuple):
    """A table as the database's catalogue has it: its primary key in order, and the columns that JSON tells otherwise
    than COPY does."""

    key: tuple[str, ...] = ()
    special: Mapping[str, ColumnKind] = {}


class Outlook(NamedTuple):
    """What an export would find: the number of the packet that would come, how much would be in it (with its own
    change), and whether it is
    on its way already. `sequence` is None where replication has not begun."""

    sequence: int | None
    transactions: int
    changes: int
    begun: bool


@dataclass(frozen=True, slots=True)
class Published:
    """A packet that is out."""

    sequence: int
    schema_sequence: int
    exported_at: datetime
    transactions: int
    changes: int
    files: tuple[File, ...]

    def to_event(self) -> dict[str, Any]:
        """The data of packet.published."""
        return {
            "number": self.sequence,
            "schema_sequence": self.schema_sequence,
            "transactions": self.transactions,
            "changes": self.changes,
            "size_bytes": sum(file.size for file in self.files),
            "exported_at": self.exported_at.isoformat().replace("+00:00", "Z"),
            "files": [{"name": file.name, "size_bytes": file.size, "sha256": file.sha256} for file in self.files],
        }
