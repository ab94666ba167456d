"""What the lower layers know of metrics: names and numbers. `ops.metrics` declares them and refuses unknown names."""

from typing import Protocol


class Telemetry(Protocol):
    """Counts, gauges and durations by declared name; labels are few and of low cardinality."""

    def count(self, name: str, value: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class NoTelemetry:
    """Drops everything: for tools and tests that measure nothing."""

    def count(self, name: str, value: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...
