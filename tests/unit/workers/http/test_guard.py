"""Which URLs and addresses a user may have us call."""

import pytest

from events.errors import UsageError
from workers.http.core import CallError, parsed_url
from workers.http.guard import check_url, is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.215.14",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "64:ff9b::1.1.1.1",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.9.9.9",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:1.1.1.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1.1.1.1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:101:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%1",
        "fec0::1",
        "ff02::1",
        "",
        "example.org",
        "2130706433",
        "0x7f.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def refused(url: str, *, allow_http: bool = False) -> bool:
    try:
        check_url(parsed_url(url), allow_http=allow_http)
    except (CallError, UsageError):
        return True
    return False


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?x=1",
        "https://example.org:443/",
        "https://example.org:8443/",
        "https://sub-domain.example_org.co/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]/",
        "https://bücher.example/",
        "https://1.1.1.1.example/",
        "https://0x7f.example/",
    ],
)
def test_urls_that_users_may_give(url: str) -> None:
    assert not refused(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org:70/_",
        "https://user@example.org/",
        "https://example.org@127.0.0.1/",
        "https://:secret@example.org/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7F.0.0.1/",
        "https://0177.0.0.1/",
        "https://0300.0250.1.1/",
        "https://127.0.0.1./",
        "https://1.1.1.1./",
        "https://localhost./",
        "https://example.org./",
        "https://0/",
        "https://0x/",
        "https://1.2.3.4.5/",
        "https://999.1.1.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::]/",
        "https://%31%32%37.0.0.1/",
        "https://127%2e0.0.1/",
        "https://exam%70le.org/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://１２７.0.0.1/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org#@127.0.0.1:22/:99999",
        "https://example.org\t.evil/",
        "https://exa\x00mple.org/",
        "https://-example.org/",
        "https://example..org/",
        "https:///example.org/",
        "https://",
        "//example.org/",
        "example.org",
        "https://example.org:22/",
        "https://example.org:25/",
        "https://example.org:6000/",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:-1/",
        "https://example.org:443:22/",
        "javascript:alert(1)",
    ],
)
def test_urls_that_users_may_not_give(url: str) -> None:
    if url == "https://example.org#@127.0.0.1:22/:99999":
        # A fragment is nobody's host: what is connected to is example.org.
        assert parsed_url(url).host == "example.org"
        return
    assert refused(url)


def test_http_is_taken_where_it_is_configured() -> None:
    assert not refused("http://example.org/", allow_http=True)
    assert refused("http://127.0.0.1/", allow_http=True)
