"""URLs of users: a server on loopback, and whatever resolves to it, is never reached."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.certificates import certificate
from tests.integration.workers.http.hostile import answers, hostile, redirects
from tests.integration.workers.http.making import FREE, Make, kind
from workers.http.buckets import LocalBuckets
from workers.http.core import Answer, Failure, Kind
from workers.http.guard import is_public
from workers.http.network import Resolve
from workers.http.policies import Policies, Policy
from workers.http.service import Guard

HTTP = Guard(allow_http=True)


def leads_to(*addresses: str) -> Resolve:
    return lambda _host, _port, _seconds: list(addresses)


def guarded(
    client: Make, resolve: Resolve, guard: Guard = HTTP, allowed: Callable[[str], bool] = is_public
) -> Callable:  # type: ignore[type-arg]
    return client(guarded=guard, resolve=resolve, allowed=allowed).get


PRIVATE = [
    "127.0.0.1",
    "::1",
    "0.0.0.0",
    "10.1.2.3",
    "169.254.169.254",
    "100.64.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fd00::1",
    "fe80::1%lo",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_resolves_to_what_is_not_public_is_not_connected_to(client: Make, address: str) -> None:
    with hostile(answers()) as server:
        outcome = guarded(client, leads_to(address))(f"http://hook.example:{server.port}/")
        assert isinstance(outcome, Failure)
        assert outcome.kind is Kind.FORBIDDEN_ADDRESS
        # Nor do users learn by it which addresses our own network has.
        assert address not in outcome.message
        assert server.connections == 0


def test_one_address_that_is_not_public_is_one_too_many(client: Make) -> None:
    with hostile(answers()) as server:
        get = guarded(client, leads_to("93.184.215.14", "127.0.0.1"))
        assert kind(get(f"http://hook.example:{server.port}/")) is Kind.FORBIDDEN_ADDRESS
        assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://localhost.:{port}/",
        "http://%6c%6f%63%61%6c%68%6f%73%74:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://public.example@127.0.0.1:{port}/",
        "http://0:{port}/",
    ],
)
def test_no_way_to_write_loopback_leads_there(client: Make, url: str) -> None:
    with hostile(answers()) as server:
        # With the real resolver, which knows some of these.
        outcome = client(guarded=HTTP, allowed=is_public).get(url.format(port=server.port))
        assert kind(outcome) in {Kind.FORBIDDEN_ADDRESS, Kind.BAD_URL}
        assert server.connections == 0


def test_a_name_that_is_rebound_after_it_was_looked_at_leads_to_what_was_looked_at(client: Make) -> None:
    """Resolved once for each connection, and that is what is connected to."""
    asked: list[str] = []

    def rebinds(host: str, _port: int, _seconds: float) -> list[str]:
        asked.append(host)
        return ["127.0.0.2" if len(asked) == 1 else "127.0.0.1"]

    with hostile(answers()) as server:
        # 127.0.0.2, where nobody listens, stands for the public address.
        get = guarded(client, rebinds, allowed=lambda address: address == "127.0.0.2")
        # The second try is a new connection, and its address is looked at anew.
        assert kind(get(f"http://hook.example:{server.port}/")) is Kind.FORBIDDEN_ADDRESS
        assert server.connections == 0
    assert asked == ["hook.example", "hook.example"]


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("http://169.254.169.254/latest/meta-data/", Kind.FORBIDDEN_ADDRESS),
        ("http://inside.example:{port}/", Kind.FORBIDDEN_ADDRESS),
        ("http://hook.example:22/", Kind.BAD_URL),
        ("http://2130706433:{port}/", Kind.BAD_URL),
        ("http://user:password@hook.example:{port}/", Kind.FORBIDDEN_REDIRECT),
        ("gopher://hook.example:{port}/", Kind.FORBIDDEN_REDIRECT),
    ],
)
def test_every_redirect_is_looked_at_as_the_first_url_was(client: Make, location: str, wanted: Kind) -> None:
    def resolve(host: str, _port: int, _seconds: float) -> list[str]:
        return ["127.0.0.1"] if host == "hook.example" else ["10.0.0.1"]

    with hostile(answers()) as inside:
        with hostile(redirects(location.format(port=inside.port))) as server:
            # Loopback stands for what is public here.
            get = guarded(client, resolve, allowed=lambda address: address == "127.0.0.1")
            assert kind(get(f"http://hook.example:{server.port}/")) is wanted
            assert len(server.requests) == 1
        assert inside.connections == 0


def test_http_is_not_taken_unless_it_is_configured(client: Make) -> None:
    with hostile(answers()) as server:
        get = guarded(client, leads_to("127.0.0.1"), Guard(), allowed=lambda _: True)
        assert kind(get(f"http://hook.example:{server.port}/")) is Kind.BAD_URL
        assert server.connections == 0


def test_what_is_wrong_with_a_users_url_is_an_outcome_and_no_error(client: Make) -> None:
    get = client(guarded=Guard()).get
    for url in ("", "nonsense", "https://", "https://user:secret@hook.example/", "https://hook.example:99999/"):
        outcome = get(url)
        assert isinstance(outcome, Failure)
        assert outcome.kind is Kind.BAD_URL
        assert "secret" not in outcome.message + outcome.url


def test_the_connection_goes_to_the_address_and_the_certificate_is_for_the_name(
    client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, "hook.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    with hostile(answers(b"taken"), tls=tls) as server:
        one = client(guarded=Guard(), resolve=leads_to("127.0.0.1"), allowed=lambda _: True)
        answer = one.post(f"https://hook.example:{server.port}/in?a=b", b"{}", headers={"Webhook-Id": "1"})
        assert isinstance(answer, Answer)
        assert answer.body == b"taken"
        assert f"Host: hook.example:{server.port}".encode() in server.requests[0]
        assert kind(one.get(f"https://other.example:{server.port}/")) is Kind.TLS


def test_a_proxy_of_the_environment_is_no_way_round(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(answers()) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert kind(guarded(client, leads_to("10.0.0.1"))("http://hook.example/")) is Kind.FORBIDDEN_ADDRESS
        assert proxy.connections == 0


def test_a_users_server_that_fails_is_not_the_operators_concern(client: Make) -> None:
    with capture_logs() as lines, hostile(answers(status="500 Oops")) as server:
        get = guarded(client, leads_to("127.0.0.1"), allowed=lambda _: True)
        assert kind(get(f"http://hook.example:{server.port}/")) is Kind.STATUS_5XX
    assert [line for line in lines if line["log_level"] in {"error", "warning"}] == []


def test_users_do_not_take_the_turns_of_services_that_we_ask(client: Make) -> None:
    policies = Policies([Policy("known", ("*.known.example",), rate=1)], FREE)
    buckets, allowed = LocalBuckets(), lambda _: True
    users = client(guarded=HTTP, policies=policies, buckets=buckets, resolve=leads_to("127.0.0.1"), allowed=allowed)
    known = client(policies=policies, buckets=buckets, resolve=leads_to("127.0.0.1"), deadline=0.5)
    with hostile(redirects("http://www.known.example:9999/"), answers()) as server:
        assert kind(users.get(f"http://hook.example:{server.port}/")) is Kind.BAD_URL
        assert kind(users.get(f"http://known.example.:{server.port}/")) is Kind.BAD_URL
        assert kind(users.get(f"http://known.example:{server.port}/")) is Kind.BAD_URL
        assert len(server.requests) == 1
        assert isinstance(known.get(f"http://known.example:{server.port}/"), Answer)
