"""States of replication for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from workers.replication.status.core import (
    Answer,
    Control,
    Incoming,
    Outcome,
    Outgoing,
    Run,
    Status,
    status_of_master,
    status_of_mirror,
)

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONTROL = Control(schema_sequence=31, sequence=100, replicated_at=AT - 10 * MINUTE)


def run(
    minutes: float, outcome: Outcome = "applied", *, packets: int = 1, changes: int = 60, error: str | None = None
) -> Run:
    """A run of a minute that began so long ago."""
    began = AT - minutes * MINUTE
    ended = None if outcome in ("running", "killed") else began + MINUTE
    return Run(began, ended, outcome, 100, packets, changes, 0, error)


def mirror(upstream: int | None = 100, control: Control = CONTROL, **known: Any) -> Status:
    answer: Answer[int] = Answer(problem="metabrainz.org does not answer") if upstream is None else Answer(upstream)
    return status_of_mirror(AT, control, Incoming(running=True, **known), answer, next_run_at=AT + MINUTE)


STORED = Answer(7)


def master(*, stored: Answer[int] = STORED, scheduled: bool = True, **known: Any) -> Status:
    return status_of_master(AT, CONTROL, Outgoing(**known), stored, scheduled=scheduled, next_run_at=None)
