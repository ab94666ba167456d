"""Tokens of the feed: 40 letters and digits, told once, and kept only as their SHA-256."""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from threading import Lock
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg_pool import PoolTimeout

from events.errors import NotFoundError, UnreachableError, UsageError
from events.sql import queries

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]

_ALPHABET = string.ascii_letters + string.digits
_TOKEN = re.compile(r"[A-Za-z0-9]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Token(NamedTuple):
    """A token by its name, which says who has it."""

    name: str
    created_at: datetime


class Tokens:
    """The tokens of a database."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def create(self, name: str) -> str:
        """A new token: this is the only time that it is told."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r:.80} is no name for a token: take up to 64 letters, digits, _ . -, a letter or digit first."
            )
        token = "".join(secrets.choice(_ALPHABET) for _ in range(40))
        with self._connect() as connection:
            made = connection.execute(_sql("create_token"), {"name": name, "sha256": _hash(token)}).rowcount
        if not made:
            raise UsageError(f"There is a token {name} already. Revoke it first, or take another name.")
        return token

    def list(self) -> "list[Token]":
        with self._connect() as connection:
            return connection.cursor(row_factory=class_row(Token)).execute(_sql("list_tokens")).fetchall()

    def revoke(self, name: str) -> None:
        """Running feeds refuse it within seconds."""
        with self._connect() as connection:
            if not connection.execute(_sql("revoke_token"), {"name": name}).rowcount:
                raise NotFoundError(f"There is no token {name!r:.80}. `mbevents replication token list` prints them.")

    def hashes(self) -> dict[str, bytes]:
        """SHA-256 of each token by name."""
        with self._connect() as connection:
            rows = connection.cursor(row_factory=tuple_row).execute(_sql("token_hashes"))
            return {name: bytes(digest) for name, digest in rows}


class Doorkeeper:
    """Says whose a token is, without asking the database each time. For many threads."""

    # How long a revoked token still opens.
    STALE_SECONDS = 2.0
    # A token that is not known may be new; but not every wrong one may cost a query.
    AGAIN_SECONDS = 0.2

    def __init__(self, load: Callable[[], dict[str, bytes]]) -> None:
        self._load = load
        self._lock = Lock()
        self._hashes: dict[str, bytes] = {}
        self._loaded_at = self._failed_at = float("-inf")

    def who(self, token: str) -> str | None:
        """The name of a token, None if it is no valid one. Raises UnreachableError when that cannot be found out."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = _hash(token)
        return _find(digest, self._known(self.STALE_SECONDS)) or _find(digest, self._known(self.AGAIN_SECONDS))

    def _known(self, seconds: float) -> dict[str, bytes]:
        with self._lock:
            if time.monotonic() - self._loaded_at < seconds:
                return self._hashes
            # Who waited for somebody's vain attempt does not try in turn: threads would queue up for minutes.
            if time.monotonic() - self._failed_at < self.STALE_SECONDS:
                raise UnreachableError("The database did not answer a moment ago.")
            try:
                self._hashes = self._loaded()
            except (psycopg.Error, UnreachableError) as error:
                self._failed_at = time.monotonic()
                raise UnreachableError(f"The tokens cannot be read: {type(error).__name__}.") from error
            self._loaded_at = time.monotonic()
            return self._hashes

    def _loaded(self) -> dict[str, bytes]:
        try:
            return self._load()
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            # After a restart of the server, a connection of the pool is found dead once.
            return self._load()


def _find(digest: bytes, known: dict[str, bytes]) -> str | None:
    """All are compared, each in constant time: how long it takes tells nothing of what is in there."""
    found = None
    for name, each in known.items():
        if hmac.compare_digest(digest, each):
            found = name
    return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _sql(name: str) -> LiteralString:
    return queries("workers.replication")[name]
