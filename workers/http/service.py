"""The one client for everything outside: polite, patient up to a deadline, and never a surprise."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Protocol

import structlog

from events.breaker import Breaker
from events.deadlines import due_within
from events.errors import UsageError
from events.telemetry import NoTelemetry, Telemetry

from . import core, guard
from .answers import Answers, Caching
from .core import Answer, CallError, Failure, Kind, Outcome, Reply, Request
from .gate import Gate
from .policies import Policies, Policy
from .reporting import Reporter

log = structlog.get_logger(__name__)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Without spaces around it, which are none of the value's and which h11 and h2 refuse by quoting it.
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds. The leases of turns are made for no longer calls.
_LONGEST = 3600.0
# A request that ends with its call's deadline sooner than after these seconds is not held against the host.
_SLOW = 5.0
# These are the client's own to say, and those of the connection.
_OWN_HEADERS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"),
        *("expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
    }
)


class Exchange(Protocol):
    def exchange(self, request: Request, *, until: float) -> Reply:
        """Raises CallError."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Guard:
    """For URLs that users give: public addresses only, and https unless `allow_http`."""

    allow_http: bool = False


class HttpClient:
    """Calls of one process. Every method gives an outcome; only what no caller should ask for raises UsageError.

    `deadline`: seconds that a call may take, with its turns, tries and redirects. `contact`: the operator's, without
    which live Wikimedia services are not asked. `guarded`: URLs are a user's, who is told what is wrong with them.
    """

    def __init__(
        self,
        exchange: Exchange,
        gate: Gate,
        policies: Policies,
        breaker: Callable[[str], Breaker],
        *,
        answers: Answers | None = None,
        contact: str | None = None,
        deadline: float = 60.0,
        guarded: Guard | None = None,
        reporter: Reporter | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._exchange = exchange
        self._gate = gate
        self._policies = policies
        self._breaker = breaker
        self._answers = answers
        self._contact = contact
        self._deadline = deadline
        self._guarded = guarded
        self._reporter = reporter or Reporter()
        self._telemetry = telemetry or NoTelemetry()
        self._clock = clock
        self._sleep = sleep
        self._now = now

    def close(self) -> None:
        self._exchange.close()

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        caching: Caching | None = None,
        deadline: float | None = None,
    ) -> Outcome:
        """With `caching` one request is made for all who ask the same at once, in whichever process, and its answer is
        kept. Headers are a part of what is asked."""
        return self.request("GET", url, headers=headers, caching=caching, deadline=deadline)

    def post(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
        deadline: float | None = None,
    ) -> Outcome:
        """`idempotent`: the receiver takes the same for the same, so that it may be tried again."""
        return self.request("POST", url, body, headers=headers, idempotent=idempotent, deadline=deadline)

    def put(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, deadline: float | None = None
    ) -> Outcome:
        return self.request("PUT", url, body, headers=headers, deadline=deadline)

    def request(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
        caching: Caching | None = None,
        deadline: float | None = None,
    ) -> Outcome:
        if caching is not None and (method != "GET" or self._answers is None):
            raise UsageError("Only answers to GET are kept, by a client that has where to keep them.")
        if method not in _METHODS:
            raise UsageError(f"{method!r:.40} is no method that is taken: {', '.join(sorted(_METHODS))}.")
        if deadline is not None and not deadline <= _LONGEST:
            raise UsageError(f"A call has at most {_LONGEST:g} seconds.")
        seconds = self._deadline if deadline is None else deadline
        until = self._clock() + seconds
        try:
            parsed = core.parsed_url(url)
        except UsageError as error:
            if self._guarded is None:
                raise
            return self._failed(CallError(Kind.BAD_URL, str(error)), None)
        request = Request(method, parsed, checked_headers(headers or {}), body)
        try:
            # Redis, which is asked for turns and answers, may hang as well as the host.
            with due_within(seconds):
                if caching is None or self._answers is None:
                    answer = self._told(request, until, idempotent=idempotent or core.is_idempotent(method))
                else:
                    ask = partial(self._told, request, idempotent=True)
                    answer = self._answers.get(request, caching, ask, until=until)
        except CallError as error:
            return self._failed(error, request)
        outcome = "stale" if answer.stale else "cached" if answer.cached else "answer"
        name = self._policies.of(request.host).name
        self._telemetry.count("mbevents_http_outcomes_total", host=name, outcome=outcome)
        return answer

    def _failed(self, error: CallError, request: Request | None) -> Failure:
        name = "other" if request is None else self._policies.of(request.host).name
        self._telemetry.count("mbevents_http_outcomes_total", host=name, outcome=str(error.kind))
        return error.failure("" if request is None else core.told(request.url))

    def _told(self, request: Request, until: float, *, idempotent: bool) -> Answer:
        try:
            return self._tried(request, until, idempotent=idempotent)
        except CallError as error:
            if self._guarded is None:
                # A user's server that is away is the user's to hear of.
                self._reporter.tell(self._policies.of(request.host).name, error)
            raise

    def _tried(self, request: Request, until: float, *, idempotent: bool) -> Answer:
        last: CallError | None = None
        for tries in count(1):
            try:
                return self._followed(request, until)
            except CallError as error:
                if error.kind is Kind.CIRCUIT_OPEN and last is not None:
                    # It is this call that opened it: what it met is what matters.
                    raise last from None
                delay = core.retry_delay(error, tries, left=until - self._clock()) if idempotent else None
                if delay is None:
                    raise
                last = error
            policy = self._policies.of(request.host)
            self._telemetry.count("mbevents_http_retries_total", host=policy.name)
            log.debug("http_call_tried_again", host=policy.name, why=str(last.kind), seconds=delay)
            self._sleep(delay)
        raise AssertionError

    def _followed(self, request: Request, until: float) -> Answer:
        first = request.host
        for hops in count():
            reply = self._asked(request, until)
            if not core.is_redirect(reply):
                return Answer(reply.status, reply.headers, reply.body, str(request.url))
            request = core.redirected(request, reply, hops=hops, allowed=lambda host: self._may_lead(first, host))
        raise AssertionError

    def _may_lead(self, first: str, host: str) -> bool:
        return self._guarded is not None or self._policies.same_site(first, host)

    def _asked(self, request: Request, until: float) -> Reply:
        """One request, in its turn; a redirect or an answer."""
        if self._clock() >= until:
            # No turn is used up for what comes too late.
            raise CallError(Kind.DEADLINE, "It took longer than the whole call may.")
        host = request.host
        if self._guarded is not None:
            guard.check_url(request.url, allow_http=self._guarded.allow_http)
            if self._policies.has(host):
                # A port where nobody listens would take the turns of all who ask it for us.
                raise CallError(Kind.BAD_URL, f"{host} is a service that is not called for users.")
        if self._contact is None and core.is_wikimedia(host):
            raise CallError(
                Kind.UNIDENTIFIED,
                f"{host} is not asked without saying who asks: set OPERATOR_CONTACT to a URL or an e-mail address "
                "of whoever runs this, which Wikimedia's policy wants in the User-Agent.",
            )
        policy, bucket = self._policies.of(host), self._policies.bucket(host)
        breaker = self._breaker(self._policies.circuit(host, core.port_of(request.url)))
        if breaker.refuses:
            # Nobody waits for a turn that will not be used.
            raise _open(host)
        with self._gate.turn(bucket, policy, until) as turn:
            if not breaker.allow():
                raise _open(host)
            began = self._clock()
            try:
                reply = self._measured(core.with_maxlag(request, policy.maxlag), policy, until)
                if not core.is_redirect(reply):
                    core.check(reply, self._now(), mediawiki=policy.maxlag is not None)
            except CallError as error:
                if error.retry_after is not None:
                    turn.hold = error.retry_after
                if error.kind is Kind.DEADLINE and self._clock() - began < _SLOW:
                    # It says more of a hasty caller than of the host.
                    pass
                elif error.kind in core.BREAKING:
                    breaker.failed()
                else:
                    # Whatever it said, it is there.
                    breaker.succeeded()
                raise
            breaker.succeeded()
            return reply

    def _measured(self, request: Request, policy: Policy, until: float) -> Reply:
        began = self._clock()
        status = "failed"
        try:
            reply = self._exchange.exchange(request, until=until)
            status = f"{reply.status // 100}xx"
        except CallError as error:
            status = str(error.kind)
            raise
        finally:
            self._telemetry.count("mbevents_http_requests_total", host=policy.name, status=status)
            self._telemetry.observe("mbevents_http_seconds", self._clock() - began, host=policy.name)
        return reply


def _open(host: str) -> CallError:
    return CallError(Kind.CIRCUIT_OPEN, f"{host} failed too often just now, and is left alone for a while.")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises UsageError for what is no header, or is not the caller's to say."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise UsageError(f"{name!r:.40} is no HTTP header, or its value is none.")
        if name.lower() in _OWN_HEADERS:
            raise UsageError(f"The header {name} is the client's own to say.")
    return dict(headers)
