"""The clients for everything outside."""

from functools import cached_property
from typing import TYPE_CHECKING

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from events.breaker import Breaker
    from workers.http.answers import Answers
    from workers.http.service import Guard, HttpClient


class Outside(Servers):
    """What asks other people's servers."""

    @property
    def answers_prefix(self) -> str:
        """Of the keys of answers that are kept, in the Redis of searches."""
        return f"{self.settings.redis_namespace}:http"

    @cached_property
    def http(self) -> "HttpClient":
        """For services that we know: polite to each, with answers kept where a caller wants it."""
        from workers.http.answers import Answers
        from workers.leased.adapters import RedisLeased
        from workers.leased.keeping import LEASE_SECONDS, KeptLeased

        leased = RedisLeased(self.client(RedisRole.SEARCH), self.answers_prefix, lease_seconds=LEASE_SECONDS)
        # Longer than any load, or what a slow one gets would not be kept.
        seconds = self.settings.http_deadline_seconds
        kept = KeptLeased(leased, longest=seconds + 5)
        return self._http_client(answers=Answers(kept, renewal=seconds, telemetry=self.telemetry))

    @cached_property
    def guarded_http(self) -> "HttpClient":
        """For URLs that users give."""
        from workers.http.service import Guard

        return self._http_client(guarded=Guard(allow_http=self.settings.user_urls == "any"))

    def _http_client(self, *, answers: "Answers | None" = None, guarded: "Guard | None" = None) -> "HttpClient":
        from functools import lru_cache

        from ops.version import version
        from workers.http import core
        from workers.http.adapters import Wire
        from workers.http.buckets import RedisBuckets
        from workers.http.gate import Gate
        from workers.http.guard import is_public
        from workers.http.policies import standard
        from workers.http.service import HttpClient

        found, namespace = self.settings, self.settings.redis_namespace
        wire = Wire(
            core.agent(version(), found.operator_contact),
            timeout=found.http_timeout_seconds,
            most_bytes=found.http_body_mb << 20,
            allowed=None if guarded is None else is_public,
        )
        client = HttpClient(
            wire,
            Gate(RedisBuckets(self.client(RedisRole.LIMITS), namespace=namespace), telemetry=self.telemetry),
            standard(found.wikimedia_rate),
            # Hosts come and go: those that were not asked for long are forgotten.
            lru_cache(maxsize=1024)(self._http_breaker),
            answers=answers,
            contact=found.operator_contact,
            deadline=found.http_deadline_seconds,
            guarded=guarded,
            telemetry=self.telemetry,
        )
        self._closing.callback(client.close)
        return client

    def _http_breaker(self, circuit: str) -> "Breaker":
        from events.breaker import Breaker

        # Circuits of hosts that no policy names are nobody's metric: there may be any number of them.
        on_change = None if ":" in circuit else self._note_circuit
        return Breaker(f"http {circuit}", failures=6, open_seconds=30, on_change=on_change)
