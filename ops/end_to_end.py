"""Measures the whole way: from the start of an event's transaction to its effect."""

# ruff: noqa: ARG002 (the hook's signature is Dramatiq's)

from datetime import UTC, datetime
from typing import Any

import dramatiq

from events.telemetry import Telemetry


class EndToEnd(dramatiq.Middleware):  # type: ignore[misc]
    """Observes the oldest event of each message whose work succeeded."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            return
        since = oldest(message.kwargs.get("events"))
        if since is not None:
            seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
            self._telemetry.observe("mbevents_end_to_end_seconds", seconds, actor=message.actor_name)


def oldest(events: object) -> datetime | None:
    """The earliest time of CloudEvents given as dictionaries; None when they tell none."""
    # They are in order of their transactions' ends, and of RFC 3339 times in UTC the lesser text is the earlier time.
    times = (
        [each["time"] for each in events if isinstance(each, dict) and "time" in each]
        if isinstance(events, list)
        else []
    )
    try:
        found = datetime.fromisoformat(min(times))
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else None
