"""What replication's state comes to: lag, rate, time to catch up, next run. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from workers.replication.sync.core import Outcome as Ended

T = TypeVar("T")

Mode = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]


class Answer(NamedTuple, Generic[T]):
    """What another server says; if it is not to be had, why."""

    value: T | None = None
    problem: str | None = None


# A run without an end goes on as long as somebody syncs.
Outcome = Ended | Literal["running", "killed"]
_WELL = ("applied", "stopped")


@dataclass(frozen=True, slots=True)
class Run:
    """A pass of the sync that applied something or failed. `sequence`: the last packet that was applied then.
    `diverged`: rows that were not as a packet said. `error` is for people."""

    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome
    sequence: int | None
    packets: int
    changes: int
    diverged: int
    error: str | None = None

    def seconds(self, at: datetime) -> float | None:
        """How long it took, so far if it runs; None of one that was killed: nobody knows when."""
        end = at if self.outcome == "running" else self.ended_at
        return None if end is None else max(0.0, (end - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Control:
    """The row of musicbrainz.replication_control."""

    schema_sequence: int | None = None
    sequence: int | None = None
    replicated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A mirror's side, as its database has it. Runs come with the newest first.

    `running`: somebody syncs, or waits for the next packet. `up_to_date_at`: when it last had all there was.
    `outcomes` and `changes_total` are of all times.
    """

    running: bool = False
    paused: bool = False
    up_to_date_at: datetime | None = None
    runs: tuple[Run, ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)
    changes_total: int = 0

    @property
    def succeeded_at(self) -> datetime | None:
        """When a pass last ended well; of those that found nothing only the last is known."""
        ends = [run.ended_at for run in self.runs if run.outcome in _WELL and run.ended_at is not None]
        return max([*ends, *([self.up_to_date_at] if self.up_to_date_at else [])], default=None)

    @property
    def failed(self) -> Run | None:
        """The last pass, if it failed."""
        last = next((run for run in self.runs if run.outcome != "running"), None)
        if last is None or last.outcome in _WELL:
            return None
        if self.up_to_date_at is not None and self.up_to_date_at >= (last.ended_at or last.started_at):
            return None
        return last

    @property
    def warning(self) -> str | None:
        """What the last pass tells although it went well: hooks that failed."""
        last = next((run for run in self.runs if run.outcome != "running"), None)
        return last.error if last is not None and last.outcome == "applied" else None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A master's side, as its database has it. `pending` is counted up to a bound."""

    published: int | None = None
    published_at: datetime | None = None
    published_changes: int | None = None
    on_its_way: int | None = None
    pending: int = 0
    oldest_pending_at: datetime | None = None
    error: str | None = None
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Of the time in which packets were applied, not of that in which there were none."""

    packets_per_second: float
    changes_per_second: float


@dataclass(frozen=True, slots=True)
class Mirror:
    """How a mirror fares. What is not known is None; why upstream's newest packet is not, `upstream_problem` says.

    `error`: why the last pass failed, if it did; with `mismatch` because schema or format are not those of the packets.
    `warning`: what the last pass tells although it went well.
    `lag_seconds` is 0 with upstream's newest packet, and otherwise the age of the last one that was applied.
    """

    upstream_sequence: int | None
    upstream_problem: str | None
    lag_packets: int | None
    lag_seconds: float | None
    rate: Rate | None
    catch_up_seconds: float | None
    running: bool
    paused: bool
    error: str | None
    mismatch: bool
    warning: str | None
    succeeded_at: datetime | None
    changes_total: int
    outcomes: Mapping[str, int]
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Master:
    """How a master fares. `stored` counts the packets in the store, whatever the versions. `scheduled`: exports come
    with the clock."""

    published: int | None
    published_at: datetime | None
    published_changes: int | None
    on_its_way: int | None
    pending_changes: int
    pending_seconds: float | None
    stored: int | None
    store_problem: str | None
    error: str | None
    failed_at: datetime | None
    scheduled: bool


@dataclass(frozen=True, slots=True)
class Status:
    """All of it, at one moment. `packet_seconds` is the age of the last packet, by its own time."""

    mode: Mode
    at: datetime
    schema_sequence: int | None
    replication_sequence: int | None
    packet_at: datetime | None
    packet_seconds: float | None
    next_run_at: datetime | None
    mirror: Mirror | None = None
    master: Master | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON tells it: what is of another mode is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _SIDES}


_SIDES = ("mirror", "master")


def status_of_mirror(
    at: datetime, control: Control, incoming: Incoming, upstream: Answer[int], *, next_run_at: datetime | None
) -> Status:
    age = _seconds_since(control.replicated_at, at)
    packets = None
    if upstream.value is not None and control.sequence is not None:
        # Upstream's answer may be older than what was applied since.
        packets = max(0, upstream.value - control.sequence)
    rate, failed = rate_of(incoming.runs, at), incoming.failed
    mirror = Mirror(
        upstream_sequence=upstream.value,
        upstream_problem=upstream.problem,
        lag_packets=packets,
        lag_seconds=None if packets is None else 0.0 if packets == 0 else age,
        rate=rate,
        catch_up_seconds=None if incoming.paused else catch_up(packets, rate),
        running=incoming.running,
        paused=incoming.paused,
        error=None if failed is None else failed.error or "it was killed",
        mismatch=failed is not None and failed.outcome == "version_mismatch",
        warning=incoming.warning,
        succeeded_at=incoming.succeeded_at,
        changes_total=incoming.changes_total,
        outcomes=incoming.outcomes,
        runs=incoming.runs,
    )
    return Status(
        "RT_MIRROR",
        at,
        control.schema_sequence,
        control.sequence,
        control.replicated_at,
        age,
        None if incoming.paused else next_run_at,
        mirror=mirror,
    )


def status_of_master(
    at: datetime,
    control: Control,
    outgoing: Outgoing,
    stored: Answer[int],
    *,
    scheduled: bool,
    next_run_at: datetime | None,
) -> Status:
    master = Master(
        published=outgoing.published,
        published_at=outgoing.published_at,
        published_changes=outgoing.published_changes,
        on_its_way=outgoing.on_its_way,
        pending_changes=outgoing.pending,
        pending_seconds=_seconds_since(outgoing.oldest_pending_at, at),
        stored=stored.value,
        store_problem=stored.problem,
        error=outgoing.error,
        failed_at=outgoing.failed_at,
        scheduled=scheduled,
    )
    age = _seconds_since(control.replicated_at, at)
    return Status(
        "RT_MASTER",
        at,
        control.schema_sequence,
        control.sequence,
        control.replicated_at,
        age,
        next_run_at,
        master=master,
    )


def status_of_standalone(at: datetime, control: Control) -> Status:
    return Status("RT_STANDALONE", at, control.schema_sequence, None, None, None, None)


def rate_of(runs: Iterable[Run], at: datetime) -> Rate | None:
    """Over the runs that applied something; None if none did."""
    useful = [(run, seconds) for run in runs if run.packets > 0 and (seconds := run.seconds(at))]
    if not useful:
        return None
    whole = sum(seconds for _, seconds in useful)
    return Rate(sum(run.packets for run, _ in useful) / whole, sum(run.changes for run, _ in useful) / whole)


def catch_up(packets: int | None, rate: Rate | None) -> float | None:
    """Seconds until so many packets are applied; None where that cannot be said."""
    if packets == 0:
        return 0.0
    if packets is None or rate is None:
        return None
    return packets / rate.packets_per_second


def next_run(last: datetime | None, interval: float | None, at: datetime) -> datetime | None:
    """The first whole interval after the last run that is still to come; None without either."""
    if last is None or interval is None:
        return None
    intervals = max(1, math.floor((at - last).total_seconds() / interval) + 1)
    return last + timedelta(seconds=intervals * interval)


def span(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def _seconds_since(moment: datetime | None, at: datetime) -> float | None:
    # The clocks of two machines may differ.
    return None if moment is None else max(0.0, (at - moment).total_seconds())
