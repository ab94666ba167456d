import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx
import pytest
from fastapi import FastAPI

from events.errors import UnreachableError
from events.telemetry import NoTelemetry
from ops.web.feed import make_router, verdict
from workers.replication.packet.names import digest_name, packet_name, signature_name
from workers.replication.store import PacketStore, Stored
from workers.replication.tokens import Doorkeeper

NOW = datetime(2026, 5, 11, 21, 14, tzinfo=UTC)


def stored(*names: str, hours: float = 0.5) -> list[Stored]:
    return [Stored(name, 1, NOW - timedelta(hours=hours), "x") for name in names]


def both(*numbers: int) -> list[str]:
    return [packet_name(n, version) for n in numbers for version in (1, 2)]


def test_a_feed_without_gaps_whose_newest_packet_is_young_is_ok() -> None:
    assert verdict(stored(*both(9, 10, 11)), NOW) == "OK"


def test_nothing_is_known_of_an_empty_store() -> None:
    for files in ([], stored(digest_name(3)), stored(signature_name(packet_name(3, 1)))):
        assert verdict(files, NOW) == "UNKNOWN no replication packets available"


def test_the_first_missing_packet_is_named() -> None:
    assert verdict(stored(*both(9, 12, 15), hours=9), NOW) == "CRITICAL Replication packet 10 is missing"


@pytest.mark.parametrize("version", [1, 2])
def test_a_packet_that_is_missing_in_one_version_stops_its_readers(version: int) -> None:
    names = [*both(9, 11), packet_name(10, version)]
    assert verdict(stored(*names), NOW) == "CRITICAL Replication packet 10 is missing"


def test_a_version_that_began_later_or_of_which_the_newest_is_just_coming_is_no_gap() -> None:
    assert verdict(stored(packet_name(8, 1), *both(9, 10), packet_name(11, 2)), NOW) == "OK"


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (2.0, "OK"),
        (2.01, "WARNING Latest replication packet is 2.0 hours old"),
        (6.0, "WARNING Latest replication packet is 6.0 hours old"),
        (6.06, "CRITICAL Latest replication packet is 6.1 hours old"),
        (1234.5, "CRITICAL Latest replication packet is 1234.5 hours old"),
        (-3.0, "OK"),
    ],
)
def test_age_is_that_of_the_newest_packet(hours: float, told: str) -> None:
    assert verdict([*stored(*both(9), hours=99), *stored(*both(10), hours=hours)], NOW) == told


def test_a_store_that_is_away_is_not_asked_by_everybody() -> None:
    asked = 0

    class Away:
        def list(self) -> list[Stored]:
            nonlocal asked
            asked += 1
            raise UnreachableError("The store is away.")

    app = FastAPI()
    app.include_router(make_router(cast(PacketStore, Away()), Doorkeeper(dict), NoTelemetry()))

    async def answers() -> set[tuple[int, str]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://feed") as client:
            checks = [await client.get("/api/musicbrainz/replication-check") for _ in range(20)]
            return {(check.status_code, check.text.split()[0]) for check in checks}

    assert asyncio.run(answers()) == {(200, "UNKNOWN")}
    assert asked < 5
