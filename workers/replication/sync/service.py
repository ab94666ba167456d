"""Keeping a mirror up to date: pass after pass, packet after packet, one transaction each."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psycopg
import structlog

from events.errors import UnreachableError, UsageError, VersionMismatchError
from events.telemetry import Telemetry
from workers.replication.apply.options import Applied, ApplyOptions
from workers.replication.apply.service import WrongSequenceError, apply_packet
from workers.replication.apply.source import PacketSource
from workers.replication.packet.errors import PacketError
from workers.replication.sync import core
from workers.replication.sync.adapters import Connection, Mirror, ended_in_time
from workers.replication.sync.core import Filters, Outcome, Pass, span
from workers.replication.sync.fetch import Feed, Fetched, SpoolError, StoppedError
from workers.replication.sync.hooks import Patience, find_hooks, run_hooks
from workers.replication.sync.pipeline import Downloads
from workers.replication.sync.signatures import SignatureError, check_key, check_signature
from workers.replication.sync.spool import Spool

log = structlog.get_logger(__name__)

# A session that was killed holds its lock until the server has noticed.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """`interval`: seconds between two looks at the feed; `grace`: what a packet has to finish once we are to end;
    `describe` makes an error fit to be kept."""

    apply: ApplyOptions
    filters: Filters
    interval: float
    open_source: Callable[[Path], PacketSource]
    describe: Callable[[BaseException], str]
    key: Path | None = None
    hooks: Path | None = None
    hook_seconds: float = 300.0
    grace: float = 30.0


class HeldError(Exception):
    """Somebody else brings this mirror up to date."""


class Syncer:
    """Applies what the feed has. `stop` ends it after the packet in hand, `hurry` in the middle of it."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        make_feed: Callable[[Callable[[str], None]], Feed],
        spool: Spool,
        options: SyncOptions,
        *,
        stop: threading.Event,
        hurry: threading.Event,
        say: Callable[[str], None],
        telemetry: Telemetry,
    ) -> None:
        self._connect = connect
        self._make_feed = make_feed
        self._spool = spool
        self._options = options
        self._stop = stop
        self._hurry = hurry
        self._say = say
        self._telemetry = telemetry
        # Who follows is told once of what is in the way, whoever waits for the end each time.
        self._say_retry = say
        # What was said last of it.
        self._told = ""

    def once(self, limit: int | None = None) -> Pass:
        """Apply all that there is, or so many packets. Raises HeldError, UsageError, and what went wrong."""
        self._check_options()
        with self._connect() as connection, closing(self._spool):
            mirror = Mirror(connection)
            mirror.prepare()
            self._claim(mirror, time.monotonic() + _PATIENCE)
            self._spool.open()
            if mirror.paused():
                raise UsageError("Replication is paused: `mbevents replication resume` ends that. Nothing was done.")
            self._tell_filters(mirror)
            return self._run(mirror, limit)

    def follow(self, limit: int | None = None) -> Pass:
        """The same, again and again until `stop`, or so many packets; servers that are away are waited for."""
        self._check_options()
        self._say_retry = lambda _: None
        whole = Pass()
        with closing(self._spool):
            while self._goes_on(whole, limit):
                try:
                    with self._connect() as connection:
                        mirror = Mirror(connection)
                        mirror.prepare()
                        self._stand_by(mirror)
                        self._spool.open()
                        self._follow(mirror, whole, limit)
                except StoppedError:
                    break
                except (UnreachableError, SpoolError, psycopg.OperationalError) as error:
                    why = self._options.describe(error)
                    if why == self._told:
                        log.debug("sync_interrupted", why=why)
                    else:
                        log.warning("sync_interrupted", why=why)
                        self._say(f"{why.rstrip('.')}. Trying again every {span(self._options.interval)}.")
                    self._told = why
                    self._stop.wait(self._options.interval)
        return whole

    def _check_options(self) -> None:
        """Before anything is applied. Raises UsageError."""
        options = self._options
        if options.key is not None:
            check_key(options.key)
        if options.hooks is not None and (idle := find_hooks(options.hooks).idle):
            names = ", ".join(path.name for path in idle)
            self._say(f"These files in {options.hooks} are no hooks, for they are not executable: {names}.")

    def _goes_on(self, whole: Pass, limit: int | None) -> bool:
        return not self._stop.is_set() and (limit is None or whole.packets < limit)

    def _follow(self, mirror: Mirror, whole: Pass, limit: int | None) -> None:
        self._tell_filters(mirror)
        paused = False
        while self._goes_on(whole, limit):
            if mirror.paused():
                if not paused:
                    self._say("Paused: `mbevents replication resume` lets it go on.")
                paused = True
            else:
                if paused:
                    self._say("Going on.")
                paused = False
                done = self._run(mirror, None if limit is None else limit - whole.packets)
                whole.add(done)
                if done.packets:
                    # Another one may have come meanwhile.
                    continue
            if self._goes_on(whole, limit):
                self._stop.wait(self._options.interval)

    def _claim(self, mirror: Mirror, deadline: float) -> None:
        while not mirror.claim():
            if time.monotonic() > deadline or self._stop.wait(0.1):
                raise HeldError

    def _stand_by(self, mirror: Mirror) -> None:
        told = False
        while True:
            try:
                return self._claim(mirror, time.monotonic() + _PATIENCE)
            except HeldError:
                if self._stop.is_set():
                    raise StoppedError from None
                if not told:
                    self._say("Another process brings this mirror up to date; standing by.")
                told = True

    def _tell_filters(self, mirror: Mirror) -> None:
        unknown = self._options.filters.unknown(mirror.tables())
        if unknown:
            self._say(f"The filters name what this mirror does not have: {', '.join(unknown)}.")

    def _run(self, mirror: Mirror, limit: int | None) -> Pass:
        """One pass, recorded if there is something to tell."""
        done = Pass()
        recorded = _Recorded(mirror)
        began = time.monotonic()
        try:
            self._pass(mirror, recorded, done, limit)
        except StoppedError as error:
            recorded.end("stopped", str(error) or done.news)
        except BaseException as error:
            outcome: Outcome = "version_mismatch" if isinstance(error, VersionMismatchError) else "failed"
            recorded.failed(done, outcome, self._options.describe(error))
            raise
        else:
            recorded.end("applied", done.news)
        done.seconds = time.monotonic() - began
        lag = self._measure_lag(mirror)
        done.lag_seconds = 0.0 if done.up_to_date else lag
        if done.up_to_date:
            mirror.up_to_date()
        return done

    def _pass(self, mirror: Mirror, recorded: "_Recorded", done: Pass, limit: int | None) -> None:
        failed: set[int] = set()
        while True:
            sequence = mirror.sequence()
            if not failed:
                done.first = sequence
            done.last = sequence
            self._spool.tidy(sequence)
            left = None if limit is None else limit - done.packets
            with closing(
                Downloads(self._make_feed(self._say_retry), sequence + 1, stop=self._stop, most=left)
            ) as downloads:
                try:
                    return self._apply_all(mirror, recorded, done, downloads)
                except PacketError as error:
                    # What is wrong with it may have come about on its way.
                    number = done.last + 1
                    if number in failed:
                        raise
                    failed.add(number)
                    self._say(f"{error}. Nothing of it was applied; it is downloaded once more.")

    def _apply_all(self, mirror: Mirror, recorded: "_Recorded", done: Pass, downloads: Downloads) -> None:
        while (fetched := downloads.next()) is not None:
            self._tell_back()
            if self._stop.is_set() or mirror.paused():
                return
            recorded.begin(done)
            began = time.monotonic()
            try:
                applied = self._apply(mirror, fetched)
            except (PacketError, SignatureError, WrongSequenceError):
                # It is not what the next run goes on with.
                self._spool.drop_packet(fetched.number)
                raise
            seconds = time.monotonic() - began
            self._spool.drop_packet(fetched.number)
            _add(done, applied)
            recorded.note(done)
            self._tell(mirror, applied, seconds)
            problems = self._hook(fetched.number)
            self._add_details(done, applied, seconds, problems)
            if self._stop.is_set():
                raise StoppedError
        self._tell_back()
        done.up_to_date = downloads.up_to_date

    def _tell_back(self) -> None:
        if self._told:
            log.info("sync_goes_on")
            self._say("What was in the way is over; going on.")
        self._told = ""

    def _apply(self, mirror: Mirror, fetched: Fetched) -> Applied:
        options = self._options
        if options.key is not None:
            check_signature(fetched.path, fetched.signature, options.key)
        apply = options.apply
        if fetched.number in core.BROKEN and apply.on_divergence == "fail":
            self._say(f"Packet {fetched.number} is known to be broken: rows that differ are passed over.")
            apply = replace(apply, on_divergence="warn")
        source = options.open_source(fetched.path)
        if source.texts and apply.events is not None:
            self._say(f"Packet {fetched.number} is of version 1, without old rows: no events come of its changes.")
        with ended_in_time(mirror.connection, stop=self._stop, hurry=self._hurry, grace=options.grace) as cancelled:
            try:
                return apply_packet(mirror.connection, source, apply)
            except WrongSequenceError as error:
                if source.number == fetched.number:
                    raise
                raise WrongSequenceError(
                    f"{fetched.path.name} holds packet {source.number}, though the feed has it as {fetched.number}. "
                    "Nothing of it was applied. Tell who runs the feed, or take the packet from another (--base-url)."
                ) from error
            except psycopg.errors.QueryCanceled:
                if not cancelled.is_set():
                    raise
                told = f"Packet {fetched.number} was rolled back, as we are to end; the next run applies it."
                self._say(told)
                raise StoppedError(told) from None

    def _tell(self, mirror: Mirror, applied: Applied, seconds: float) -> None:
        lag = self._measure_lag(mirror)
        self._telemetry.count("mbevents_sync_packets_total", mode=applied.mode.replace(" ", "_"))
        self._telemetry.count("mbevents_sync_changes_total", applied.changes)
        self._telemetry.observe("mbevents_sync_apply_seconds", seconds)
        behind = "" if lag is None else f"; the mirror is {span(lag)} behind"
        self._telemetry.gauge("mbevents_sync_sequence", applied.number)
        how = f", one by one ({applied.why})" if applied.mode == "one by one" else ""
        self._say(f"Packet {applied.number}: {applied.changes:,} changes in {seconds:.1f} s{how}{behind}.")
        ignored, absent = self._options.filters.parted(applied.skipped)
        if ignored:
            self._say(f"  Skipped, as the filters say: {_counted(ignored)}.")
        if absent:
            self._say(f"  Skipped, as this mirror does not have these tables: {_counted(absent)}.")
        if applied.diverged:
            rows = "1 row" if applied.diverged == 1 else f"{applied.diverged:,} rows"
            among = "" if applied.diverged == len(applied.divergences) else ", among them"
            self._say(f"  {rows} differed from the master's{among}:")
            for each in applied.divergences:
                self._say(f"    {each}")

    def _measure_lag(self, mirror: Mirror) -> float | None:
        lag = mirror.lag()
        if lag is not None:
            self._telemetry.gauge("mbevents_sync_lag_seconds", lag)
        return lag

    def _hook(self, number: int) -> list[str]:
        """What went wrong, in words."""
        if self._options.hooks is None:
            return []
        patience = Patience(self._options.hook_seconds, self._stop, self._hurry, self._options.grace)
        problems = [
            f"{each} Packet {number} stays applied." for each in run_hooks(self._options.hooks, number, patience)
        ]
        for problem in problems:
            log.warning("hook_failed", packet=number, problem=problem)
            self._telemetry.count("mbevents_sync_hook_failures_total")
            self._say(problem)
        return problems

    def _add_details(self, done: Pass, applied: Applied, seconds: float, problems: list[str]) -> None:
        done.hooks_failed += len(problems)
        done.hook_problem = problems[-1] if problems else done.hook_problem
        told = applied.to_dict()
        told["ignored"], told["absent"] = self._options.filters.parted(told.pop("skipped"))
        told |= {
            "seconds": round(seconds, 3),
            "divergences": [asdict(each) for each in applied.divergences],
            "hook_problems": problems,
        }
        done.details.append(told)


class _Recorded:
    """The row of one pass, made when there is something to tell."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._run: int | None = None
        self._began = time.monotonic()

    def begin(self, done: Pass) -> None:
        if self._run is None:
            self._run = self._mirror.begin_run(done.last, time.monotonic() - self._began)

    def note(self, done: Pass) -> None:
        assert self._run is not None
        self._mirror.note_run(self._run, done)

    def end(self, outcome: Outcome, told: str | None) -> None:
        if self._run is not None:
            self._mirror.end_run(self._run, outcome, told)

    def failed(self, done: Pass, outcome: Outcome, why: str) -> None:
        try:
            self.begin(done)
            self.end(outcome, why)
        except psycopg.Error as error:
            # The database is what failed.
            log.warning("sync_run_not_recorded", why=why, error=type(error).__name__)


def _counted(tables: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(tables.items()))


def _add(done: Pass, applied: Applied) -> None:
    done.last = applied.number
    done.packets += 1
    done.changes += applied.changes
    done.events += applied.events
    done.diverged += applied.diverged
    done.one_by_one += applied.mode == "one by one"
