from collections.abc import Mapping

import pytest

from tests.unit.workers.caches.making import FakeTelemetry
from tests.unit.workers.leased.making import FakeLeased
from workers.caches.statistics import service
from workers.caches.statistics.core import SURVEYS
from workers.caches.statistics.service import LEASE_SECONDS, SURVEY_SECONDS, CountFailedError, Statistics, expired

NAMES = [survey.name for survey in SURVEYS]


class Killed(BaseException):
    """The process ends here."""


class Database:
    """Counts nothing, and notes what it was asked."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.failing: set[str] = set()
        self.killing: str | None = None
        self.broken = False

    def count(self, survey: str, *, seconds: float) -> Mapping[str, int | None]:
        assert 0 < seconds < LEASE_SECONDS
        if self.broken:
            raise ConnectionError("away")
        if survey == self.killing:
            raise Killed
        if survey in self.failing:
            raise CountFailedError("no")
        self.log.append(survey)
        (found,) = [each for each in SURVEYS if each.name == survey]
        return dict.fromkeys(found.statistics, 7)


class Requests:
    def __init__(self) -> None:
        self.log: list[str] = []

    def ask(self) -> None:
        self.log.append("ask")
        raise ConnectionError("nobody can be asked")

    def hold(self, seconds: float) -> None:
        assert seconds > SURVEY_SECONDS
        self.log.append("hold")

    def end(self) -> None:
        self.log.append("end")


class Made:
    def __init__(self) -> None:
        self.counted: list[str] = []
        self.leased = FakeLeased()
        self.database = Database(self.counted)
        self.requests = Requests()
        self.telemetry = FakeTelemetry()
        self.statistics = Statistics(
            self.leased, self.database, self.requests, ttl=60, margin=10, telemetry=self.telemetry
        )


def test_everything_is_counted_once_and_then_nothing() -> None:
    made = Made()
    assert made.statistics.refresh() == len(SURVEYS)
    assert made.counted == NAMES
    assert made.statistics.refresh() == 0
    assert made.counted == NAMES
    found = made.statistics.read()
    assert not expired(found)
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "hit"] == len(found)
    assert made.telemetry.counts["mbevents_cache_reads_total", "statistics", "miss"] == 0


def test_another_refresh_is_not_asked_for_while_one_is_made() -> None:
    made = Made()
    made.statistics.refresh()
    assert made.requests.log == [*["hold"] * len(SURVEYS), "end"]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_counted_before_a_kill_is_kept_and_the_next_one_goes_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made()
    made.database.killing = name
    # The dead give nothing back.
    monkeypatch.setattr(made.leased, "give_back", lambda *_: None)
    with pytest.raises(Killed):
        made.statistics.refresh()
    made.database.killing = None
    assert made.statistics.refresh() == len(SURVEYS) - NAMES.index(name) - 1
    assert made.counted == [each for each in NAMES if each != name]
    made.leased.forget([name])
    assert made.statistics.refresh() == 1


def test_what_somebody_else_counted_meanwhile_is_not_counted_again() -> None:
    made, other = Made(), Made()
    other.leased = made.leased
    begun = made.database.count

    def count(survey: str, *, seconds: float) -> Mapping[str, int | None]:
        if survey == NAMES[3]:
            Statistics(made.leased, other.database, Requests(), ttl=60, margin=10).refresh()
        return begun(survey, seconds=seconds)

    made.database.count = count  # type: ignore[method-assign]
    assert made.statistics.refresh() == 4
    assert other.counted == NAMES[4:]


def test_a_process_that_ends_begins_no_other_count() -> None:
    made = Made()
    assert made.statistics.refresh(lambda: len(made.counted) < 3) == 3
    assert made.requests.log[-1] == "end"


def test_no_count_is_begun_when_a_refresh_has_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    monkeypatch.setattr(service, "REFRESH_SECONDS", -1)
    assert made.statistics.refresh() == 0


def test_an_event_that_comes_while_it_is_counted_voids_the_count() -> None:
    made = Made()
    begun = made.database.count

    def overtaken(survey: str, *, seconds: float) -> Mapping[str, int | None]:
        made.leased.forget(tags=["counted:artist"])
        return begun(survey, seconds=seconds)

    made.database.count = overtaken  # type: ignore[method-assign]
    made.statistics.refresh()
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
    made.requests.log.clear()
    made.statistics.ask()
    assert made.requests.log == []


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
    assert made.requests.log == ["ask"]
