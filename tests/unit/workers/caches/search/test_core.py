import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from workers.caches.search.core import LONGEST_BYTES, key, normalised


@pytest.mark.parametrize(
    ("given_name", "looked_for"),
    [
        ("  The Beatles\t", "the beatles"),
        ("A  B", "a  b"),
        ("A\u3000B", "A\u3000B"),
        ("Bjo\u0308rk", "Björk"),
        ("!!!", "!!!"),
        ("ÉLAN", "ÉLAN"),
    ],
)
def test_what_finds_the_same_is_asked_in_the_same_words(given_name: str, looked_for: str) -> None:
    assert normalised("artist", given_name) == looked_for


def test_case_matters_in_urls() -> None:
    assert normalised("url", "https://example.org/A") == "https://example.org/A"


@pytest.mark.parametrize("name", ["", " \n", "a\0b", "\ud800", "a" * (LONGEST_BYTES + 1), "é" * LONGEST_BYTES])
def test_what_nothing_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        normalised("artist", name)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40))
def test_normalising_again_changes_nothing_and_a_key_is_short_and_plain(name: str) -> None:
    try:
        wanted = normalised("artist", name)
    except UsageError:
        return
    assert normalised("artist", wanted) == wanted
    assert key("artist", wanted).isascii()
    assert len(key("release_group", wanted)) < 60
