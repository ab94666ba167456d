"""The envelope of every event: CloudEvents 1.0, JSON."""

from dataclasses import dataclass
from typing import Any, Self

import orjson

TYPE_PREFIX = "org.musicbrainz."


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before the log gave it a position: what the derivation makes.

    `name` is the type without prefix and version (`entity.updated`). `id` is deterministic: the same change derived
    again, on a replay or after a crash, has the same id.
    """

    id: str
    name: str
    subject: str
    time: str
    xid: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log. `type` is the full name (`org.musicbrainz.entity.updated.v1`), `sequence` its position."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    sequence: int
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The type without prefix and version: what channels are called after."""
        return short_name(self.type)

    def to_dict(self) -> dict[str, Any]:
        """The CloudEvents attributes, in their JSON form; `sequence` is a string, as the extension demands."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": "application/json",
            "sequence": str(self.sequence),
            "data": self.data,
        }

    def to_json(self) -> bytes:
        """CloudEvents structured mode, one JSON object in UTF-8."""
        return orjson.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read `to_dict`'s form. Raises KeyError, TypeError or ValueError for what is not of it."""
        return cls(
            id=raw["id"],
            type=raw["type"],
            source=raw["source"],
            subject=raw["subject"],
            time=raw["time"],
            sequence=int(raw["sequence"]),
            data=raw["data"],
        )


def full_type(name: str, version: int = 1) -> str:
    """`entity.updated` → `org.musicbrainz.entity.updated.v1`."""
    return f"{TYPE_PREFIX}{name}.v{version}"


def short_name(event_type: str) -> str:
    """`org.musicbrainz.entity.updated.v1` → `entity.updated`."""
    return event_type.removeprefix(TYPE_PREFIX).rpartition(".v")[0]
