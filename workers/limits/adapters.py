"""Redis behind the limits."""

import hashlib
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import redis

from .core import Decision, Scope
from .service import LimitsUnavailableError


def load_script() -> bytes:
    return files("workers.limits").joinpath("decide.lua").read_bytes()


class RedisWindows:
    """Decides in one call of a script, by the clock of the server; clocks of clients play no part."""

    def __init__(self, client: "redis.Redis", *, namespace: str = "MB", script: bytes | None = None) -> None:
        self._pool: Any = client.connection_pool
        self._prefix = f"{namespace}:limit:"
        self._script = script or load_script()
        self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        keys: list[Any] = []
        args: list[Any] = [os.urandom(8)]
        for scope in scopes:
            keys.append(self.key_of(scope))
            args += (scope.limit, scope.window_us)
        try:
            now, told, remaining, wait, reset = self._run(len(scopes), *keys, *args)
        except redis.RedisError as error:
            raise LimitsUnavailableError(f"Redis of the limits: {type(error).__name__}: {error}") from error
        return Decision("refused" if wait else "allowed", scopes[told - 1], remaining, wait / 1e6, reset / 1e6, now)

    def _run(self, *args: Any) -> Any:
        try:
            return self._ask("EVALSHA", self._sha, *args)
        except redis.exceptions.NoScriptError:
            # Redis was restarted or emptied.
            return self._ask("EVAL", self._script, *args)

    def _ask(self, *command: Any) -> Any:
        # What execute_command does around this costs half as much again. The pool has replaced what was closed; what
        # breaks between is told, and not asked twice.
        connection = self._pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            self._pool.release(connection)

    def key_of(self, scope: Scope) -> str:
        """Where it is kept what was done."""
        # Hashed: it comes from outside, may be of any length, and may be somebody's address.
        who = hashlib.blake2b(scope.key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        # With the window: two windows in one set would forget for each other.
        return f"{self._prefix}{scope.name}:{scope.window_us}:{who}"
