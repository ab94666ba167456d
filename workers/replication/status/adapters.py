"""Where status is read: the database, and upstream's feed."""

import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, LiteralString, NamedTuple, TypeVar

import httpx
import psycopg
from psycopg.rows import tuple_row

from events.errors import MbeventsError
from events.locks import SCHEDULER_KEY, SYNC_KEY
from events.sql import queries
from events.tables import NOT_IN_PACKETS
from workers.replication.packet.names import parse
from workers.replication.status.core import Answer, Control, Incoming, Outgoing, Run
from workers.replication.store.core import PacketStore
from workers.replication.sync.core import Base

T = TypeVar("T")

RUNS = 10
# Who asks must not wait until millions are counted.
MOST_PENDING = 1_000_000
# An answer of the feed is one short line.
_LONGEST = 4096
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_LAST = re.compile(rb'\{\s*"last_packet"\s*:\s*(?:null|"([^"\\]{1,64})")\s*\}\s*')


class Clock(NamedTuple):
    """The database's time, which all of its times are told by."""

    now: datetime
    scheduled: bool


class PostgresStatus:
    """What the database knows. What was not installed in it is as if it were empty."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._cursor = connection.cursor(row_factory=tuple_row)
        there = self._row("there") or (False,) * 5
        self._packet, self._sync, self._failure, self._captured, self._control = there

    def clock(self) -> Clock:
        row = self._cursor.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        return Clock(row[0], self._held(SCHEDULER_KEY))

    def control(self) -> Control:
        return Control(*((self._row("control") if self._control else None) or ()))

    def incoming(self, runs: int = RUNS) -> Incoming:
        """`runs`: how many of the last ones."""
        if not self._sync:
            return Incoming()
        running = self._held(SYNC_KEY)
        paused, up_to_date_at = self._row("state") or (False, None)
        found = self._cursor.execute(_sql("runs"), {"limit": runs, "running": running}).fetchall()
        sums = self._cursor.execute(_sql("outcomes"), {"running": running}).fetchall()
        return Incoming(
            running=running,
            paused=paused,
            up_to_date_at=up_to_date_at,
            runs=tuple(Run(*row) for row in found),
            outcomes={outcome: number for outcome, number, _ in sums if outcome != "running"},
            changes_total=sum(changes for *_, changes in sums),
        )

    def outgoing(self) -> Outgoing:
        published = (self._row("published") if self._packet else None) or (None, None, None)
        on_its_way = (self._row("on_its_way") if self._packet else None) or (None,)
        stripped = list(NOT_IN_PACKETS)
        pending = (self._row("pending", stripped=stripped, limit=MOST_PENDING) if self._captured else None) or (0,)
        oldest = (self._row("oldest_pending", stripped=stripped) if self._captured else None) or (None,)
        failure = (self._row("export_failure") if self._failure else None) or (None, None)
        return Outgoing(*published, *on_its_way, *pending, *oldest, *failure)

    def _held(self, key: int) -> bool:
        row = self._row("held", key=key)
        return bool(row and row[0])

    def _row(self, name: str, **parameters: Any) -> tuple[Any, ...] | None:
        return self._cursor.execute(_sql(name), parameters).fetchone()


def note_export(connection: "psycopg.Connection[Any]", error: str | None) -> None:
    """Keep why an export failed, or forget the last failure."""
    if error is None:
        connection.execute(_sql("export_succeeded"))
    else:
        connection.execute(_sql("export_failed"), {"error": error})


class Patient(Generic[T]):
    """Asks another server, for whoever must not wait for it: never longer than `seconds`, and not again for `every`.

    What it raises becomes the reason why there is no answer; of errors that are not ours, only their kind is told, as
    their text may quote an address with a token.
    """

    def __init__(self, ask: Callable[[], T], *, seconds: float = 4.0, every: float = 60.0) -> None:
        self._ask = ask
        self._seconds = seconds
        self._every = every
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._answer: Answer[T] = Answer(problem="it was not asked yet")
        self._asking: threading.Thread | None = None

    def get(self) -> Answer[T]:
        with self._lock:
            if time.monotonic() - self._asked_at < self._every:
                return self._answer
            if self._asking is None or not self._asking.is_alive():
                # Looking up a name has no limit of its own; a thread that hangs in it must not keep a process alive.
                self._asking = threading.Thread(target=self._fetch, name="patient", daemon=True)
                self._answer = Answer(problem=f"no answer came within {self._seconds:g} s")
                self._asking.start()
            self._asking.join(self._seconds)
            self._asked_at = time.monotonic()
            return self._answer

    def _fetch(self) -> None:
        try:
            self._answer = Answer(self._ask())
        except MbeventsError as error:
            self._answer = Answer(problem=str(error))
        except Exception as error:
            self._answer = Answer(problem=f"it cannot be asked ({type(error).__name__})")


class UpstreamError(MbeventsError):
    """Upstream does not say what its newest packet is."""


def newest_upstream(base: Base, token: str | None) -> int:
    """The number of upstream's newest packet. Raises UpstreamError, which never quotes the token."""
    if not token:
        raise UpstreamError("no REPLICATION_ACCESS_TOKEN is set to ask with")
    try:
        return _newest_upstream(base, token)
    except httpx.TimeoutException:
        raise UpstreamError(f"{base.origin} does not answer in time") from None
    except httpx.HTTPError as error:
        why = _ERRNO.sub("", str(error)).replace(token, "***") or "the connection broke off"
        raise UpstreamError(f"{base.origin} does not answer: {why}") from None


def _newest_upstream(base: Base, token: str) -> int:
    host = base.origin
    # Redirects are not followed: the token is for this host only. Nor does a proxy read what goes to this machine.
    with (
        httpx.Client(timeout=3.0, follow_redirects=False, trust_env=not host.is_loopback) as client,
        client.stream("GET", f"{base.url}/replication-info", params={"token": token}) as answer,
    ):
        if answer.status_code in (400, 401, 403):
            raise UpstreamError(f"{host} refuses the access token")
        if answer.status_code != 200:
            raise UpstreamError(f"{host} answers with status {answer.status_code}")
        body = b""
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > _LONGEST:
                break
    found = _LAST.fullmatch(body)
    if found is None:
        raise UpstreamError(f"{host} answers with what is no packet's name")
    if found[1] is None:
        raise UpstreamError(f"{host} has no packets")
    named = parse(found[1].decode("ascii", "replace"))
    if named is None:
        raise UpstreamError(f"{host} answers with what is no packet's name")
    return named[0]


def packets_in(store: PacketStore) -> int:
    """How many packets a store has, whatever the versions."""
    found = (parse(each.name) for each in store.list())
    return len({named[0] for named in found if named is not None})


def _sql(name: str) -> LiteralString:
    return queries("workers.replication.status")[name]
