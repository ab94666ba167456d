from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest

from ops.end_to_end import EndToEnd, oldest


class Seen:
    def __init__(self) -> None:
        self.values: list[tuple[str, float, dict[str, str]]] = []

    def count(self, name: str, value: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.values.append((name, value, labels))


def message(events: object) -> Any:
    return dramatiq.MessageProxy(
        dramatiq.Message("caches", "caches.invalidate", (), {"version": 1, "events": events}, {})
    )


def test_the_oldest_event_of_a_message_is_measured() -> None:
    seen = Seen()
    old, new = (datetime.now(UTC) - timedelta(seconds=each) for each in (60, 1))
    EndToEnd(seen).after_process_message(None, message([{"time": new.isoformat()}, {"time": old.isoformat()}]))
    ((name, seconds, labels),) = seen.values
    assert (name, labels) == ("mbevents_end_to_end_seconds", {"actor": "caches.invalidate"})
    assert 60 <= seconds < 65


def test_work_that_failed_reached_no_effect() -> None:
    seen = Seen()
    EndToEnd(seen).after_process_message(
        None, message([{"time": datetime.now(UTC).isoformat()}]), exception=RuntimeError()
    )
    assert seen.values == []


@pytest.mark.parametrize("events", [None, [], ["x"], [{}], [{"time": "soon"}], [{"time": 3}], [{"time": "2026-05-01"}]])
def test_messages_that_tell_no_time_are_not_measured(events: object) -> None:
    assert oldest(events) is None
