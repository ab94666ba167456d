"""The bridge: leads alone, sleeps until it is notified, ticks, publishes, and heals by itself."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from events.errors import MbeventsError, UnreachableError, UsageError
from events.locks import AWAKE_KEY, LEADER_KEY
from events.log import service as event_log
from events.sql import queries
from events.telemetry import Telemetry
from producers.bridge.core import Wakefulness
from producers.bridge.publishing import Publisher, Publishing
from producers.bridge.reader import Source
from producers.bridge.ticker import Ticker
from producers.bridge.upkeep import Upkeep
from producers.bridge.watchdog import Watchdog

log = structlog.get_logger(__name__)

CHANNEL = "mbevents"
TRIM_EVERY = 1.0
_KEEPALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # The other side of the same: a bridge that vanished must not keep its lock for hours.
    "options": "-c timezone=UTC -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=15000 -c statement_timeout=0",
}


class NotInstalledError(MbeventsError):
    """The database has nothing of ours."""


class AnotherLeadsError(MbeventsError):
    """Another bridge leads, so that this one cannot drain."""


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """`source` is the CloudEvents source. Times in seconds: a standby tries to lead every `standby`; the bridge looks
    by itself and proves its connection every `probe`; it says that it sleeps when nothing came for `linger`."""

    source: str
    replication_type: Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"] = "RT_STANDALONE"
    retention_days: int = 7
    standby: float = 0.5
    probe: float = 5.0
    # An empty tick is four short questions; a batch may take longer, between two signs of life.
    answer: float = 30.0
    linger: float = 0.1
    interval: float = 0.01
    # About as many rows are in memory at once, and in one transaction unless one of the editors' is larger.
    part_rows: int = 5_000


@dataclass(slots=True)
class Status:
    """What the bridge is doing, for who asks from another thread."""

    connected: bool = False
    leading: bool = False
    problem: str = "not connected yet"


class Bridge:
    """Any number may run on a database: one leads, the others stand by."""

    def __init__(
        self,
        database_url: str,
        publisher: Publisher,
        *,
        options: BridgeOptions,
        telemetry: Telemetry,
    ) -> None:
        self._url = make_conninfo(database_url, application_name="mbevents bridge", **_KEEPALIVE)
        self.publisher = publisher
        self.options = options
        self.telemetry = telemetry
        self.status = Status()
        # A session that we lost, and that the server may still believe alive.
        self._lost_session: tuple[int, datetime] | None = None

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Raises MbeventsError for what does not heal by waiting."""
        pause = 0.1
        while not stop.is_set():
            try:
                with self._session() as session:
                    pause = 0.1
                    if session.wait_to_lead(stop):
                        session.lead(stop)
            except psycopg.ProgrammingError as error:
                # A missing right or table does not come by waiting.
                self._lost(error)
                raise MbeventsError(
                    f"PostgreSQL refuses the bridge what it needs: {self.status.problem}. "
                    "`mbevents db check` says what is missing."
                ) from error
            except psycopg.Error as error:
                self._lost(error)
                stop.wait(pause)
                pause = min(2.0, pause * 2)

    def drain(self, stop: threading.Event | None = None) -> int:
        """Do what is there, publish it, and return how many events it was; stops early when `stop` is set.

        Raises AnotherLeadsError.
        """
        try:
            with self._session() as session:
                if not session.try_to_lead():
                    raise AnotherLeadsError(
                        "Another bridge leads on this database and does this work already. Stop it first, or just wait."
                    )
                return session.drain(stop or threading.Event())
        except psycopg.OperationalError as error:
            raise UnreachableError(f"PostgreSQL went away while the bridge drained ({error}). Run it again.") from error

    def reset(self) -> None:
        """After a restore into a new cluster: forget up to where the bridge had looked."""
        with self._session() as session:
            if not session.try_to_lead():
                raise AnotherLeadsError("Another bridge leads on this database. Stop it before you reset.")
            session.reset()

    def _lost(self, error: psycopg.Error) -> None:
        # Not its text: a server's error may quote a row.
        problem = error.diag.message_primary or type(error).__name__
        log.warning("bridge_disconnected", error=problem)
        self.status.connected = self.status.leading = False
        self.status.problem = problem
        self.telemetry.gauge("mbevents_bridge_connected", 0)
        self.telemetry.gauge("mbevents_bridge_leader", 0)

    def _end_lost(self, connection: "psycopg.Connection[Any]") -> None:
        """End our own former session if it is still there: half-open, it would keep the leader's lock for long."""
        sql = queries("producers.bridge")
        if self._lost_session is not None:
            pid, since = self._lost_session
            if connection.execute(sql["end_session"], {"pid": pid, "since": since}).fetchone():
                log.warning("bridge_ended_its_lost_session", pid=pid)
        row = connection.execute(sql["session"]).fetchone()
        assert row is not None
        self._lost_session = row

    @contextmanager
    def _session(self) -> Iterator["_Session"]:
        connection = psycopg.connect(self._url, autocommit=True)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.prepare_threshold = 2
        watchdog = Watchdog(connection)
        try:
            with watchdog.limit(self.options.answer):
                self._end_lost(connection)
            self.status.connected, self.status.problem = True, ""
            self.telemetry.gauge("mbevents_bridge_connected", 1)
            yield _Session(self, connection, watchdog)
        finally:
            watchdog.close()
            connection.close()
            self.status.leading = False


class _Session:
    """The life of one connection. It holds the leader's lock, so that losing it and losing the lead are one."""

    def __init__(self, bridge: Bridge, connection: "psycopg.Connection[Any]", watchdog: Watchdog) -> None:
        self._connection = connection
        self._watchdog = watchdog
        self._publisher = bridge.publisher
        self._options = bridge.options
        self._telemetry = bridge.telemetry
        self._status = bridge.status
        self._sql = queries("producers.bridge")
        self._wake = Wakefulness(linger=bridge.options.linger, interval=bridge.options.interval)
        self._untrimmed = True
        self._told_awake = False
        self._trim_at = self._probe_at = time.monotonic()
        self._mirror = bridge.options.replication_type == "RT_MIRROR"

    # Leading

    def try_to_lead(self) -> bool:
        # Asked again and again rather than waited for: a session that waits for a lock holds back vacuum.
        with self._watchdog.limit(self._options.answer):
            leads = self._lock("lead", LEADER_KEY)
        self._status.leading = leads
        self._telemetry.gauge("mbevents_bridge_leader", int(leads))
        return leads

    def wait_to_lead(self, stop: threading.Event) -> bool:
        told = False
        while not self.try_to_lead():
            if not told:
                log.info("bridge_stands_by")
                told = True
            if stop.wait(self._options.standby):
                return False
        return True

    def lead(self, stop: threading.Event) -> None:
        self._begin()
        # Listen before the first look: what comes after the look is heard.
        self._connection.execute(f"LISTEN {CHANNEL}")
        self._wake.wake(time.monotonic())
        self._say_awake()
        log.info("bridge_leads", position=event_log.head(self._connection).position)
        try:
            while not stop.is_set():
                self._turn(stop)
        finally:
            log.info("bridge_stops")

    def drain(self, stop: threading.Event) -> int:
        self._begin()
        before = event_log.head(self._connection)
        while not stop.is_set() and self._work():
            pass
        while not self._publishing.catch_up():
            log.warning("drain_waits_for_redis")
            if stop.wait(0.5):
                break
        while not stop.is_set() and self._trim():
            pass
        return event_log.head(self._connection).position - before.published

    def reset(self) -> None:
        self._begin()
        with self._watchdog.limit(self._options.answer):
            for ticked in self._ticker.reset():
                self._publishing.ticked(ticked)

    def _begin(self) -> None:
        with self._watchdog.limit(self._options.answer):
            sources = self._sources()
            exported = sources and (self._foreign or self._options.replication_type == "RT_MASTER")
            self._upkeep = Upkeep(
                self._connection,
                # Rows of a master, or of a capture that is not ours, belong to who exports them.
                trimmed=["outbox"] if exported else sources,
                retention_days=self._options.retention_days,
            )
            self._upkeep.prepare()
            self._ticker = Ticker(
                self._connection,
                source=self._options.source,
                sources=sources,
                telemetry=self._telemetry,
                part_rows=self._options.part_rows,
                keeps_snapshots=self._options.replication_type == "RT_MASTER",
                alive=self._alive,
            )
            self._publishing = Publishing(self._connection, self._publisher, self._telemetry, alive=self._alive)

    def _alive(self) -> None:
        self._watchdog.extend(self._options.answer)

    def _sources(self) -> list[Source]:
        row = self._connection.execute(self._sql["sources"]).fetchone()
        assert row is not None
        pending, outbox, tick, foreign, packets = row
        self._foreign = bool(foreign)
        if not tick or (not self._mirror and not (pending and outbox)):
            raise NotInstalledError(
                f"Database {self._connection.info.dbname} has no event log or no capture. Run `mbevents db install`."
            )
        if packets and self._options.replication_type == "RT_STANDALONE":
            self._refuse_master()
        # On a mirror the packets' events are written by who applies the packets.
        return [] if self._mirror else ["outbox", "pending"]

    def _refuse_master(self) -> None:
        """Rows that are trimmed before they are exported would be missing on every mirror, without a word."""
        row = self._connection.execute(self._sql["exports"]).fetchone()
        if row and row[0]:
            raise UsageError(
                f"Packets are exported from database {self._connection.info.dbname}, and REPLICATION_TYPE is "
                "RT_STANDALONE: changes would be trimmed before they are exported. Set REPLICATION_TYPE=RT_MASTER for "
                "every process; if the database is a master no more, first empty the table mbevents.packet."
            )

    # One turn

    def _turn(self, stop: threading.Event) -> None:
        found = self._work()
        self._by_the_clock()
        if found:
            self._say_awake()
            self._wake.wake(time.monotonic())
            stop.wait(self._options.interval)
            return
        if self._publishing.behind or self._mirror:
            # On a mirror others append to the log.
            self._publishing.catch_up()
        if self._wake.tired(time.monotonic()):
            self._doze()
        elif self._wake.may_sleep(self._ticker.looked):
            if not self._trim():
                self._sleep(stop)
        else:
            # Drowsy, it hears those who know that it is.
            self._notified(self._wake.pause(time.monotonic()))

    def _by_the_clock(self) -> None:
        """What is due however busy it is."""
        now = time.monotonic()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY
            self._trim()
        if now >= self._probe_at:
            self._probe()
            with self._watchdog.limit(self._options.answer):
                self._upkeep.daily()
            self._probe_at = time.monotonic() + self._options.probe

    def _work(self) -> bool:
        """Tick and publish; whether there was anything to do."""
        began = time.perf_counter()
        found = False
        with self._watchdog.limit(self._options.answer):
            for ticked in self._ticker.tick():
                found = self._untrimmed = True
                self._telemetry.count("mbevents_ticks_total")
                self._telemetry.observe("mbevents_tick_seconds", time.perf_counter() - began)
                self._telemetry.gauge("mbevents_log_position", ticked.last)
                self._publishing.ticked(ticked)
                self._alive()
                began = time.perf_counter()
        return found

    def _say_awake(self) -> None:
        # A writer that looks just now holds it for a moment. Then they notify in vain, and the next turn says it.
        self._told_awake = self._told_awake or self._lock("lead", AWAKE_KEY)

    def _doze(self) -> None:
        if self._told_awake:
            self._lock("release", AWAKE_KEY)
            self._told_awake = False
        row = self._connection.execute(self._sql["take_xid"]).fetchone()
        assert row is not None
        self._wake.doze(row[0], time.monotonic())

    def _sleep(self, stop: threading.Event) -> None:
        """Until a writer notifies, at most until the next probe."""
        if self._publishing.behind:
            # Redis is away: look again soon.
            self._notified(0.1)
            return
        while not stop.is_set() and (left := self._probe_at - time.monotonic()) > 0:
            if self._notified(min(0.5, left)):
                return

    def _notified(self, seconds: float) -> bool:
        return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))

    def _probe(self) -> None:
        """Notify ourselves: proves that the connection works in both directions and that notifications arrive."""
        token = uuid.uuid4().hex
        began = time.perf_counter()
        with self._watchdog.limit(self._options.probe):
            self._connection.execute(self._sql["probe"], {"token": token})
            for notification in self._connection.notifies(timeout=self._options.probe):
                if notification.payload == token:
                    break
            else:
                raise psycopg.OperationalError("a notification to itself did not arrive")
        self._telemetry.observe("mbevents_bridge_probe_seconds", time.perf_counter() - began)

    def _trim(self) -> bool:
        """Whether a bite was trimmed, so that there may be more."""
        if not self._untrimmed:
            return False
        with self._watchdog.limit(self._options.answer):
            self._untrimmed = self._upkeep.trim(self._ticker.state.snapshot) > 0
        return self._untrimmed

    def _lock(self, query: str, key: int) -> bool:
        row = self._connection.execute(self._sql[query], {"key": key}).fetchone()
        return bool(row and row[0])
