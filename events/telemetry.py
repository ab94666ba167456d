"""What the lower layers know of metrics: names and numbers. `ops.metrics` declares them and refuses unknown names."""

from typing import Protocol


class Telemetry(Protocol):
    """Counts, gauges and durations by declared name; labels are few and of low cardinality."""

    def count(self, name: str, value: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class Labelled:
    """The same with labels that it has always."""

    def __init__(self, telemetry: Telemetry, **labels: str) -> None:
        self._telemetry = telemetry
        self._labels = labels

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        self._telemetry.count(name, value, **self._labels, **labels)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self._telemetry.gauge(name, value, **self._labels, **labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._telemetry.observe(name, value, **self._labels, **labels)


class NoTelemetry:
    """Drops everything: for tools and tests that measure nothing."""

    def count(self, name: str, value: float = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...
