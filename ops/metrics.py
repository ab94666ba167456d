"""The one registry of metrics: each is declared here, with its labels, before anything counts it.

Base units (seconds), low cardinality: never an MBID, an edit or an editor as a label.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from events.errors import MbeventsError

Kind = Literal["counter", "gauge", "histogram"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a wake-up by pub/sub (a millisecond) to a backlog of an hour.
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
DURATION = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A metric: what it means, and which labels every use of it gives."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name, "counter", help_text, labels)


def _gauge(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name, "gauge", help_text, labels)


def _histogram(name: str, help_text: str, *labels: str, buckets: tuple[float, ...] = DURATION) -> Declaration:
    return Declaration(name, "histogram", help_text, labels, buckets)


# What each process counts of its own work.
DECLARATIONS: tuple[Declaration, ...] = (
    _gauge("mbevents_bridge_connected", "1 while the bridge has its connection to PostgreSQL."),
    _gauge("mbevents_bridge_leader", "1 in the one bridge that ticks, 0 in a standby."),
    _histogram("mbevents_bridge_probe_seconds", "Round trip of the bridge's notification to itself.", buckets=LATENCY),
    _counter("mbevents_ticks_total", "Ticks that the bridge committed."),
    _histogram("mbevents_tick_seconds", "Duration of a tick: from its snapshot to its commit."),
    _counter("mbevents_events_total", "Events appended to the log.", "type"),
    _gauge("mbevents_log_position", "Highest position in the event log."),
    _gauge("mbevents_published_position", "Position up to which events are published and enqueued."),
    _counter("mbevents_truncates_total", "Captured tables that were truncated: told, but without their rows."),
    _counter("mbevents_underived_total", "Row changes that became no event, although they should.", "reason"),
    _counter("mbevents_jobs_total", "Work that ended: done, retried, dead or skipped.", "queue", "actor", "outcome"),
    _histogram("mbevents_job_seconds", "Duration of one run of an actor.", "queue", "actor"),
    _histogram(
        "mbevents_job_wait_seconds", "From being enqueued to the start of a run.", "queue", "actor", buckets=LATENCY
    ),
    _counter(
        "mbevents_cache_reads_total",
        "Reads of a cache (an entity type, search, statistics or http): hit, miss, absent or unavailable.",
        "kind",
        "outcome",
    ),
    _counter(
        "mbevents_cache_loads_total",
        "Loads: stored, refused (an event overtook it), shared, unleased, failed; stale: failed ones, the old stays.",
        "kind",
        "outcome",
    ),
    _counter(
        "mbevents_cache_invalidations_total",
        "Cache entries forgotten, as an event's own entity or a dependant.",
        "entity_type",
        "reason",
    ),
    _counter(
        "mbevents_cache_type_invalidations_total", "Whole entity types forgotten at once.", "entity_type", "reason"
    ),
    _histogram("mbevents_cache_invalidation_seconds", "Duration of what one message asks the caches to forget."),
    _gauge("mbevents_circuit_open", "1 while a server that did not answer is left alone for a moment.", "circuit"),
    _counter("mbevents_circuit_openings_total", "Times that this began: also those between two scrapes.", "circuit"),
    _counter(
        "mbevents_session_operations_total",
        "Sessions begun, signed in, read, looked at, written, ended or listed: done, none (there is no such session), "
        "refused, failed or unavailable.",
        "operation",
        "outcome",
    ),
    _gauge(
        "mbevents_follower_position",
        "Position that a follower of the log has reached; mbevents_head_position less this is how far it is behind.",
        "follower",
    ),
    _counter(
        "mbevents_follower_events_total",
        "Events that it got: told by a message to look, or caught_up (as it began, or no message came).",
        "follower",
        "way",
    ),
    _gauge("mbevents_follower_listening", "1 while it hears what is published, by its canary.", "follower"),
    _counter("mbevents_follower_reconnects_total", "Times that it could listen again after it could not.", "follower"),
    _counter("mbevents_follower_canaries_lost_total", "Canaries that never came: nothing is heard.", "follower"),
    _counter("mbevents_tasks_requeued_total", "Ledgered work enqueued again because its message was lost."),
    _counter("mbevents_workers_reaped_total", "Dead workers found by the reaper."),
    _counter("mbevents_messages_returned_total", "Messages of dead workers returned to their queues."),
    _counter("mbevents_exported_packets_total", "Packets exported from a master."),
    _counter("mbevents_exported_changes_total", "Row changes in them."),
    _counter("mbevents_exported_bytes_total", "Bytes of them, of both versions."),
    _counter("mbevents_export_failures_total", "Exports that failed; the next one goes on where they stopped."),
    _histogram("mbevents_export_seconds", "From the decision what is in a packet to its publication.", buckets=LATENCY),
    _histogram(
        "mbevents_end_to_end_seconds",
        "From the start of an event's transaction to its effect by an actor.",
        "actor",
        buckets=LATENCY,
    ),
    _counter("mbevents_sync_packets_total", "Packets applied to a mirror: sets or one_by_one.", "mode"),
    _counter("mbevents_sync_changes_total", "Row changes of these packets."),
    _histogram("mbevents_sync_apply_seconds", "Duration of applying a packet.", buckets=LATENCY),
    _gauge("mbevents_sync_sequence", "Replication sequence of the mirror."),
    _gauge("mbevents_sync_lag_seconds", "Age of the mirror's last packet, when the feed was last looked at."),
    _counter("mbevents_sync_downloaded_bytes_total", "Bytes of packets that came."),
    _counter("mbevents_sync_retries_total", "Tries of a download that came to nothing."),
    _counter("mbevents_sync_hook_failures_total", "Hooks that failed after a packet."),
    _counter(
        "mbevents_limit_decisions_total",
        "Decisions about rate limits: allowed, refused, unavailable_open or unavailable_closed (Redis is away).",
        "scope",
        "outcome",
    ),
    _counter(
        "mbevents_http_requests_total",
        "Requests to outside hosts, by status class (2xx …) or why there was no status.",
        "host",
        "status",
    ),
    _histogram("mbevents_http_seconds", "Duration of one of them.", "host"),
    _histogram("mbevents_http_wait_seconds", "How long a request waited for its turn.", "host"),
    _counter("mbevents_http_retries_total", "Outside calls that were tried again.", "host"),
    _counter(
        "mbevents_http_outcomes_total",
        "What outside calls came to: answer, cached, stale, or a kind of failure.",
        "host",
        "outcome",
    ),
    _counter(
        "mbevents_http_turns_without_redis_total",
        "Turns that were asked for while the Redis of the limits was away: closed or local.",
        "host",
        "rule",
    ),
    _counter(
        "mbevents_web_requests_total",
        "Requests to the web by route (empty: none, or turned away before) and class of status (2xx …).",
        "route",
        "status",
    ),
    _histogram("mbevents_web_seconds", "From a request to the beginning of its answer.", "route"),
    _counter(
        "mbevents_feed_requests_total",
        "Requests to the feed: by name of the token (empty: none that is valid), what was asked for (empty: "
        "refused before that was looked at), and status.",
        "token",
        "what",
        "status",
    ),
)

# What `mbevents web` asks the servers for when it is scraped: once for the whole system, not once a process.
SYSTEM: tuple[Declaration, ...] = (
    _gauge("mbevents_queue_messages", "Messages of a queue: waiting, in_progress, delayed or dead.", "queue", "state"),
    _gauge("mbevents_queue_age_seconds", "How long the oldest waiting message of a queue waits.", "queue"),
    _gauge("mbevents_dead_letters", "Dead letters that wait for a person."),
    _gauge("mbevents_tasks", "Ledgered work by state: queued, done or dead.", "state"),
    _gauge("mbevents_workers", "Worker processes with a fresh heartbeat."),
    _gauge("mbevents_head_position", "Highest position in the event log, as the database has it."),
    _gauge("mbevents_head_published_position", "Position up to which events are published, as the database has it."),
    _gauge("mbevents_log_age_seconds", "Age of the oldest committed change or event that is not published yet."),
    _gauge("mbevents_replication_sequence", "Replication sequence: the last packet of a mirror or a master."),
    _gauge("mbevents_replication_packet_age_seconds", "Age of that packet, by its own time."),
    _gauge("mbevents_replication_lag_packets", "Packets that a mirror lacks; not there while upstream is not known."),
    _gauge(
        "mbevents_replication_lag_seconds",
        "Of a mirror: 0 with upstream's newest packet, else the age of its own; not there while upstream is not known.",
    ),
    _gauge("mbevents_replication_last_success_timestamp_seconds", "When a sync last ended well, in Unix time."),
    _gauge("mbevents_replication_paused", "1 while the sync of a mirror is paused."),
    _counter("mbevents_replication_runs_total", "Runs of a mirror's sync that ended, by outcome.", "outcome"),
    _counter("mbevents_replication_applied_changes_total", "Row changes that a mirror's sync applied."),
    _gauge("mbevents_replication_pending_changes", "Row changes of a master in no packet yet; a million at most."),
    _gauge("mbevents_replication_pending_age_seconds", "Age of the oldest of them."),
    _gauge(
        "mbevents_server_up", "1 if a server (database, or a role of Redis) answered when this was collected.", "server"
    ),
)


class UnknownMetricError(MbeventsError):
    """A metric was used that is not declared, or not in this way."""


def make_registry(version: str) -> CollectorRegistry:
    """A registry with the build's information; one for a process."""
    # A second series for each counter that says when it began: nobody asks for them.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the package does not annotate it
    registry = CollectorRegistry()
    Gauge("mbevents_build_info", "1; the version is the label.", ["version"], registry=registry).labels(version).set(1)
    # For alerts on a process that restarts again and again.
    Gauge("mbevents_start_time_seconds", "When this process started, in Unix time.", registry=registry).set(time.time())
    return registry


class PrometheusTelemetry:
    """`events.telemetry.Telemetry` into a registry. What is not declared raises: tests then fail.

    With `on_error`, it is told instead, so that a typing error in a metric's name never stops work.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        declarations: Iterable[Declaration] = DECLARATIONS,
        *,
        on_error: Callable[[UnknownMetricError], None] | None = None,
    ) -> None:
        self._declared = {each.name: each for each in declarations}
        self.registry = registry
        # Made when first used: a worker tells nothing of a bridge that it is not.
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._lock = threading.Lock()
        self._on_error = on_error
        self._children: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        metric = self._find(name, "counter", labels)
        if isinstance(metric, Counter):
            metric.inc(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        metric = self._find(name, "gauge", labels)
        if isinstance(metric, Gauge):
            metric.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        metric = self._find(name, "histogram", labels)
        if isinstance(metric, Histogram):
            metric.observe(value)

    def _find(self, name: str, kind: Kind, labels: dict[str, str]) -> Counter | Gauge | Histogram | None:
        key = (kind, name, *labels, *labels.values())
        found = self._children.get(key)
        if found is None:
            try:
                found = self._check(name, kind, labels)
            except UnknownMetricError as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
                return None
            self._children[key] = found
        return found

    def _check(self, name: str, kind: Kind, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        declaration = self._declared.get(name)
        if declaration is None:
            raise UnknownMetricError(f"The metric {name} is not declared. Declare it in ops/metrics.py.")
        if declaration.kind != kind:
            raise UnknownMetricError(f"The metric {name} is a {declaration.kind}, and is used as a {kind}.")
        if set(labels) != set(declaration.labels):
            raise UnknownMetricError(
                f"The metric {name} has the labels {sorted(declaration.labels)}, and is used with {sorted(labels)}."
            )
        with self._lock:
            metric = self._made.get(name)
            if metric is None:
                metric = self._made[name] = _make(declaration, self.registry)
        return metric.labels(**labels) if labels else metric


class Asked(Collector):
    """Metrics of `SYSTEM` that are asked for when somebody scrapes, at most once in `every` seconds.

    `ask` yields name, labels and value; a server that is away is a value, not an error.
    """

    def __init__(self, ask: Callable[[], Iterable[tuple[str, dict[str, str], float]]], *, every: float = 1.0) -> None:
        self._ask = ask
        self._every = every
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._families: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        return [_family(each) for each in SYSTEM]

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._asked_at >= self._every:
                self._families = self._collected()
                self._asked_at = time.monotonic()
            families = list(self._families)
        yield from families

    def _collected(self) -> list[Metric]:
        declared = {each.name: each for each in SYSTEM}
        families = {name: _family(each) for name, each in declared.items()}
        for name, labels, value in self._ask():
            if name not in declared or set(labels) != set(declared[name].labels):
                raise UnknownMetricError(f"The metric {name} with labels {sorted(labels)} is not declared in SYSTEM.")
            families[name].add_metric([labels[label] for label in declared[name].labels], value)
        return [family for family in families.values() if family.samples]


def page(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(registry)


def _make(declaration: Declaration, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name, help_text, labels = declaration.name, declaration.help, declaration.labels
    if declaration.kind == "counter":
        return Counter(name, help_text, labels, registry=registry)
    if declaration.kind == "gauge":
        return Gauge(name, help_text, labels, registry=registry)
    return Histogram(name, help_text, labels, buckets=declaration.buckets, registry=registry)


def _family(declaration: Declaration) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if declaration.kind == "counter" else GaugeMetricFamily
    return kind(declaration.name, declaration.help, labels=list(declaration.labels))


def metrics_page() -> str:
    """The metrics page of the documentation, in Markdown."""
    lines = [
        "# Metrics",
        "",
        "<!-- Written by `make generate` from ops/metrics.py. -->",
        "",
        "Every process with METRICS_LISTEN (bridge, worker) and `mbevents web` serves `/metrics` for Prometheus, with "
        "`mbevents_build_info{version}` and `mbevents_start_time_seconds`.",
        "Base units; no label is ever an MBID, an edit or an editor. A process tells only of what it did.",
    ]
    for title, declarations in (
        ("Of each process", DECLARATIONS),
        ("Of the whole system (`mbevents web`, asked for when it is scraped)", SYSTEM),
    ):
        lines += ["", f"## {title}", "", "| Name | Kind | Labels | What it means |", "|---|---|---|---|"]
        for each in declarations:
            labels = ", ".join(f"`{label}`" for label in each.labels)
            lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join([*lines, ""])
