"""A clock for the limits' script that a test sets."""

from collections.abc import Sequence

import redis

from workers.limits.adapters import RedisWindows, load_script
from workers.limits.core import Decision, Scope

AT = tuple[int, int, int, list[int]]
_TIME = b"call('TIME')"
_EXPIRY = b"/ 1000) + 1000"


class Clock:
    """Decides as production does, but for the server's time, which is what a test says: microseconds of Unix time."""

    def __init__(self, client: "redis.Redis", now: int) -> None:
        script = load_script()
        assert (script.count(_TIME), script.count(_EXPIRY)) == (1, 1)
        # Redis itself forgets by its own clock: only after any test.
        script = script.replace(_TIME, b"call('MGET', 'test:s', 'test:us')").replace(_EXPIRY, b"/ 1000) + 600000")
        self._client = client
        self._windows = RedisWindows(client, script=script)
        self.at(now)

    def at(self, now: int) -> "Clock":
        self._client.mset({"test:s": now // 1_000_000, "test:us": now % 1_000_000})
        return self

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        return self._windows.decide(scopes)
