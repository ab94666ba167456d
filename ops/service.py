"""What every long-running process has: signals that end it, a parent that it does not outlive, health and metrics."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from events.queues.worker import PARENT
from ops import metrics
from ops.metrics import PrometheusTelemetry, UnknownMetricError
from ops.settings import Settings
from ops.urls import parsed_listen
from ops.version import version
from ops.web.health import Check, Health
from ops.web.small import SmallServer

log = structlog.get_logger(__name__)

# How many processes share the address in METRICS_LISTEN; each takes the first free port from there on.
PORTS = "MBEVENTS_METRICS_PORTS"


class Service:
    """One process that runs until `stop` is set; `hurry` is set when it is asked a second time."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self.interrupted = False
        self.registry: CollectorRegistry = metrics.make_registry(version())
        self.telemetry = PrometheusTelemetry(self.registry, on_error=_Teller())

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C; to be asked to end by SIGTERM or SIGHUP is no failure."""
        return 130 if self.interrupted else 0

    @contextmanager
    def served(self, needed: Mapping[str, Check], spared: Mapping[str, Check] | None = None) -> Iterator[None]:
        """Answer /metrics, /healthz and /readyz (by these checks) meanwhile, if METRICS_LISTEN is set."""
        if self.settings.metrics_listen is None:
            yield
            return
        server = SmallServer(
            parsed_listen(self.settings.metrics_listen),
            Health(self.name, version(), needed, spared),
            self.registry,
            ports=int(os.environ.get(PORTS, "1")),
        )
        try:
            yield
        finally:
            server.close()


@contextmanager
def running(name: str, settings: Settings) -> Iterator[Service]:
    """A service whose `stop` is set by SIGTERM, SIGHUP, SIGINT, or the end of the process that started it."""
    service = Service(name, settings)

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        service.interrupted = service.interrupted or number == signal.SIGINT
        if service.stop.is_set():
            service.hurry.set()
        service.stop.set()

    ending = [signal.SIGTERM, signal.SIGINT]
    # Under nohup it is ignored, so that we outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    before = {each: signal.signal(each, ask_to_stop) for each in ending}
    structlog.contextvars.bind_contextvars(process=name)
    try:
        _watch_parent(service.stop)
        yield service
    finally:
        service.stop.set()
        structlog.contextvars.unbind_contextvars("process")
        for each, handler in before.items():
            signal.signal(each, handler)


def _watch_parent(stop: threading.Event) -> None:
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while not stop.wait(1.0):
            if os.getppid() != int(parent):
                log.warning("supervisor_is_gone")
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class _Teller:
    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, error: UnknownMetricError) -> None:
        if str(error) not in self._told:
            self._told.add(str(error))
            log.error("metric_misused", problem=str(error))
