import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.replication.status.making import AT, CONTROL, MINUTE, master, mirror, run
from workers.replication.status.core import (
    Incoming,
    Rate,
    Status,
    catch_up,
    next_run,
    rate_of,
    span,
    status_of_standalone,
)

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


# Lag


def test_a_mirror_with_upstreams_newest_packet_does_not_lag_however_old_it_is() -> None:
    told = mirror().mirror
    assert told is not None
    assert (told.lag_packets, told.lag_seconds, told.catch_up_seconds) == (0, 0.0, 0.0)
    assert mirror().packet_seconds == 600


def test_a_mirror_that_lacks_packets_lags_by_the_age_of_its_last() -> None:
    told = mirror(104, runs=(run(3), run(5))).mirror
    assert told is not None
    assert (told.lag_packets, told.lag_seconds) == (4, 600)
    assert told.catch_up_seconds == 240


def test_lag_is_unknown_where_upstream_cannot_be_asked_and_says_why() -> None:
    told = mirror(None).mirror
    assert told is not None
    assert (told.lag_packets, told.lag_seconds, told.catch_up_seconds) == (None, None, None)
    assert told.upstream_problem == "metabrainz.org does not answer"


def test_an_answer_of_upstream_that_is_older_than_the_last_packet_is_no_lag_below_zero() -> None:
    told = mirror(98).mirror
    assert told is not None
    assert told.lag_packets == 0


def test_a_clock_that_is_behind_makes_no_age_below_zero() -> None:
    assert mirror(control=replace(CONTROL, replicated_at=AT + MINUTE)).packet_seconds == 0


def test_a_paused_mirror_neither_catches_up_nor_has_a_next_run() -> None:
    found = mirror(104, runs=(run(3),), paused=True)
    assert found.mirror is not None
    assert found.mirror.catch_up_seconds is None
    assert found.next_run_at is None


# Rate


def test_the_rate_is_that_of_the_time_in_which_packets_were_applied() -> None:
    runs = (run(2, packets=2, changes=1200), run(500, packets=1, changes=600), run(900, "failed", packets=0))
    assert rate_of(runs, AT) == Rate(packets_per_second=3 / 120, changes_per_second=15)


def test_what_runs_counts_as_far_as_it_is_and_what_was_killed_does_not() -> None:
    assert rate_of((run(2, "running", packets=12), run(9, "killed", packets=50)), AT) == Rate(0.1, 0.5)
    assert rate_of((run(9, "killed"), run(12, "failed", packets=0)), AT) is None


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_catching_up_takes_the_longer_the_more_there_is(packets: int, speed: float) -> None:
    now, later = catch_up(packets, Rate(speed, 1)), catch_up(packets + 1, Rate(speed, 1))
    assert now is not None
    assert later is not None
    assert 0 <= now < later
    assert catch_up(packets, None) == (0 if packets == 0 else None)


# Success and failure


def test_a_failure_is_told_until_a_later_pass_found_nothing_to_do() -> None:
    failed = Incoming(runs=(run(5, "failed", error="it broke"), run(50)))
    assert failed.failed == failed.runs[0]
    assert failed.succeeded_at == AT - 49 * MINUTE
    assert replace(failed, up_to_date_at=AT - 30 * MINUTE).failed == failed.runs[0]
    recovered = replace(failed, up_to_date_at=AT)
    assert recovered.failed is None
    assert recovered.succeeded_at == AT


def test_a_pass_that_was_killed_failed_and_one_that_runs_or_was_stopped_did_not() -> None:
    killed = mirror(runs=(run(5, "killed"), run(50))).mirror
    assert killed is not None
    assert (killed.error, killed.mismatch) == ("it was killed", False)
    before = run(50, "failed", error="before")
    assert Incoming(runs=(run(5, "running"), before)).failed == before
    assert Incoming(runs=(run(5, "running"), run(50))).failed is None
    stopped = Incoming(runs=(run(5, "stopped", error="the next run applies it"), before))
    assert (stopped.failed, stopped.succeeded_at) == (None, AT - 4 * MINUTE)
    assert Incoming().succeeded_at is None


# The next run


@given(MOMENTS, st.floats(1, 7 * 86_400), st.floats(-1e5, 1e8))
def test_the_next_run_is_less_than_an_interval_ahead_unless_the_clocks_differ(
    last: datetime, interval: float, later: float
) -> None:
    at = last + timedelta(seconds=later)
    found = next_run(last, interval, at)
    assert found is not None
    assert found > last
    ahead = (found - at).total_seconds()
    assert ahead >= -1e-3
    if later >= 0:
        assert ahead <= interval + 1e-3
        whole = (found - last).total_seconds() / interval
        assert math.isclose(whole, round(whole), abs_tol=1e-3)


def test_there_is_no_next_run_where_nothing_ran_or_nothing_is_scheduled() -> None:
    assert next_run(None, 60, AT) is None
    assert next_run(AT, None, AT) is None


# What is told


@pytest.mark.parametrize(
    ("status", "sides"),
    [(mirror(), {"mirror"}), (master(), {"master"}), (status_of_standalone(AT, CONTROL), set())],
)
def test_json_has_the_side_that_there_is(status: Status, sides: set[str]) -> None:
    told = json.loads(orjson.dumps(status.to_dict()))
    assert {"mirror", "master"} & set(told) == sides
    assert told["mode"] == status.mode
    assert told["schema_sequence"] == 31


def test_on_a_master_there_is_what_waits_for_the_next_packet() -> None:
    told = master(pending=5, oldest_pending_at=AT - MINUTE, on_its_way=101).master
    assert told is not None
    assert (told.pending_changes, told.pending_seconds, told.on_its_way, told.stored) == (5, 60, 101, 7)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h 0 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_a_span_is_told_as_people_say_it(seconds: float, told: str) -> None:
    assert span(seconds) == told
