"""Failures told once for each cause."""

from structlog.testing import capture_logs

from workers.http.core import CallError, Kind
from workers.http.reporting import Reporter


def test_a_cause_is_told_once_in_a_while_and_others_beside_it() -> None:
    now = 0.0
    reporter = Reporter(every=600, clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(3):
            reporter.tell("wikipedia", CallError(Kind.TIMEOUT, "of https://private.example/?token=1"))
            reporter.tell("wikipedia", CallError(Kind.TLS, ""))
            reporter.tell("wikidata", CallError(Kind.TIMEOUT, ""))
        assert [line["cause"] for line in lines] == ["wikipedia: timeout", "wikipedia: tls", "wikidata: timeout"]
        now = 601
        reporter.tell("wikipedia", CallError(Kind.TIMEOUT, ""))
    assert len(lines) == 4
    assert {(line["event"], line["log_level"]) for line in lines} == {("http_call_failed", "error")}
    assert "private" not in str(lines)


def test_what_follows_from_what_was_told_is_not_told_again() -> None:
    with capture_logs() as lines:
        Reporter().tell("wikipedia", CallError(Kind.CIRCUIT_OPEN, ""))
        Reporter().tell("wikipedia", CallError(Kind.LIMITED, ""))
    assert lines == []
