"""Connections to Redis: one bounded pool a role, healthy when it is used, and behind a circuit breaker.

A role is what Redis is used for (caches, sessions, limits …). The queues' and the subscribers' connections are others:
they wait on purpose, and must not repeat a command.

redis-py leaves many of its functions without types: what mypy is told to ignore here is that.
"""

import sys
import threading
from queue import Empty
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry

from .breaker import Breaker, State
from .deadlines import CutSocket, Question
from .masters import Master, OfMaster, is_no_master

log = structlog.get_logger(__name__)

# As many as the seed says, of each process and role.
POOL_SIZE = 10
# For an answer, for a connection, and for a free one of the pool.
SECONDS = 1.0
HEALTH_CHECK_SECONDS = 30
# How often it is asked whether a server is back.
ASK_SECONDS = 0.5

_question = Question()


class CircuitOpenError(redis.ConnectionError):
    """This Redis did not answer a moment ago: it is not asked."""


def open_client(url: str, breaker: Breaker, *, size: int = POOL_SIZE, seconds: float = SECONDS) -> "redis.Redis":
    """A client that answers or raises within `seconds` for each exchange, and at once while the breaker is open.

    Then the server is asked in the background whether it is back, so that no caller has to wait to find out. In a
    `due_within` a whole question, with its wait for a connection, takes at most its share of what is left.
    Responses are bytes. After a broken connection a command is repeated once, so each of ours may run twice; after a
    timeout it is not, as who waited once has waited enough. Connects when it is used.
    """
    options = _options(url, seconds)
    plain = options.pop("connection_class")
    guard = _Guard(breaker, plain, options)
    pool = _Pool(
        guard,
        connection_class=_WATCHED[plain],
        max_connections=size,
        timeout=seconds,
        guard=guard,
        master=Master(),
        health_check_interval=HEALTH_CHECK_SECONDS,
        # redis-py's own ten tries would turn a dead cache, which is a miss, into seconds.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        **options,
    )
    return redis.Redis.from_pool(pool)


def _options(url: str, seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {"connection_class": Connection, **parse_url(url)}  # type: ignore[no-untyped-call]
    if options["connection_class"] is not UnixDomainSocketConnection:
        options["socket_keepalive"] = True
    return {**options, "socket_timeout": seconds, "socket_connect_timeout": seconds}


class _Guard:
    """The breaker of a pool, which closes by itself: while it is open, one thread asks for the server."""

    def __init__(self, breaker: Breaker, kind: type[AbstractConnection], options: dict[str, Any]) -> None:
        self.breaker = breaker
        self._kind = kind
        self._options = {**options, "retry": Retry(NoBackoff(), 0)}
        self._lock = threading.Lock()
        self._asks = False
        self._ended = threading.Event()

    def end(self) -> None:
        """Nobody uses the pool any more."""
        self._ended.set()

    def failed(self, error: Exception, *, surely: bool = False) -> None:
        """Each error once, however often it is met on its way."""
        if getattr(error, "noted", False):
            return
        error.noted = True  # type: ignore[attr-defined]  # a mark of ours on their error
        if isinstance(error, redis.TimeoutError) and _question.was_cut:
            # It may say more of who was in a hurry than of the server, which is asked again with patience.
            self._ask()
            return
        self.breaker.failed(surely=surely)
        if self._is("open"):
            self._ask()

    def _ask(self) -> None:
        with self._lock:
            if self._asks:
                return
            self._ended.clear()
            try:
                threading.Thread(target=self._work, name="redis-asker", daemon=True).start()
            except RuntimeError as error:
                # Too many threads, or this process ends: the breaker itself lets one call try after a while.
                log.warning("redis_not_asked_for", circuit=self.breaker.name, error=str(error))
                return
            self._asks = True

    def _work(self) -> None:
        try:
            while not self._ended.wait(0 if self._is("closed") else ASK_SECONDS):
                if self._is_there():
                    self.breaker.succeeded()
                    break
                self.breaker.failed(surely=True)
        finally:
            with self._lock:
                self._asks = False
        # It may have opened again just before.
        if self._is("open") and not self._ended.is_set():
            self._ask()

    def _is(self, state: State) -> bool:
        return self.breaker.state == state

    def _is_there(self) -> bool:
        """The server answers, and is a master: this changes nothing, and a replica refuses it."""
        connection = self._kind(**self._options)
        try:
            connection.connect()  # type: ignore[no-untyped-call]
            connection.send_command("PERSIST", "mbevents:nothing")  # type: ignore[no-untyped-call]
            connection.read_response()
        except redis.exceptions.NoPermissionError:
            # It answers, and what it is will be seen by who may ask.
            return True
        except redis.RedisError:
            return False
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
        return True


def _introduce(connection: Any) -> None:
    try:
        # It is new: to ask whether it lives would make another where it does not, and so on without end.
        connection.on_connect_check_health(check_health=False)
    except BaseException:
        # Half introduced, perhaps in another database, it must not be used.
        connection.disconnect()
        raise


class _Pool(redis.BlockingConnectionPool):
    def __init__(self, pool_guard: _Guard, **options: Any) -> None:
        self._guard = pool_guard
        super().__init__(redis_connect_func=_introduce, **options)  # type: ignore[no-untyped-call]

    def disconnect(self, inuse_connections: bool = True) -> None:
        if inuse_connections:
            self._guard.end()
        super().disconnect(inuse_connections)

    @property
    def timeout(self) -> float:
        """Seconds to wait for a free connection."""
        try:
            return _question.cut(self._seconds)
        except TimeoutError:
            # No error of redis-py's, for which callers look. One that is free is had, and says that it is too late.
            return 0.0

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._seconds = seconds

    def release(self, connection: Any) -> None:
        try:
            _question.end()
            error = sys.exception()
            if error is not None and not isinstance(error, Exception):
                # Interrupted, perhaps before its answer was read: the next one to ask would get it.
                connection.disconnect()
        finally:
            super().release(connection)  # type: ignore[no-untyped-call]

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:  # noqa: ARG002
        breaker = self._guard.breaker
        if not breaker.allow():
            raise CircuitOpenError(f"{breaker.name} did not answer a moment ago")
        _question.begin()
        try:
            return super().get_connection()  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # That all connections are in use says nothing against the server, unless we are asking after it.
            if not isinstance(error.__context__, Empty) or breaker.state == "half_open":
                self._guard.failed(error)
            raise


class _Watched(OfMaster):
    """Tells the guard how each exchange went, and takes no longer for it than who asks has time."""

    def __init__(self, *, guard: _Guard, socket_timeout: float, **options: Any) -> None:
        self._guard = guard
        self._seconds = socket_timeout
        super().__init__(socket_timeout=socket_timeout, **options)

    def _connect(self) -> CutSocket:
        self.socket_connect_timeout = self.socket_timeout = _question.cut(self._seconds)
        return CutSocket(super()._connect(), _question, self._seconds)

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().send_packed_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._guard.failed(error)
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            response = super().read_response(*args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._guard.failed(error)
            raise
        except redis.ResponseError as error:
            if is_no_master(error):
                # That another connection is made says nothing for it.
                self._guard.failed(error, surely=True)
            else:
                self._guard.breaker.succeeded()
            raise
        self._guard.breaker.succeeded()
        return response


class _WatchedTcp(_Watched, Connection): ...


class _WatchedTls(_Watched, SSLConnection): ...


class _WatchedUnix(_Watched, UnixDomainSocketConnection):
    # redis-py counts errors by it, whatever the socket is, and raises AttributeError instead of them.
    port = 0


_WATCHED: dict[Any, type[Any]] = {
    Connection: _WatchedTcp,
    SSLConnection: _WatchedTls,
    UnixDomainSocketConnection: _WatchedUnix,
}
