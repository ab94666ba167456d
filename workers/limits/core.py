"""What a limit is, and what is told of a decision. Nothing here waits."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

WithoutRedis = Literal["open", "closed"]
Outcome = Literal["allowed", "refused", "unavailable_open", "unavailable_closed"]

# Redis keeps a moment for each of them: this many take some 10 MB.
MOST = 100_000
LONGEST = 86_400
# How long nobody need ask again when Redis is away: it is looked for more often.
AWAY_SECONDS = 2.0
# From then on work that is refused does not ask less often.
MOST_REFUSALS = 300


@dataclass(frozen=True, slots=True)
class Scope:
    """At most `limit` in any `seconds`, of what `name` means, for whom `key` names.

    `name` is a label of metrics, one of few; `key` may be anything from anywhere. `without_redis`: what is answered
    while Redis is away; None as the limiter's default has it. Scopes that differ in `seconds` are counted apart.
    """

    name: str
    key: str
    limit: int
    seconds: float = 1.0
    without_redis: WithoutRedis | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST:
            raise ValueError(f"The limit {self.name} is {self.limit}: it must be from 1 to {MOST}.")
        if not 0.001 <= self.seconds <= LONGEST:
            raise ValueError(f"The limit {self.name} is for {self.seconds} s: it must be from 0.001 to {LONGEST}.")

    @property
    def window_us(self) -> int:
        """The window in microseconds."""
        return round(self.seconds * 1_000_000)


class Decision(NamedTuple):
    """Whether it may be done, which then is counted in each scope; refused, it is counted in none.

    `scope` is the one that refused (of several, the one that does so longest), else the one with the least remaining.
    `remaining`: how often more it may be done now. `retry_after`: seconds until there is room again, to the
    microsecond; 0 when allowed. `reset`: when all of the limit is there again if nothing more is done, in Unix time.
    `at`: when it was decided, in microseconds of Unix time. Both are by the server's clock, and 0 while Redis is away.
    """

    outcome: Outcome
    scope: Scope
    remaining: int = 0
    retry_after: float = 0.0
    reset: float = 0.0
    at: int = 0

    @property
    def allowed(self) -> bool:
        return self.outcome in {"allowed", "unavailable_open"}

    @property
    def limit(self) -> int:
        return self.scope.limit


def decide_without_redis(scopes: Sequence[Scope], default: WithoutRedis) -> Decision:
    """One scope that is closed refuses for all of them."""
    for scope in scopes:
        if (scope.without_redis or default) == "closed":
            return Decision("unavailable_closed", scope, retry_after=AWAY_SECONDS)
    return Decision("unavailable_open", scopes[0])


def postponed_ms(decision: Decision, refusals: int) -> int:
    """How long work is put off that was refused for the n-th time: what it was told, and a little more, in ms.

    Of a thousand that wait for one place a second, each would else ask every second, in step. What is added is spread
    over a tenth of a window more at each refusal, so that they ask less and less often, and the places stay taken.
    """
    spread = min(refusals, MOST_REFUSALS) / 10 * decision.scope.seconds
    return math.ceil((decision.retry_after + random.uniform(0, spread)) * 1_000)


def headers_of(decision: Decision) -> list[tuple[str, str]]:
    """HTTP headers in whole seconds, rounded up: who waits that long is never too early.

    `X-RateLimit-Reset` is Unix time, as MusicBrainz Server has it.
    """
    headers = []
    if not decision.allowed:
        headers.append(("Retry-After", str(max(1, math.ceil(decision.retry_after)))))
    if decision.at:
        headers += [
            ("X-RateLimit-Limit", str(decision.limit)),
            ("X-RateLimit-Remaining", str(decision.remaining)),
            ("X-RateLimit-Reset", str(math.ceil(decision.reset))),
        ]
    return headers
