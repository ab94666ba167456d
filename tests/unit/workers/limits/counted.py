"""Telemetry that remembers decisions."""


class Counted:
    """How often, by scope and outcome."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], float] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        assert name == "mbevents_limit_decisions_total"
        key = labels["scope"], labels["outcome"]
        self.counts[key] = self.counts.get(key, 0) + value

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...
