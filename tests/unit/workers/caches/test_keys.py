"""The form of entries."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.caches.keys import Cached, EntityKey, Names, Redirect, decode, encode, is_mbid

from .making import mbid

GENERATION = "0123456789abcdef"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(json_values)
def test_an_entry_is_json_and_gives_back_the_very_bytes_of_its_document(value: object) -> None:
    document = orjson.dumps(value)
    entry = encode(GENERATION, document)
    assert orjson.loads(entry) == {"generation": GENERATION, "document": value}
    assert decode(GENERATION.encode(), entry) == Cached(document)


@pytest.mark.parametrize("known", [None, Redirect(mbid())])
def test_redirects_and_absence_are_entries_of_their_own(known: Redirect | None) -> None:
    entry = encode(GENERATION, known)
    assert orjson.loads(entry)["generation"] == GENERATION
    assert decode(GENERATION.encode(), entry) == Cached(known)


@pytest.mark.parametrize(
    ("generation", "raw"),
    [
        (None, encode(GENERATION, b"{}")),
        (b"fedcba9876543210", encode(GENERATION, b"{}")),
        (b"", encode("", b"{}")),
        (GENERATION.encode(), None),
        (GENERATION.encode(), b""),
        (GENERATION.encode(), b"{}"),
        (GENERATION.encode(), encode(GENERATION, b"{}")[:-3] + b"oops"),
        (GENERATION.encode(), b'{"generation":"0123456789abcdef","else":1}'),
    ],
)
def test_another_generation_and_what_we_did_not_write_are_misses(generation: bytes | None, raw: bytes | None) -> None:
    assert decode(generation, raw) is None


@given(st.binary(max_size=80))
def test_no_bytes_at_all_make_reading_fail(raw: bytes) -> None:
    assert decode(GENERATION.encode(), raw) is None or raw.startswith(b'{"generation":"')


def test_keys_have_the_names_that_others_rely_on() -> None:
    names, key = Names("MB"), EntityKey("release_group", "8e7c0c44-0c4b-3e11-9b4d-8e6b8f8f0e2d")
    assert names.entry(key) == "MB:entity:release_group:8e7c0c44-0c4b-3e11-9b4d-8e6b8f8f0e2d"
    assert len({names.entry(key), names.lease(key), names.generation("release_group")}) == 3


ABSENT = "8e7c0c44-0c4b-3e11-9b4d-8e6b8f8f0e2d"


@pytest.mark.parametrize(
    "text",
    ["", "x", ABSENT.upper() + "0", ABSENT.replace("-", ""), ABSENT + "\n", f"{ABSENT}:lease", ABSENT[:-1] + "g"],
)
def test_only_what_postgres_writes_is_an_mbid(text: str) -> None:
    assert not is_mbid(text)
    assert is_mbid(mbid())
