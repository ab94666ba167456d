"""How often and how many at once: what each host is asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .core import matches


@dataclass(frozen=True, slots=True)
class Policy:
    """`hosts` share one bucket. As the server sees it, never more than `burst + rate × seconds` requests come in any
    time (rate None: as many as like), and `concurrency` at once.

    `maxlag`: seconds of lag at which MediaWiki refuses. `without_redis`: whether nothing is asked then (closed), or
    each process counts for itself (local).
    """

    name: str
    hosts: tuple[str, ...] = ()
    rate: float | None = None
    burst: int = 1
    concurrency: int = 3
    maxlag: int | None = None
    without_redis: Literal["closed", "local"] = "local"

    def has(self, host: str) -> bool:
        return any(matches(host, pattern) for pattern in self.hosts)


OTHER = Policy("other", rate=5.0, burst=5, concurrency=5)


class Policies:
    """By host, the first that has it; a host that none has gets `other`, with a bucket of its own."""

    def __init__(self, policies: Iterable[Policy], other: Policy = OTHER) -> None:
        self._policies = tuple(policies)
        self._other = other

    def of(self, host: str) -> Policy:
        return next((each for each in self._policies if each.has(host)), self._other)

    def has(self, host: str) -> bool:
        """Whether it is a host that we know."""
        return self.of(host) is not self._other

    def bucket(self, host: str) -> str:
        """The name of the bucket that a host shares."""
        name = self.of(host).name
        return name if self.has(host) else f"{name}:{host}"

    def circuit(self, host: str, port: int) -> str:
        """The name of the circuit breaker that a host shares. Where no policy has it, each port has its own: a user's
        URL with one where nobody listens closes the host to nobody else."""
        bucket = self.bucket(host)
        return bucket if self.has(host) else f"{bucket}:{port}"

    def same_site(self, one: str, another: str) -> bool:
        """Whether redirects may lead from one host to the other."""
        return one == another or (self.has(one) and self.of(one) is self.of(another))


def standard(wikimedia_rate: float) -> Policies:
    """The services that MusicBrainz asks. Wikimedia wants requests in series, and to know who asks."""
    wikis = [
        Policy(name, (f"*.{name}.org",), wikimedia_rate, burst=1, concurrency=3, maxlag=5, without_redis="closed")
        for name in ("wikipedia", "wikidata", "wikimedia")
    ]
    return Policies([*wikis, Policy("critiquebrainz", ("*.critiquebrainz.org",), rate=5.0, burst=5)])
