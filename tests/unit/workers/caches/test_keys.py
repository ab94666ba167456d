"""The names of entities, and what is kept of one."""

import pytest

from workers.caches.keys import EntityKey, Redirect, decode, encode, is_mbid

from .making import mbid

ABSENT = "8e7c0c44-0c4b-3e11-9b4d-8e6b8f8f0e2d"


@pytest.mark.parametrize("known", [None, Redirect(mbid()), b'{"name":"\xc3\xb8"}', b"{}"])
def test_documents_redirects_and_absence_are_told_apart(known: bytes | Redirect | None) -> None:
    assert decode(encode(known)) == known


def test_entities_have_the_names_that_others_rely_on() -> None:
    assert EntityKey("release_group", ABSENT).name == f"release_group:{ABSENT}"


@pytest.mark.parametrize(
    "text",
    ["", "x", ABSENT.upper() + "0", ABSENT.replace("-", ""), ABSENT + "\n", f"{ABSENT}:lease", ABSENT[:-1] + "g"],
)
def test_only_what_postgres_writes_is_an_mbid(text: str) -> None:
    assert not is_mbid(text)
    assert is_mbid(mbid())
