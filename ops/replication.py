"""The state of replication in words, for the command and for the page."""

from collections.abc import Iterator
from datetime import UTC, datetime

from workers.replication.status.core import Answer, Master, Mirror, Rate, Status, span

UNKNOWN = "unknown"
RUN_HEADERS = ("BEGAN", "SECONDS", "OUTCOME", "UP TO", "PACKETS", "CHANGES", "DIVERGED", "ERROR")


def facts(status: Status) -> list[tuple[str, str]]:
    """What there is to know, each with its name."""
    return list(_facts(status))


def runs(status: Status) -> list[tuple[str, ...]]:
    """A mirror's last runs, in the order of RUN_HEADERS."""
    if status.mirror is None:
        return []
    return [
        (
            _time(run.started_at),
            "-" if (seconds := run.seconds(status.at)) is None else f"{seconds:,.1f}",
            run.outcome,
            "-" if run.sequence is None else str(run.sequence),
            f"{run.packets:,}",
            f"{run.changes:,}",
            f"{run.diverged:,}",
            run.error or "",
        )
        for run in status.mirror.runs
    ]


def _facts(status: Status) -> Iterator[tuple[str, str]]:
    yield "mode", status.mode
    yield "schema sequence", _number(status.schema_sequence)
    if status.mirror is None and status.master is None:
        yield "replication", "none: this database neither sends packets nor takes them"
        return
    yield "replication sequence", _number(status.replication_sequence)
    yield "last packet made", _ago(status.packet_at, status)
    if status.mirror is not None:
        yield from _of_mirror(status, status.mirror)
    if status.master is not None:
        yield from _of_master(status, status.master)


def _of_mirror(status: Status, mirror: Mirror) -> Iterator[tuple[str, str]]:
    yield "upstream's newest packet", _answer(Answer(mirror.upstream_sequence, mirror.upstream_problem))
    yield "packets behind", _number(mirror.lag_packets)
    yield "time behind", _span(mirror.lag_seconds)
    yield "rate", _rate(mirror.rate)
    yield "time to catch up", _span(mirror.catch_up_seconds)
    yield "running", "yes" if mirror.running else "no"
    yield "paused", "yes" if mirror.paused else "no"
    yield "last success", _ago(mirror.succeeded_at, status)
    yield "next run", _next(status)


def _of_master(status: Status, master: Master) -> Iterator[tuple[str, str]]:
    yield "last packet published", _published(status, master)
    if master.on_its_way is not None:
        yield "packet on its way", _number(master.on_its_way)
    yield "changes in no packet yet", _number(master.pending_changes)
    yield "oldest of them", "-" if master.pending_seconds is None else f"{span(master.pending_seconds)} old"
    yield "packets in the store", _answer(Answer(master.stored, master.store_problem))
    failure = "none" if master.error is None else f"{master.error} ({_ago(master.failed_at, status)})"
    yield "last export's error", failure
    yield "next run", _next(status)


def _published(status: Status, master: Master) -> str:
    if master.published is None:
        return "none yet"
    changes = "" if master.published_changes is None else f", {master.published_changes:,} changes"
    return f"{master.published}{changes}, {_ago(master.published_at, status)}"


def _next(status: Status) -> str:
    if status.next_run_at is None:
        return "nothing is scheduled"
    # Who runs it may have other settings than who asks.
    setting = "REPLICATION_EXPORT_INTERVAL" if status.mirror is None else "REPLICATION_SYNC_INTERVAL"
    when = f"about {_time(status.next_run_at)}, in {span((status.next_run_at - status.at).total_seconds())}"
    return f"{when}, if {setting} is the same there as here"


def _answer(answer: Answer[int]) -> str:
    return _number(answer.value) if answer.problem is None else f"{UNKNOWN}: {answer.problem}"


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return UNKNOWN
    return f"{rate.packets_per_second:,.2f} packets/s, {rate.changes_per_second:,.0f} changes/s"


def _span(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else span(seconds)


def _ago(moment: datetime | None, status: Status) -> str:
    return UNKNOWN if moment is None else f"{_time(moment)}, {span((status.at - moment).total_seconds())} ago"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _number(value: int | None) -> str:
    # Packets' numbers are copied into commands and file names: no thousands separators.
    return UNKNOWN if value is None else str(value)
