"""Who is signed in."""

from functools import cached_property
from typing import TYPE_CHECKING

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from workers.accounts.sessions.service import Sessions


class Accounts(Servers):
    """What the web, the actor that ends sessions, and the command line need."""

    @cached_property
    def sessions(self) -> "Sessions":
        from workers.accounts.sessions.adapters import PostgresEditors, RedisSessions
        from workers.accounts.sessions.service import Sessions

        found = self.settings
        return Sessions(
            RedisSessions(
                self.client(RedisRole.SESSIONS),
                namespace=found.redis_namespace,
                seconds=found.session_seconds,
                idle_seconds=found.session_idle_seconds,
                replicas=found.session_replicas,
            ),
            PostgresEditors(self.connect),
            without_redis=found.sessions_without_redis,
            telemetry=self.telemetry,
        )
