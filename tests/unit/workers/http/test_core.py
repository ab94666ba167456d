"""What is decided on the way of a call."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from workers.http.core import (
    MOST_RETRY_AFTER,
    REDIRECTS,
    CallError,
    Kind,
    Reply,
    Request,
    agent,
    check,
    host_of,
    is_wikimedia,
    parsed_url,
    redirected,
    retry_after,
    retry_delay,
    told,
    with_maxlag,
)

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def request(url: str = "https://example.org/a?b=1", method: str = "GET", **headers: str) -> Request:
    return Request(method, parsed_url(url), headers, b"body" if method == "POST" else b"")


def leads_to(location: str, status: int = 302) -> Reply:
    return Reply(status, {"location": location}, b"")


def anywhere(_: str) -> bool:
    return True


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "https://",
        "https://user:secret@example.org/",
        "https://user:secret/2@example.org/",
        "https://user:secret#2@example.org/",
        "http://[::/",
        "http://[fe80::1%ß]/",
        "http://[fe80::1%eth0]/",
        "http://a b.org/",
        "http://a\n.org",
    ],
)
def test_what_is_no_web_address_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed_url(url)
    assert "secret" not in str(caught.value)


def test_the_agent_is_the_seeds_or_names_the_operator() -> None:
    assert agent("1.2", None) == "MusicBrainz/1.0 (https://musicbrainz.org)"
    assert agent("1.2", "ops@example.org") == f"mbevents/1.2 (ops@example.org) httpx/{httpx.__version__}"


@pytest.mark.parametrize("host", ["en.wikipedia.org", "wikidata.org", "www.wikidata.org", "upload.wikimedia.org"])
def test_wikimedias_hosts_are_known_also_in_disguise(host: str) -> None:
    assert is_wikimedia(host_of(parsed_url(f"https://{host}/")))
    assert is_wikimedia(host_of(parsed_url(f"https://{host.upper()}./")))


@pytest.mark.parametrize("host", ["wikipedia.org.example", "notwikipedia.org", "wikipedia.example"])
def test_hosts_that_only_look_like_wikimedias_are_not(host: str) -> None:
    assert not is_wikimedia(host)


def test_what_is_told_of_a_url_has_no_query() -> None:
    assert told(parsed_url("https://example.org:8443/a/b?token=secret#c")) == "https://example.org:8443/a/b"
    # Nor anything that a terminal or a log would take for more than text.
    assert told(parsed_url("https://example.org/a%0A%1B[2J%3Fb?c")) == "https://example.org/a%0A%1B[2J%3Fb"
    assert told(parsed_url("https://example.org/ü")) == "https://example.org/%C3%BC"


def test_maxlag_is_asked_of_mediawikis_api_only_and_once() -> None:
    api = "https://en.wikipedia.org/w/api.php"
    assert str(with_maxlag(request(f"{api}?titles=A%20B"), 5).url) == f"{api}?titles=A%20B&maxlag=5"
    assert str(with_maxlag(request(api), 5).url) == f"{api}?maxlag=5"
    assert str(with_maxlag(request(f"{api}?maxlag=9"), 5).url) == f"{api}?maxlag=9"
    assert str(with_maxlag(request(f"{api}?a=1"), None).url) == f"{api}?a=1"
    assert str(with_maxlag(request(), 5).url) == str(request().url)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("17", 17),
        (" 17 ", 17),
        ("99999", MOST_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW - timedelta(days=3), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=3), usegmt=True), MOST_RETRY_AFTER),
        ("Friday, 01-May-26 12:00:30 GMT", 30),
        ("-1", None),
        ("1.5", None),
        ("9" * 10, MOST_RETRY_AFTER),
        ("9" * 5000, MOST_RETRY_AFTER),
        ("soon", None),
        ("Fri, 99 May 2026 12:00:00 GMT", None),
        ("٣", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_never_too_long(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_a_date_is_by_the_servers_own_clock() -> None:
    at, theirs = (format_datetime(NOW + timedelta(hours=3, seconds=n), usegmt=True) for n in (30, 0))
    for date, seconds in ((theirs, 30), ("nonsense", MOST_RETRY_AFTER), ("", MOST_RETRY_AFTER)):
        with pytest.raises(CallError) as caught:
            check(Reply(503, {"retry-after": at, "date": date}, b""), NOW)
        assert caught.value.retry_after == seconds


@given(st.text("0123456789 ,:-+.aeFriMyGT", max_size=40))
def test_any_retry_after_is_none_or_in_bounds(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MOST_RETRY_AFTER


def test_a_try_waits_at_random_up_to_twice_as_long_as_the_last() -> None:
    error = CallError(Kind.CONNECTION, "gone")
    assert retry_delay(error, 1, left=100, uniform=lambda _, high: high) == 1
    assert retry_delay(error, 2, left=100, uniform=lambda _, high: high) == 2
    assert retry_delay(error, 1, left=100, uniform=lambda low, _: low) == 0
    assert retry_delay(error, 3, left=100) is None


def test_nothing_is_tried_again_that_would_be_too_late() -> None:
    assert retry_delay(CallError(Kind.THROTTLED, "", retry_after=10), 1, left=9) is None
    assert retry_delay(CallError(Kind.THROTTLED, "", retry_after=10), 1, left=12, uniform=lambda *_: 1) == 11


@pytest.mark.parametrize("kind", [each for each in Kind if each.startswith(("too_", "bad_", "forbidden_", "circuit"))])
def test_what_cannot_pass_by_itself_is_not_tried_again(kind: Kind) -> None:
    assert retry_delay(CallError(kind, ""), 1, left=100) is None


@pytest.mark.parametrize(
    ("body", "content_type", "throttled"),
    [
        (b'{"error": {"code": "maxlag"}}', "application/json", True),
        (b'{"error": {"code": "ratelimited"}}', "application/json; charset=utf-8", True),
        (b'{"errors": [{"code": "x"}, {"code": "maxlag"}]}', "application/json", True),
        (b'{"error": {"code": "missingtitle", "info": "maxlag"}}', "application/json", False),
        (b'{"query": {"error": {"code": "maxlag"}}}', "application/json", False),
        (b'{"error": "maxlag", "errors": "maxlag"}', "application/json", False),
        (b'{"error": {"code": ["maxlag"]}, "errors": [1, null, "maxlag"]}', "application/json", False),
        (b'["maxlag"]', "application/json", False),
        (b'{"error": {"code": "maxlag"', "application/json", False),
        (b'{"error": {"code": "maxlag"}}', "text/html", False),
        (b'{"a":' * 5000 + b'"maxlag"', "application/json", False),
    ],
)
def test_a_refusal_in_an_answer_with_status_200_is_found(body: bytes, content_type: str, throttled: bool) -> None:
    reply = Reply(200, {"content-type": content_type, "retry-after": "5"}, body)
    if not throttled:
        check(reply, NOW)
        return
    with pytest.raises(CallError) as caught:
        check(reply, NOW)
    assert (caught.value.kind, caught.value.retry_after) == (Kind.THROTTLED, 5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "missingtitle"}}', "missingtitle"),
        (b'{"errors": [{"code": "internal_api_error_DBQueryError", "text": "secret"}]}', "internal_api_error_DB"),
        (b'{"error": {"code": "no\\nsecret"}}', None),
        (b'{"error": {"code": 7}, "errors": {"code": "x"}}', None),
        (b'{"query": {"error": {"code": "x"}}}', None),
        (b'{"warnings": {"main": {"code": "x"}}, "error": null, "errors": []}', None),
    ],
)
def test_any_error_of_mediawiki_is_no_answer_and_of_others_is_theirs(body: bytes, code: str | None) -> None:
    reply = Reply(200, {"content-type": "application/json"}, body)
    check(reply, NOW)
    if code is None:
        check(reply, NOW, mediawiki=True)
        return
    with pytest.raises(CallError, match=code) as caught:
        check(reply, NOW, mediawiki=True)
    assert caught.value.kind is Kind.API_ERROR
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("status", [200, 204, 206, 304, 404, 410])
def test_these_statuses_are_answers(status: int) -> None:
    check(Reply(status, {}, b""), NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Kind.STATUS_3XX),
        (400, Kind.STATUS_4XX),
        (429, Kind.THROTTLED),
        (500, Kind.STATUS_5XX),
        (999, Kind.STATUS_5XX),
    ],
)
def test_these_are_failures(status: int, kind: Kind) -> None:
    with pytest.raises(CallError) as caught:
        check(Reply(status, {}, b""), NOW)
    assert (caught.value.kind, caught.value.status) == (kind, status)


def test_a_redirect_is_followed_relative_to_where_it_came_from() -> None:
    found = redirected(request("https://example.org/a/b"), leads_to("../c?d=1"), hops=0, allowed=anywhere)
    assert str(found.url) == "https://example.org/c?d=1"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        # As it stands in the headers, whose bytes are taken for Latin-1.
        ("/wiki/Björk".encode().decode("latin-1"), b"/wiki/Bj%C3%B6rk"),
        ("/wiki/Bj\xf6rk", b"/wiki/Bj%C3%B6rk"),
        ("/wiki/Bj%C3%B6rk", b"/wiki/Bj%C3%B6rk"),
    ],
)
def test_a_redirect_that_is_not_encoded_is_utf_8_where_it_can_be(location: str, path: bytes) -> None:
    assert redirected(request(), leads_to(location), hops=0, allowed=anywhere).url.raw_path == path


def test_secrets_stay_with_their_origin() -> None:
    asked = request(Authorization="secret", COOKIE="secret", **{"X-Api-Key": "secret"}, Accept="text/html")
    assert redirected(asked, leads_to("/other"), hops=0, allowed=anywhere).headers == asked.headers
    for elsewhere in ("https://other.example/", "https://example.org:8443/", "//www.example.org/"):
        assert redirected(asked, leads_to(elsewhere), hops=0, allowed=anywhere).headers == {"Accept": "text/html"}


def test_they_do_not_come_back_with_a_redirect_that_comes_back() -> None:
    away = redirected(request(Authorization="secret"), leads_to("https://other.example/"), hops=0, allowed=anywhere)
    back = redirected(away, leads_to("https://example.org/"), hops=1, allowed=anywhere)
    assert back.headers == {}


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://example.org/", Kind.FORBIDDEN_REDIRECT),
        ("ftp://example.org/", Kind.FORBIDDEN_REDIRECT),
        ("https://u:p@example.org/", Kind.FORBIDDEN_REDIRECT),
        ("http://[", Kind.FORBIDDEN_REDIRECT),
        ("https://exa mple.org/", Kind.FORBIDDEN_REDIRECT),
        ("https://elsewhere.example/", Kind.FORBIDDEN_REDIRECT),
    ],
)
def test_redirects_that_are_not_followed(location: str, kind: Kind) -> None:
    with pytest.raises(CallError) as caught:
        redirected(request(), leads_to(location), hops=0, allowed=lambda host: host == "example.org")
    assert caught.value.kind is kind


def test_a_redirect_may_lead_from_http_to_https() -> None:
    found = redirected(request("http://example.org/"), leads_to("https://example.org/"), hops=0, allowed=anywhere)
    assert found.url.scheme == "https"


def test_only_so_many_redirects_are_followed() -> None:
    redirected(request(), leads_to("/"), hops=REDIRECTS - 1, allowed=anywhere)
    with pytest.raises(CallError) as caught:
        redirected(request(), leads_to("/"), hops=REDIRECTS, allowed=anywhere)
    assert caught.value.kind is Kind.TOO_MANY_REDIRECTS


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
        ("PUT", 302, "PUT"),
        ("PUT", 303, "GET"),
        ("HEAD", 303, "HEAD"),
        ("GET", 301, "GET"),
    ],
)
def test_the_method_after_a_redirect(method: str, status: int, then: str) -> None:
    asked = request("https://example.org/", method, **{"Content-Type": "text/plain"})
    found = redirected(asked, leads_to("/b", status), hops=0, allowed=anywhere)
    assert found.method == then
    kept = method == then
    assert found.body == (asked.body if kept else b"")
    assert ("Content-Type" in found.headers) is kept


def test_a_requests_name_is_the_same_for_the_same_and_tells_nothing() -> None:
    one, same = request(A="1", B="2"), request(b="2", a="1")
    assert one.name == same.name
    assert len({one.name, request(A="2", B="2").name, request().name, request("https://example.org/a?b=2").name}) == 4
    assert "example" not in json.dumps(one.name)
