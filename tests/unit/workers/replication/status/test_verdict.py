import math
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.replication.status.making import AT, CONTROL, MINUTE, master, mirror, run
from workers.replication.status.core import Answer, Control, Status, status_of_standalone
from workers.replication.status.verdict import CODES, Verdict, verdict

LINE = re.compile(r"(OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+(\|[^|\n]+)?")


@pytest.mark.parametrize(
    ("status", "limits", "line"),
    [
        (mirror(), {}, "OK - packet 100 is 10 min old, 0 behind|age=600s;7200;21600;0 packets=0;;;0"),
        (mirror(), {"warning": 599}, "WARNING - packet 100 is 10 min old, 0 behind|age=600s;599;21600;0 packets=0;;;0"),
        (mirror(), {"warning": 600}, "OK - packet 100 is 10 min old, 0 behind|age=600s;600;21600;0 packets=0;;;0"),
        (
            mirror(),
            {"warning": 5, "critical": 60.5},
            "CRITICAL - packet 100 is 10 min old, 0 behind|age=600s;5;60.5;0 packets=0;;;0",
        ),
        (mirror(), {"warning": 86_400}, "OK - packet 100 is 10 min old, 0 behind|age=600s;86400;86400;0 packets=0;;;0"),
        (mirror(), {"critical": 60}, "CRITICAL - packet 100 is 10 min old, 0 behind|age=600s;60;60;0 packets=0;;;0"),
        (
            mirror(104),
            {"by_packets": True},
            "WARNING - packet 100 is 10 min old, 4 behind|age=600s;;;0 packets=4;2;6;0",
        ),
        (
            mirror(None),
            {"by_packets": True},
            "UNKNOWN - packet 100 is 10 min old; metabrainz.org does not answer|age=600s;;;0",
        ),
        (mirror(None), {}, "OK - packet 100 is 10 min old|age=600s;7200;21600;0"),
        (
            mirror(runs=(run(5, "failed", error="no route\nto | host"),)),
            {},
            "WARNING - packet 100 is 10 min old, 0 behind; the last run failed: no route to / host"
            "|age=600s;7200;21600;0 packets=0;;;0",
        ),
        (
            mirror(runs=(run(5, "version_mismatch", error="upgrade"),)),
            {},
            "CRITICAL - packet 100 is 10 min old, 0 behind; the last run failed: upgrade"
            "|age=600s;7200;21600;0 packets=0;;;0",
        ),
        (
            mirror(None, paused=True),
            {"by_packets": True},
            "WARNING - packet 100 is 10 min old; metabrainz.org does not answer; it is paused|age=600s;;;0",
        ),
        (
            mirror(control=Control(31)),
            {},
            "UNKNOWN - replication has not begun; no packet was ever applied",
        ),
        (master(), {}, "OK - no packet was published yet|age=0s;7200;21600;0"),
        (
            master(published=9, oldest_pending_at=AT - 180 * MINUTE, error="disk full"),
            {},
            "WARNING - packet 9 is published; the oldest change that is in none is 3 h 0 min old; "
            "the last export failed: disk full|age=10800s;7200;21600;0",
        ),
        (
            master(stored=Answer(problem="there is no bucket")),
            {},
            "CRITICAL - no packet was published yet; the packet store cannot be used: there is no bucket"
            "|age=0s;7200;21600;0",
        ),
        (
            master(published=9, scheduled=False),
            {},
            "WARNING - packet 9 is published; no scheduler runs, so nothing is exported by itself|age=0s;7200;21600;0",
        ),
        (master(), {"by_packets": True}, "UNKNOWN - a master lacks no packets: --packets is for mirrors"),
        (
            status_of_standalone(AT, CONTROL),
            {},
            "UNKNOWN - nothing is replicated: REPLICATION_TYPE is RT_STANDALONE",
        ),
    ],
)
def test_a_verdict_is_one_line_that_monitoring_reads(status: Status, limits: dict[str, Any], line: str) -> None:
    found = verdict(status, **limits)
    assert found.line == line
    assert found.code == CODES[found.level]


@pytest.mark.parametrize(
    "limits", [{"warning": 2, "critical": 1}, {"warning": -1}, {"critical": math.inf}, {"warning": math.nan}]
)
def test_limits_that_cannot_be_are_unknown(limits: dict[str, Any]) -> None:
    assert verdict(mirror(), **limits).level == "UNKNOWN"


@given(st.floats(0, 1e9), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_it_never_gets_better_with_age(age: float, more: float, warning: float, further: float) -> None:
    def level(seconds: float) -> int:
        found = mirror(control=replace(CONTROL, replicated_at=AT - timedelta(seconds=seconds)))
        return verdict(found, warning=warning, critical=warning + further).code

    assert level(age) <= level(age + more)


@given(st.sampled_from(sorted(CODES)), st.text())
def test_whatever_an_error_says_it_is_one_line_with_at_most_one_bar(level: Any, text: str) -> None:
    assert LINE.fullmatch(Verdict(level, f"x{text}", "age=1s").line)
