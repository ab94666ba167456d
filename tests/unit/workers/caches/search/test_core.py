import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from workers.caches.search.core import LONGEST_BYTES, MOST_LETTERS, MOST_SPELLINGS, key, normalised, spellings


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


def test_a_name_that_is_too_long_is_not_even_normalised() -> None:
    """Python puts marks in order in the square of their number, and no other thread runs meanwhile."""
    with pytest.raises(UsageError):
        normalised("artist", "e\u0301" * (LONGEST_BYTES // 3 + 1))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40))
def test_normalising_again_changes_nothing_and_a_key_is_short_and_plain(name: str) -> None:
    try:
        wanted = normalised("artist", name)
    except UsageError:
        return
    assert normalised("artist", wanted) == wanted
    assert key("artist", wanted).isascii()
    assert len(key("release_group", wanted)) < 60


@given(st.text("aBcÉñøд-[7! ", min_size=1, max_size=9), st.integers(min_value=0))
def test_a_short_name_is_among_the_spellings_of_every_other_spelling(name: str, cases: int) -> None:
    other = "".join(c.upper() if cases >> at & 1 else c.lower() for at, c in enumerate(name))
    found, complete = spellings(other)
    assert complete
    assert name in found
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("?!", ["?!"]),
        ("a1", ["a1", "A1"]),
        ("xς", ["xς", "xΣ", "xσ", "Xς", "XΣ", "Xσ"]),
    ],
)
def test_letters_alone_have_cases(name: str, found: list[str]) -> None:
    assert spellings(name) == (found, True)


@pytest.mark.parametrize("name", ["introductions", "straße", "İ", "ab" + "1" * MOST_LETTERS])
def test_of_a_name_with_too_many_spellings_the_usual_ones_are_tried(name: str) -> None:
    found, complete = spellings(name)
    assert not complete
    assert name in found
    assert len(found) <= 5


def test_the_usual_spellings_are_of_words() -> None:
    found, _ = spellings("don't  stop (believing)")
    assert "Don't  Stop (believing)" in found


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_no_name_has_more_spellings_than_are_asked_for(name: str) -> None:
    found, _ = spellings(name)
    assert len(found) <= MOST_SPELLINGS
    assert sum(map(len, found)) <= MOST_LETTERS
