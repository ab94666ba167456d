"""What may be done how often, of all processes together."""

from functools import cached_property
from typing import TYPE_CHECKING

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from workers.limits.service import Limiter


class Limits(Servers):
    """What limits rates."""

    @cached_property
    def limiter(self) -> "Limiter":
        from workers.limits.adapters import RedisWindows
        from workers.limits.service import Limiter

        return Limiter(
            RedisWindows(self.client(RedisRole.LIMITS), namespace=self.settings.redis_namespace),
            without_redis=self.settings.limits_without_redis,
            telemetry=self.telemetry,
        )
