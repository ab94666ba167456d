"""Connections of Redis that are left when they lead to a master no more.

One that became a replica lives on, with the connections to it: what it tells to readers may be old. It refuses to
write, by which it is found out. The next connection looks the address up again, which leads to another by then.
"""

import re
from typing import Any

import redis
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

# Scripts of Redis 6.2 tell of it in an error of their own.
_REFUSES = re.compile(r"(?:Error running script .*: -)?(?:READONLY|NOREPLICAS) ")


def is_no_master(error: Exception) -> bool:
    """Whether a server refuses since it is a replica, or lacks replicas: then another one may be the master by now."""
    return isinstance(error, (redis.ReadOnlyError, redis.exceptions.MasterDownError)) or (
        isinstance(error, redis.ResponseError) and _REFUSES.match(str(error)) is not None
    )


class Master:
    """Who the connections of one pool lead to. Those of an earlier `era` are not used any more."""

    def __init__(self) -> None:
        self.era = 0

    def leave(self, era: int) -> None:
        """A connection of that era leads to who is the master no more: so do all of it, and when that is the master
        again, be it of nobody else, those that were idle meanwhile must not lead there."""
        if era == self.era:
            self.era += 1


class OfMaster(AbstractConnection):
    """Mixed into redis-py's class for the kind of socket."""

    def __init__(self, *, master: Master, **options: Any) -> None:
        self._master = master
        self._era = master.era
        super().__init__(**options)

    def connect(self) -> None:
        """Before each use; only that thread ends what others left."""
        if self._era != self._master.era:
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self._era = self._master.era
        return super()._connect()  # type: ignore[no-untyped-call, safe-super]  # of redis-py's class

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except redis.ResponseError as error:
            if is_no_master(error):
                self.disconnect()  # type: ignore[no-untyped-call]
                self._master.leave(self._era)
            raise


class _Tcp(OfMaster, Connection): ...


class _Tls(OfMaster, SSLConnection): ...


class _Unix(OfMaster, UnixDomainSocketConnection): ...


OF_MASTER: dict[Any, type[Any]] = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}
