"""The client as its callers see it."""

from collections import Counter

import pytest
from structlog.testing import capture_logs

from events.errors import UsageError
from ops.metrics import PrometheusTelemetry, make_registry
from tests.integration.workers.http.hostile import answers, hostile, redirects, says
from tests.integration.workers.http.making import FREE, Make, kind
from tests.waiting import wait_for
from workers.http.answers import Caching
from workers.http.core import SEED_AGENT, Answer, Failure, Kind
from workers.http.policies import Policies, Policy


def test_an_answer_comes_with_its_status_headers_and_where_it_came_from(client: Make) -> None:
    with hostile(redirects("/there"), answers(b'{"a": 1}', headers={"X-Many": "1", "x-many": "2"})) as server:
        answer = client().get(f"{server.url}/here")
        assert isinstance(answer, Answer)
        assert (answer.status, answer.json(), answer.url) == (200, {"a": 1}, f"{server.url}/there")
        assert answer.headers["x-many"] == "1, 2"
        assert server.lines() == ["GET /here HTTP/1.1", "GET /there HTTP/1.1"]


def test_what_every_request_says(client: Make) -> None:
    with hostile(answers()) as server:
        client().get(server.url, headers={"Accept": "application/json"})
        lines = server.requests[0].decode().lower().split("\r\n")
    assert "accept-encoding: gzip" in lines
    assert "user-agent: test" in lines
    assert "accept: application/json" in lines
    assert Counter(line.partition(":")[0] for line in lines)["accept"] == 1


def test_no_cookie_is_kept_for_the_next_caller(client: Make) -> None:
    with hostile(answers(headers={"Set-Cookie": "session=secret"})) as server:
        one = client()
        one.get(server.url)
        one.get(server.url)
    assert b"secret" not in b"".join(server.requests)


def test_no_proxy_of_the_environment_is_used(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(answers(b"proxy")) as proxy, hostile(answers(b"server")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        answer = client().get(server.url)
        assert isinstance(answer, Answer)
        assert answer.body == b"server"
        assert proxy.requests == []


@pytest.mark.parametrize(
    "url", ["https://en.wikipedia.org/w/api.php", "https://www.wikidata.org/", "https://upload.wikimedia.org/"]
)
def test_live_wikimedia_is_not_asked_by_nobody(client: Make, url: str) -> None:
    outcome = client(resolve=never).get(url)
    assert isinstance(outcome, Failure)
    assert outcome.kind is Kind.UNIDENTIFIED
    assert "OPERATOR_CONTACT" in outcome.message


def test_a_redirect_to_live_wikimedia_is_not_followed_by_nobody_either(client: Make) -> None:
    policies = Policies([Policy("both", ("127.0.0.1", "*.wikipedia.org"))])
    with hostile(redirects("https://en.wikipedia.org/")) as server:
        assert kind(client(policies=policies, resolve=here).get(server.url)) is Kind.UNIDENTIFIED


def never(host: str, _port: int, _seconds: float) -> list[str]:
    raise AssertionError(host)


def here(_host: str, _port: int, _seconds: float) -> list[str]:
    return ["127.0.0.1"]


def test_maxlag_is_asked_for_where_the_policy_says_so(client: Make) -> None:
    policies = Policies([Policy("wiki", ("127.0.0.1",), maxlag=5)])
    with hostile(answers()) as server:
        client(policies=policies).get(f"{server.url}/w/api.php?action=query")
        assert server.lines() == ["GET /w/api.php?action=query&maxlag=5 HTTP/1.1"]


def test_an_error_of_a_wiki_with_status_200_is_a_failure(client: Make) -> None:
    policies = Policies([Policy("wiki", ("127.0.0.1",), maxlag=5)])
    error = answers(b'{"error": {"code": "readonly"}}', headers={"Content-Type": "application/json"})
    with hostile(error) as server:
        assert kind(client(policies=policies).get(f"{server.url}/w/api.php")) is Kind.API_ERROR
        assert isinstance(client().get(f"{server.url}/w/api.php"), Answer)


def test_a_host_that_fails_again_and_again_is_left_alone(client: Make) -> None:
    with hostile(says(b"")) as server:
        one = client(failures=4)
        assert [kind(one.get(server.url)) for _ in range(4)] == [Kind.CONNECTION] * 2 + [Kind.CIRCUIT_OPEN] * 2
        assert len(server.requests) == 4


def test_a_port_where_nobody_listens_closes_no_other_port_of_the_host(client: Make) -> None:
    one = client(failures=2)
    with hostile(answers()) as server:
        for _ in range(2):
            assert isinstance(one.get("http://127.0.0.1:1/"), Failure)
        assert kind(one.get("http://127.0.0.1:1/")) is Kind.CIRCUIT_OPEN
        assert isinstance(one.get(server.url), Answer)


def test_it_is_asked_again_after_a_while_and_then_as_before(client: Make) -> None:
    with hostile(says(b""), says(b""), answers()) as server:
        one = client(failures=2, open_seconds=0.1)
        assert kind(one.get(server.url)) is Kind.CONNECTION
        assert kind(one.get(server.url)) is Kind.CIRCUIT_OPEN
        wait_for(lambda: isinstance(one.get(server.url), Answer))
        assert isinstance(one.get(server.url), Answer)


def test_a_host_that_refuses_is_still_there(client: Make) -> None:
    with hostile(answers(status="403 No")) as server:
        one = client(failures=2)
        assert [kind(one.get(server.url)) for _ in range(4)] == [Kind.STATUS_4XX] * 4


def test_the_deadline_holds_while_waiting_for_a_turn(client: Make) -> None:
    policies = Policies([Policy("slow", ("127.0.0.1",), rate=0.1)])
    with hostile(answers()) as server:
        one = client(policies=policies, deadline=3)
        assert isinstance(one.get(server.url), Answer)
        outcome = one.get(server.url)
        assert isinstance(outcome, Failure)
        assert outcome.kind is Kind.LIMITED
        assert outcome.retry_after is not None
        assert 5 < outcome.retry_after <= 10
        assert len(server.requests) == 1


def test_every_hop_and_every_try_takes_a_turn(client: Make) -> None:
    policies = Policies([Policy("slow", ("127.0.0.1",), rate=20)])
    with hostile(redirects("/b"), answers(status="503 Busy"), redirects("/b"), answers()) as server:
        assert isinstance(client(policies=policies).get(server.url), Answer)
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 3
    assert min(gaps) >= 0.05


def test_what_calls_come_to_is_counted_by_host_and_status(client: Make) -> None:
    registry = make_registry("test")
    policies = Policies([Policy("known", ("127.0.0.1",))], FREE)
    with hostile(answers(status="503 Busy"), answers(), answers(status="404 No")) as server:
        one = client(policies=policies, telemetry=PrometheusTelemetry(registry))
        one.get(server.url)
        one.get(server.url)
        one.get(f"http://localhost:{server.port}/")
    one.get(server.url)

    def count(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert count("mbevents_http_requests_total", host="known", status="2xx") == 1
    assert count("mbevents_http_requests_total", host="known", status="4xx") == 1
    assert count("mbevents_http_requests_total", host="known", status="5xx") == 1
    assert count("mbevents_http_requests_total", host="known", status="connection") == 3
    assert count("mbevents_http_requests_total", host="other", status="4xx") == 1
    assert count("mbevents_http_retries_total", host="known") == 3
    assert count("mbevents_http_outcomes_total", host="known", outcome="answer") == 2
    assert count("mbevents_http_outcomes_total", host="known", outcome="connection") == 1
    assert count("mbevents_http_seconds_count", host="known") == 6
    assert count("mbevents_http_wait_seconds_count", host="known") == 6


def test_a_failure_is_told_once_and_without_what_was_asked(client: Make) -> None:
    one = client()
    with capture_logs() as lines, hostile(answers(status="500 Oops")) as server:
        for n in range(3):
            one.get(f"{server.url}/private/{n}?token=secret")
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["cause"], line["status"]) for line in errors] == [
        ("http_call_failed", "other: status_5xx", 500)
    ]
    assert "secret" not in str(lines)
    assert "private" not in str(lines)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("nonsense", {}),
        ("https://user:secret@example.org/", {}),
        ("https://example.org/", {"Bad Name": "1"}),
        ("https://example.org/", {"X": "1\r\nY: 2"}),
        ("https://example.org/", {"X": "ü"}),
        ("https://example.org/", {"Authorization": "Bearer secret "}),
        ("https://example.org/", {"Authorization": "\tBearer secret"}),
        ("https://example.org/", {"TE": "secret"}),
        ("https://example.org/", {"Host": "other"}),
        ("https://example.org/", {"User-Agent": SEED_AGENT}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    client: Make, url: str, headers: dict[str, str]
) -> None:
    with pytest.raises(UsageError) as caught:
        client(resolve=never).get(url, headers=headers)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "get", "CONNECT", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET", "GËT"])
def test_other_methods_are_refused_before_anything_is_sent(client: Make, method: str) -> None:
    with pytest.raises(UsageError):
        client(resolve=never).request(method, "https://example.org/")


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 1e12])
def test_a_deadline_that_is_none_is_refused(client: Make, deadline: float) -> None:
    with pytest.raises(UsageError):
        client(resolve=never).get("https://example.org/", deadline=deadline)


def test_a_call_that_has_no_time_left_uses_up_no_turn(client: Make) -> None:
    one = client(policies=Policies([Policy("test", ("127.0.0.1",), rate=0.001)]))
    with hostile(answers()) as server:
        for deadline in (0.0, -1.0):
            assert kind(one.get(server.url, deadline=deadline)) is Kind.DEADLINE
        assert isinstance(one.get(server.url), Answer)


def test_only_what_is_read_is_kept(client: Make) -> None:
    with pytest.raises(UsageError):
        client().request("POST", "https://example.org/", caching=Caching(fresh=1))
    with pytest.raises(UsageError):
        client().get("https://example.org/", caching=Caching(fresh=1))
