"""Events as the actor receives them, made by hand, and stand-ins for what is behind the service."""

import itertools
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from events.telemetry import Telemetry
from schemas.envelope import Event, full_type
from tests.unit.workers.leased.making import FakeLeased
from workers.caches.core import Found, Reach, TheirEntity
from workers.caches.service import EntityCache, Reached
from workers.leased.service import Leased, ReadThrough, Times

_numbers = itertools.count(1)


def mbid() -> str:
    return str(uuid.uuid4())


def event(name: str, subject: str, data: dict[str, Any]) -> dict[str, Any]:
    number = next(_numbers)
    return Event(
        id=f"{number:032x}",
        type=full_type(name),
        source="test:musicbrainz",
        subject=subject,
        time="2026-01-01T00:00:00Z",
        sequence=number,
        data=data,
    ).to_dict()


def change(table: str, *columns: str, op: str = "update") -> dict[str, Any]:
    return {"table": f"musicbrainz.{table}", "op": op, "columns": list(columns), "rows": 1}


def changed(
    entity_type: str, row_id: int, gid: str, *changes: dict[str, Any], name: str = "entity.updated", **more: Any
) -> dict[str, Any]:
    data: dict[str, Any] = {"entity_type": entity_type, "id": row_id, "mbid": gid, "changes": list(changes), **more}
    return event(name, f"{entity_type}/{gid}", data)


def merged(entity_type: str, old: tuple[int | None, str], new: tuple[int, str]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "entity_type": entity_type,
        "id": old[0],
        "mbid": old[1],
        "into_id": new[0],
        "into_mbid": new[1],
        "changes": [],
    }
    return event("entity.merged", f"{entity_type}/{old[1]}", data)


def truncated(table: str, *entity_types: str) -> dict[str, Any]:
    return event("table.truncated", f"table/{table}", {"table": table, "entity_types": list(entity_types)})


def linked(name: str, entity_type: str, row_id: int, gid: str) -> dict[str, Any]:
    data = {
        "entity_type": entity_type,
        "id": row_id,
        "mbid": gid,
        "table": f"musicbrainz.l_{entity_type}_url",
        "relationship_id": 1,
        "link_id": 2,
        "url_id": 3,
        "url_mbid": mbid(),
        "url": "https://www.wikidata.org/wiki/Q1",
    }
    return event(name, f"{entity_type}/{gid}", data)


def entity_cache(leased: Leased | None = None, telemetry: Telemetry | None = None, **times: float) -> EntityCache:
    return EntityCache(ReadThrough(leased or FakeLeased(), "entity", Times(**times), telemetry=telemetry))


class FakeDependants:
    """Answers with what it was given, and notes what it was asked."""

    def __init__(self, log: list[Any], *found: Found, overflowed: Collection[str] = ()) -> None:
        self._log = log
        self._reached = Reached(found, overflowed)

    def find(self, reach: Mapping[Reach, Collection[int]], *, limit: int) -> Reached:
        self._log.append(("find", {way: sorted(ids) for way, ids in reach.items()}, limit))
        return self._reached


class FakeMusicBrainz:
    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def invalidate(self, entities: Collection[TheirEntity]) -> None:
        self._log.append(("musicbrainz", list(entities)))


class FakeAnnouncements:
    def __init__(self, log: list[Any]) -> None:
        self._log = log
        self.events: list[bytes] = []

    def publish(self, events: Sequence[bytes]) -> None:
        self._log.append(("publish", len(events)))
        self.events += events


class FakeTelemetry:
    """Sums of counters by name and labels."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], float] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        series = (name, *(labels[label] for label in sorted(labels)))
        self.counts[series] = self.counts.get(series, 0) + value

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...
