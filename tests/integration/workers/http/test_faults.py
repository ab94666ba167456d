"""Servers that do everything wrong: each ends in a clear outcome, within the deadline."""

import gzip
import random
import socket
import threading
import time
import zlib
from typing import Any

import pytest

from tests.integration.workers.http.hostile import (
    Script,
    answers,
    drips,
    floods,
    hostile,
    is_silent,
    redirects,
    says,
)
from tests.integration.workers.http.making import Make, kind
from workers.http.core import Answer, CallError, Failure, Kind
from workers.http.network import Lookups
from workers.http.service import Guard

OK = b"HTTP/1.1 200 OK\r\n"
GZIPPED = {"Content-Encoding": "gzip"}
BOMB = zlib.compressobj(9, zlib.DEFLATED, 31)
BOMB_BYTES = BOMB.compress(bytes(64 << 20)) + BOMB.flush()
MAXLAG = b'{"error": {"code": "maxlag", "info": "Waiting for a database server: 6 seconds lagged."}}'
RATELIMITED = b'{"errors": [{"code": "ratelimited"}]}'
JSON = {"Content-Type": "application/json; charset=utf-8"}


def then_silent(data: bytes) -> Script:
    def script(connection: socket.socket) -> object:
        connection.sendall(data)
        return is_silent(connection)

    return script


FAULTS: list[tuple[str, Script, Kind]] = [
    ("one byte of the headers at a time", drips(OK + b"X: " + b"y" * 200, 0.02), Kind.DEADLINE),
    ("one byte of the body at a time", drips(OK + b"\r\n" + b"y" * 200, 0.005), Kind.DEADLINE),
    ("interim answers without end", floods(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), Kind.DEADLINE),
    ("never an answer", is_silent, Kind.TIMEOUT),
    ("nothing after the headers", then_silent(OK + b"Content-Length: 5\r\n\r\n"), Kind.TIMEOUT),
    ("an endless body", floods(OK + b"\r\n", bytes(4096)), Kind.TOO_LARGE),
    (
        "endless chunks",
        floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + bytes(1024) + b"\r\n"),
        Kind.TOO_LARGE,
    ),
    ("a body that says it is too large", says(OK + b"Content-Length: 99999999999\r\n\r\n"), Kind.TOO_LARGE),
    ("a gzip bomb", answers(BOMB_BYTES, headers=GZIPPED), Kind.TOO_LARGE),
    ("no gzip where gzip is said", answers(b"hello, world", headers=GZIPPED), Kind.BAD_ENCODING),
    ("gzip that ends early", answers(gzip.compress(b"hello, world")[:-9], headers=GZIPPED), Kind.TRUNCATED),
    ("an encoding that was not asked for", answers(b"hello", headers={"Content-Encoding": "br"}), Kind.BAD_ENCODING),
    ("less than Content-Length", says(OK + b"Content-Length: 50\r\n\r\nhello"), Kind.TRUNCATED),
    ("more than Content-Length", says(OK + b"Content-Length: 3\r\n\r\nhello"), Kind.BAD_LENGTH),
    ("a Content-Length that is no number", says(OK + b"Content-Length: much\r\n\r\nhello"), Kind.PROTOCOL),
    ("two lengths", says(OK + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello"), Kind.PROTOCOL),
    ("closed after the headers", says(OK + b"Content-Length: 5\r\n\r\n"), Kind.TRUNCATED),
    ("closed in a chunk", says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"), Kind.TRUNCATED),
    ("closed in the headers", says(OK + b"Content-Len"), Kind.CONNECTION),
    ("closed before the headers", says(b""), Kind.CONNECTION),
    ("headers without end", floods(OK, b"X-Long: " + b"y" * 1000 + b"\r\n"), Kind.PROTOCOL),
    ("what is no HTTP", says(b"220 smtp.example ESMTP\r\n\r\n"), Kind.PROTOCOL),
    ("a header that is none", says(OK + b"Set-Cookie secret\r\n\r\n"), Kind.PROTOCOL),
    ("binary rubbish", says(bytes(range(256)) * 4), Kind.PROTOCOL),
    ("a redirect loop", redirects("/"), Kind.TOO_MANY_REDIRECTS),
    ("a redirect to a service of the cloud", redirects("http://169.254.169.254/latest/"), Kind.FORBIDDEN_REDIRECT),
    ("a redirect to another host", redirects("https://example.org/"), Kind.FORBIDDEN_REDIRECT),
    ("a redirect to a file", redirects("file:///etc/passwd"), Kind.FORBIDDEN_REDIRECT),
    ("a redirect to nonsense", redirects("http://[::/"), Kind.FORBIDDEN_REDIRECT),
    ("a redirect to nowhere", says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), Kind.STATUS_3XX),
    ("403", answers(status="403 Forbidden"), Kind.STATUS_4XX),
    ("500", answers(status="500 Oops"), Kind.STATUS_5XX),
    ("maxlag with status 200", answers(MAXLAG, headers=JSON), Kind.THROTTLED),
    ("ratelimited with status 200", answers(RATELIMITED, headers=JSON), Kind.THROTTLED),
    ("429", answers(status="429 Too Many Requests"), Kind.THROTTLED),
]


@pytest.mark.parametrize(("script", "wanted"), [each[1:] for each in FAULTS], ids=[each[0] for each in FAULTS])
def test_whatever_a_server_does_wrong_is_one_clear_outcome_within_the_deadline(
    client: Make, script: Script, wanted: Kind
) -> None:
    # Three times the time-out is less than the deadline, and the deadline less than the time-out of who drips.
    calls = client(deadline=0.6, timeout=0.5) if wanted is Kind.DEADLINE else client(deadline=1.0, timeout=0.2)
    began = time.monotonic()
    with hostile(script) as server:
        outcome = calls.get(f"{server.url}/?secret=1")
    assert kind(outcome) is wanted
    assert time.monotonic() - began < 3
    assert isinstance(outcome, Failure)
    assert outcome.message
    assert "secret" not in outcome.url + outcome.message


def test_nobody_listening_is_an_outcome_too(client: Make) -> None:
    with hostile(says(b"")) as server:
        url = server.url
    assert kind(client().get(url)) is Kind.CONNECTION


def test_a_name_that_leads_nowhere_is_an_outcome_too(client: Make) -> None:
    assert kind(client(deadline=3).get("http://no-such-host.invalid/")) is Kind.DNS


def test_a_lookup_that_hangs_does_not_outlive_the_deadline(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        ended.wait(10)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    began = time.monotonic()
    assert kind(client(deadline=0.2).get("http://slow.example/")) in {Kind.DNS, Kind.DEADLINE}
    assert time.monotonic() - began < 3
    ended.set()


def test_lookups_of_users_names_that_hang_keep_nobody_from_known_services(
    client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, real = threading.Event(), socket.getaddrinfo

    def hang(host: str, *details: Any, **options: Any) -> Any:
        if host != "127.0.0.1":
            ended.wait(10)
        return real("127.0.0.1", *details, **options)

    monkeypatch.setattr("socket.getaddrinfo", hang)
    users, known = client(guarded=Guard(allow_http=True), deadline=0.3), client()
    with hostile(answers()) as server:
        threads = [threading.Thread(target=users.get, args=(f"http://{n}.example/",)) for n in range(32)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(10)
        assert kind(users.get("http://another.example/")) in {Kind.DNS, Kind.DEADLINE}
        assert isinstance(known.get(server.url), Answer)
        ended.set()


def test_waiting_for_others_lookups_is_a_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, look = threading.Event(), Lookups(most=1)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: ended.wait(10) and [])
    threading.Timer(1.0, ended.set).start()
    with pytest.raises(CallError):
        look("one.example", 80, 0.1)
    began = time.monotonic()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: threading.Event().wait(2) or [])
    with pytest.raises(CallError):
        look("another.example", 80, 1.0)
    # The first lookup took most of it.
    assert time.monotonic() - began < 1.8


def test_no_thread_for_a_lookup_is_an_outcome_and_takes_nobodys_place(
    client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = client(resolve=Lookups(most=1), deadline=1)
    with monkeypatch.context() as without:
        without.setattr("workers.http.network.threading.Thread.start", none)
        assert kind(one.get("http://example.invalid/")) is Kind.DNS
    with hostile(answers()) as server:
        assert isinstance(one.get(server.url), Answer)


def test_another_address_is_tried_where_one_does_not_answer(client: Make) -> None:
    def resolve(_host: str, _port: int, _seconds: float) -> list[str]:
        # Nobody listens on the first two.
        return ["127.0.0.2", "::1", "127.0.0.1"]

    with hostile(answers()) as server:
        assert isinstance(client(resolve=resolve).get(f"http://many.example:{server.port}/"), Answer)


def test_of_a_name_with_very_many_addresses_only_some_are_tried(client: Make) -> None:
    with hostile(answers()) as server:
        one = client(resolve=lambda *_: ["127.0.0.2"] * 8 + ["127.0.0.1"])
        assert kind(one.get(f"http://many.example:{server.port}/")) is Kind.CONNECTION
        assert server.connections == 0


def test_a_server_that_takes_nothing_is_given_up(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        outcome = client(deadline=0.4).post(f"http://127.0.0.1:{deaf.getsockname()[1]}/", bytes(32 << 20))
        assert kind(outcome) is Kind.DEADLINE
        assert time.monotonic() - began < 3


def test_thousands_of_chunks_that_come_at_once_do_not_outlive_the_deadline(client: Make) -> None:
    took = []

    def feed(_body: object, _piece: bytes) -> None:
        took.append(time.monotonic())
        time.sleep(0.01)

    with (
        pytest.MonkeyPatch.context() as patched,
        hostile(says(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 5000)) as server,
    ):
        patched.setattr("workers.http.adapters.Body.feed", feed)
        assert kind(client(deadline=0.3).get(server.url)) is Kind.DEADLINE
    assert took[-1] - took[0] < 3


@pytest.mark.parametrize("status", ["429 Slow Down", "502 Bad Gateway", "503 Busy", "504 Late"])
def test_what_may_pass_is_tried_three_times(client: Make, status: str) -> None:
    with hostile(answers(status=status), answers(status=status), answers(b"at last")) as server:
        outcome = client().get(server.url)
        assert isinstance(outcome, Answer)
        assert outcome.body == b"at last"
    with hostile(answers(status=status)) as server:
        assert isinstance(client().get(server.url), Failure)
        assert len(server.requests) == 3


def test_what_does_not_pass_is_asked_once(client: Make) -> None:
    for status in ("400 Bad", "403 Forbidden", "500 Broken"):
        with hostile(answers(status=status)) as server:
            assert isinstance(client().get(server.url), Failure)
            assert len(server.requests) == 1


def test_a_connection_that_breaks_is_tried_again(client: Make) -> None:
    with hostile(says(b""), says(OK + b"Content-Length: 9\r\n\r\nhel"), answers(b"at last")) as server:
        outcome = client().get(server.url)
    assert isinstance(outcome, Answer)
    assert outcome.body == b"at last"


def test_a_post_is_sent_once_unless_it_may_be_sent_again(client: Make) -> None:
    for idempotent, wanted in ((False, 1), (True, 3)):
        with hostile(answers(status="503 Busy")) as server:
            assert kind(client().post(server.url, b"{}", idempotent=idempotent)) is Kind.STATUS_5XX
            assert len(server.requests) == wanted
            assert server.requests[0].endswith(b"\r\n\r\n{}")


def test_a_retry_after_is_waited_out_before_the_next_try(client: Make) -> None:
    slept: list[float] = []
    with hostile(answers(status="429 Slow Down", headers={"Retry-After": "1"}), answers()) as server:
        assert isinstance(client(sleep=slept.append).get(server.url), Answer)
        # By the host's turns, which are another's too: this call's own wait is skipped here.
        assert server.times[1] - server.times[0] > 0.95
    assert 1 <= slept[0] <= 2


@pytest.mark.parametrize("nonsense", ["soon", "-5", "1e9", "Sun, 99 Foo 2026", "∞".encode().decode("latin-1")])
def test_a_retry_after_that_makes_no_sense_is_none(client: Make, nonsense: str) -> None:
    busy = answers(status="503 Busy", headers={"Retry-After": nonsense})
    with hostile(busy, answers()) as server:
        assert isinstance(client().get(server.url), Answer)


def test_a_retry_after_beyond_the_deadline_is_told_at_once(client: Make) -> None:
    with hostile(answers(status="429 Slow Down", headers={"Retry-After": "86400"})) as server:
        outcome = client().get(server.url)
        assert len(server.requests) == 1
    assert isinstance(outcome, Failure)
    assert outcome.kind is Kind.THROTTLED
    assert outcome.retry_after == 300


def broken(chance: random.Random) -> bytes:
    """A right answer that something happened to."""
    body = gzip.compress(b"hello, world" * 9)
    chunks = b"5\r\nhello\r\n0\r\n\r\n"
    data = bytearray(
        chance.choice(
            [
                OK + b"Content-Length: 5\r\n\r\nhello",
                OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
                OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 429 No\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",
            ]
        )
    )
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        what = chance.choice(["flip", "cut", "double", "zero"])
        if what == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif what == "cut":
            del data[at : at + chance.randrange(1, 20)]
        elif what == "double":
            data[at:at] = data[at : at + 30]
        else:
            data[at] = 0
        data = data or bytearray(b"x")
    return bytes(data)


def test_whatever_happens_to_an_answer_on_its_way_surprises_nobody(client: Make) -> None:
    chance = random.Random(4)
    one = client(deadline=0.5, timeout=0.2)
    with hostile(*(says(broken(chance)) for _ in range(120))) as server:
        while len(server.requests) < 110:
            outcome = one.get(server.url, headers={"X": str(len(server.requests))})
            assert isinstance(outcome, Answer | Failure)
