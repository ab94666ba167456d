from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.workers.caches.making import FakeTelemetry
from tests.unit.workers.leased.making import FakeLeased
from workers.caches.statistics.core import SURVEYS
from workers.caches.statistics.service import CountFailedError, Statistics, expired


class Database:
    """Counts nothing, and notes what it was asked."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.failing: set[str] = set()
        self.broken = False

    @contextmanager
    def snapshot(self) -> Iterator["Database"]:
        self.log.append("snapshot")
        yield self

    def count(self, survey: str, *, seconds: float) -> Mapping[str, int | None]:
        assert 0 < seconds <= 270
        if self.broken:
            raise ConnectionError("away")
        if survey in self.failing:
            raise CountFailedError("no")
        self.log.append(survey)
        (found,) = [each for each in SURVEYS if each.name == survey]
        return dict.fromkeys(found.statistics, 7)


class Requests:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def ask(self) -> None:
        self.log.append("ask")
        raise ConnectionError("nobody can be asked")

    def begin(self) -> None:
        self.log.append("begin")


class Made:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.leased = FakeLeased()
        self.database = Database(self.log)
        self.telemetry = FakeTelemetry()
        self.statistics = Statistics(
            self.leased, self.database.snapshot, Requests(self.log), ttl=60, margin=10, telemetry=self.telemetry
        )

    def counted(self) -> list[str]:
        return [each for each in self.log if each not in ("begin", "snapshot", "ask")]


def test_everything_is_counted_once_in_one_snapshot_and_then_nothing() -> None:
    made = Made()
    assert made.statistics.refresh() == len(SURVEYS)
    assert made.log[:2] == ["begin", "snapshot"]
    assert sorted(made.counted()) == sorted(survey.name for survey in SURVEYS)
    made.log.clear()
    assert made.statistics.refresh() == 0
    assert made.log == ["begin"]
    found = made.statistics.read()
    assert not expired(found)
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "hit"] == len(found)
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "miss"] == 0


def test_leases_come_before_the_snapshot_so_that_an_event_after_it_voids_the_count() -> None:
    made = Made()
    begin = made.database.snapshot

    @contextmanager
    def overtaken() -> Iterator[Database]:
        with begin() as snapshot:
            made.leased.forget(tags=["counted:artist"])
            yield snapshot

    Statistics(made.leased, overtaken, Requests([]), ttl=60, margin=10).refresh()
    found = {each.name: each for each in made.statistics.read()}
    assert (found["count.artist"].value, found["count.artist"].expired) == (7, True)
    assert (found["count.label"].value, found["count.label"].expired) == (7, False)


def test_what_fails_is_kept_as_that_without_hindering_others() -> None:
    made = Made()
    made.database.failing = {"edits", "artist"}
    assert made.statistics.refresh() == len(SURVEYS) - 2
    assert made.statistics.refresh() == 0
    # Nor does an event have it tried again at once.
    made.leased.forget(tags=["counted:artist"])
    assert made.statistics.refresh() == 0
    assert made.telemetry.counts["mbevents_cache_loads_total", "statistics", "failed"] == 2
    # Whoever reads finds them expired, and asks for nothing that would not be done.
    assert expired(made.statistics.read())
    made.log.clear()
    made.statistics.ask()
    assert made.log == []


def test_of_all_numbers_those_that_expired_are_misses_and_the_others_hits() -> None:
    made = Made()
    made.statistics.refresh()
    made.leased.forget(tags=["counted:artist"])
    found = made.statistics.read()
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "miss"] == 1
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "hit"] == len(found) - 1


def test_a_database_that_goes_away_leaves_no_lease_behind() -> None:
    made = Made()
    made.database.broken = True
    with pytest.raises(ConnectionError):
        made.statistics.refresh()
    made.database.broken = False
    assert made.statistics.refresh() == len(SURVEYS)


def test_a_reader_is_told_what_there_is_although_nobody_can_be_asked() -> None:
    made = Made()
    assert expired(made.statistics.read())
    made.statistics.ask()
    assert made.log == ["ask"]
