import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.urls import database_name, hidden, is_loopback, parsed_listen


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://mb:pw@db:5432/mb?sslmode=require", "postgresql://mb:***@db:5432/mb?sslmode=require"),
        ("postgresql://mb@db/mb", "postgresql://mb@db/mb"),
        ("postgresql://db/mb?password=pw&user=u", "postgresql://db/mb?password=***&user=u"),
        ("postgresql://a@/db?host=/run/pg", "postgresql://a@/db?host=/run/pg"),
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("host=db password='p w' dbname=mb", "host=db password=*** dbname=mb"),
        ("host=db password=pw dbname=mb", "host=db password=*** dbname=mb"),
        ("user:pw@h", "***@h"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("https://key@sentry.example/1", "https://***@sentry.example/1"),
        ("h:6379", "h:6379"),
        ("redis://[broken", "***"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    assert hidden(address) == shown


@given(st.text(st.characters(exclude_characters="@/?#[]\\", exclude_categories=["C"]), min_size=1))
def test_no_password_is_ever_shown(password: str) -> None:
    assert f"<{password}>" not in hidden(f"postgresql://user:<{password}>@server/db")


def test_the_database_of_an_address_is_read() -> None:
    assert database_name("postgresql:///mb?host=/run") == "mb"
    assert database_name("host=x dbname=mb") == "mb"


def test_a_listening_address_is_read() -> None:
    assert parsed_listen("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parsed_listen("[::1]:9100") == ("::1", 9100)


@pytest.mark.parametrize(("host", "expected"), [("localhost", True), ("::1", True), ("127.1.2.3", True), ("db", False)])
def test_only_loopback_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
