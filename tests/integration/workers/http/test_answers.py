"""Answers that are kept: one request for many, and an old answer rather than none."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from events.errors import UsageError
from ops.stack import Stack
from tests.integration.workers.http.hostile import Hostile, answers, hostile, is_silent, says
from tests.integration.workers.http.making import Make, kind, nobody
from tests.waiting import wait_for
from workers.http.answers import MOST_RENEWALS, RENEWAL_PAUSE, Answers, Caching
from workers.http.core import Answer, Kind, Outcome
from workers.http.service import HttpClient
from workers.leased.adapters import RedisLeased

MINUTE = Caching(fresh=60, stale=0, negative=60)
Process = Callable[..., HttpClient]


@pytest.fixture
def process(redis_server: Stack, client: Make) -> Iterator[Process]:
    """Makes clients as of processes of their own, which share a Redis."""
    with redis.Redis.from_url(redis_server.redis_url(2)) as connection:

        def process(*, renewal: float = 0.0, pause: float = RENEWAL_PAUSE, **options: Any) -> HttpClient:
            leased = RedisLeased(connection, "MB:http", lease_seconds=10)
            return client(answers=Answers(leased, renewal=renewal, pause=pause), **options)

        yield process


def got(outcome: Outcome) -> Answer:
    assert isinstance(outcome, Answer), outcome
    return outcome


def asked_at_once(clients: list[HttpClient], url: str, caching: Caching) -> list[Outcome]:
    outcomes: list[Outcome] = []
    together = threading.Barrier(len(clients))

    def ask(one: HttpClient) -> None:
        together.wait()
        outcomes.append(one.get(url, caching=caching))

    threads = [threading.Thread(target=ask, args=(each,)) for each in clients]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    return outcomes


def slowly(server_says: bytes, go: threading.Event) -> Callable[..., object]:
    def script(connection: object) -> object:
        go.wait(10)
        return answers(server_says)(connection)  # type: ignore[arg-type]

    return script


def test_many_who_ask_the_same_at_once_in_several_processes_cost_one_request(process: Process) -> None:
    one, another = process(), process()
    with hostile(answers(b"shared")) as server:
        outcomes = asked_at_once([one, another] * 10, server.url, MINUTE)
        assert len(server.requests) == 1
    assert {got(each).body for each in outcomes} == {b"shared"}
    assert sum(not got(each).cached for each in outcomes) == 1


def test_a_kept_answer_is_the_same_with_its_status_and_headers(process: Process) -> None:
    with hostile(answers(b"\x00\n\xff", headers={"ETag": '"x"'})) as server:
        first = got(process().get(f"{server.url}/a?b=c", caching=MINUTE))
        second = got(process().get(f"{server.url}/a?b=c", caching=MINUTE))
        assert len(server.requests) == 1
    assert (second.status, second.body, second.url) == (first.status, first.body, first.url)
    assert dict(second.headers) == dict(first.headers)
    assert (first.cached, second.cached, second.stale) == (False, True, False)


def test_what_differs_in_a_header_is_asked_for_itself(process: Process) -> None:
    one = process()
    with hostile(answers()) as server:
        for language in ("en", "de", "en"):
            one.get(server.url, headers={"Accept-Language": language}, caching=MINUTE)
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_that_there_is_nothing_is_kept_for_as_long_as_was_asked(process: Process, status: str) -> None:
    one = process()
    with hostile(answers(status=status)) as server:
        for _ in range(2):
            assert not got(one.get(server.url, caching=MINUTE)).found
        assert len(server.requests) == 1
        shortly = Caching(fresh=60, negative=0.01)
        wait_for(lambda: one.get(f"{server.url}/2", caching=shortly) and len(server.requests) == 3)


def test_a_failure_is_never_kept(process: Process) -> None:
    one = process()
    with hostile(answers(status="500 Oops"), answers(b"well")) as server:
        assert kind(one.get(server.url, caching=MINUTE)) is Kind.STATUS_5XX
        assert got(one.get(server.url, caching=MINUTE)).body == b"well"


def test_a_failure_is_told_to_all_who_wait_for_the_same(process: Process) -> None:
    one = process(timeout=0.3)
    with hostile(lambda connection: connection.recv(1) and None) as server:
        outcomes = asked_at_once([one] * 8, server.url, MINUTE)
        # One call with its tries, not eight.
        assert len(server.requests) <= 3
    assert {kind(each) for each in outcomes} == {Kind.TIMEOUT}


def test_who_has_less_time_than_the_one_who_asks_does_not_wait_longer(process: Process) -> None:
    one, go = process(deadline=10), threading.Event()
    with hostile(slowly(b"late", go)) as server:
        slow: list[Outcome] = []
        first = threading.Thread(target=lambda: slow.append(one.get(server.url, caching=MINUTE)))
        first.start()
        wait_for(lambda: server.requests)
        assert kind(one.get(server.url, caching=MINUTE, deadline=0.1)) is Kind.DEADLINE
        # Nor does one of another process.
        assert kind(process().get(server.url, caching=MINUTE, deadline=0.1)) is Kind.DEADLINE
        go.set()
        first.join(10)
    assert got(slow[0]).body == b"late"


def test_who_has_more_time_than_the_one_who_asked_asks_again(process: Process) -> None:
    one = process(deadline=5, timeout=5)
    with hostile(is_silent, answers(b"at last")) as server:
        hasty = threading.Thread(target=lambda: one.get(server.url, caching=MINUTE, deadline=0.5))
        hasty.start()
        wait_for(lambda: server.requests)
        assert got(one.get(server.url, caching=MINUTE)).body == b"at last"
        hasty.join(10)


def test_an_old_answer_is_given_while_it_is_renewed(process: Process) -> None:
    one, caching, go = process(), Caching(fresh=0.05, stale=60), threading.Event()
    with hostile(answers(b"old"), slowly(b"new", go)) as server:
        got(one.get(server.url, caching=caching))

        def stale() -> bool:
            answer = got(one.get(server.url, caching=caching))
            assert answer.body == b"old"
            return answer.stale

        wait_for(lambda: stale() and len(server.requests) == 2)
        go.set()
        wait_for(lambda: got(one.get(server.url, caching=caching)).body == b"new")


def test_many_old_answers_are_not_all_renewed_at_once(process: Process) -> None:
    one, caching, go = process(timeout=10, deadline=10), Caching(fresh=0.02, stale=60), threading.Event()
    number, before = 3 * MOST_RENEWALS, set(threading.enumerate())
    with hostile(*[answers(b"old")] * number, slowly(b"new", go)) as server:
        urls = [f"{server.url}/{each}" for each in range(number)]
        for url in urls:
            got(one.get(url, caching=caching))
        for url in urls:
            wait_for(lambda url=url: got(one.get(url, caching=caching)).stale)  # type: ignore[misc]
        renewing = [each for each in set(threading.enumerate()) - before if each.name == "http-renewal"]
        go.set()
        # None of them is left out for good.
        for url in urls:
            wait_for(lambda url=url: got(one.get(url, caching=caching)).body == b"new")  # type: ignore[misc]
    assert 0 < len(renewing) <= MOST_RENEWALS


def test_an_old_answer_is_better_than_a_failure(process: Process) -> None:
    one, caching = process(), Caching(fresh=0.05, stale=60)
    with hostile(answers(b"old"), says(b"rubbish\r\n\r\n")) as server:
        got(one.get(server.url, caching=caching))
        wait_for(lambda: got(one.get(server.url, caching=caching)).stale)
        wait_for(lambda: got(one.get(server.url, caching=caching)).body == b"old" and len(server.requests) > 1)


def test_what_cannot_be_renewed_is_left_alone_for_a_while_however_many_read_it(process: Process) -> None:
    one, caching = process(pause=0.5), Caching(fresh=0.02, stale=60)
    with hostile(answers(b"old"), answers(status="403 No"), answers(b"new")) as server:
        got(one.get(server.url, caching=caching))
        wait_for(lambda: got(one.get(server.url, caching=caching)).stale and len(server.requests) == 2)
        for _ in range(10):
            assert got(one.get(server.url, caching=caching)).body == b"old"
        assert len(server.requests) == 2
        wait_for(lambda: got(one.get(server.url, caching=caching)).body == b"new")
        assert server.times[2] - server.times[1] > 0.5


def test_a_hasty_reader_has_it_renewed_with_patience(process: Process) -> None:
    one, caching, go = process(renewal=10), Caching(fresh=0.02, stale=60), threading.Event()
    with hostile(answers(b"old"), slowly(b"new", go)) as server:
        got(one.get(server.url, caching=caching))
        wait_for(lambda: got(one.get(server.url, caching=caching, deadline=0.2)).stale and len(server.requests) == 2)
        over = time.monotonic() + 0.2
        wait_for(lambda: time.monotonic() > over)
        go.set()
        wait_for(lambda: got(one.get(server.url, caching=caching)).body == b"new")
        assert len(server.requests) == 2


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, 1e12])
def test_a_time_to_keep_that_is_none_is_refused(seconds: float) -> None:
    for field in ("fresh", "stale", "negative"):
        with pytest.raises(UsageError):
            Caching(**{"fresh": 60.0, field: seconds})


def test_what_is_kept_and_makes_no_sense_is_asked_for_again(redis_server: Stack, process: Process) -> None:
    with hostile(answers(b"hello")) as server, redis.Redis.from_url(redis_server.redis_url(2)) as connection:
        process().get(server.url, caching=MINUTE)
        (entry,) = (key for key in connection.keys("MB:http:*") if b"clock" not in key)
        header, _, _ = connection.get(entry).partition(b"\n")
        for rubbish in (b"+rubbish", b'+{"status": 200}\nhello', b"+[]\n", b"-"):
            connection.set(entry, header + b"\n" + rubbish, px=60_000)
            assert got(process().get(server.url, caching=MINUTE)).body == b"hello"


def test_an_old_answer_is_given_also_where_no_thread_can_renew_it(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one, caching = process(), Caching(fresh=0.05, stale=60)
    with hostile(answers(b"old"), answers(b"new")) as server:
        got(one.get(server.url, caching=caching))
        with monkeypatch.context() as without:
            without.setattr(threading.Thread, "start", none)
            wait_for(lambda: got(one.get(server.url, caching=caching)).stale)
        wait_for(lambda: got(one.get(server.url, caching=caching)).body == b"new")


def test_without_its_redis_every_process_asks_for_itself(client: Make) -> None:
    with nobody() as away, hostile(answers(b"asked")) as server:
        one = client(answers=Answers(RedisLeased(away, "MB:http")))
        for _ in range(2):
            assert got(one.get(server.url, caching=MINUTE)).body == b"asked"
        assert _requests(server) == 2


def _requests(server: Hostile) -> int:
    return len(server.requests)
