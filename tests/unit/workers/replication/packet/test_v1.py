r"""Rows of version 1, as DBMirror writes them and as its readers understand them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.replication.packet import v1
from workers.replication.packet.errors import PacketError

names = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1)
values = st.one_of(st.binary(), st.lists(st.sampled_from(list(b"\\\\''\" =x"))).map(bytes))
rows = st.dictionaries(names, st.none() | values)


@given(rows)
@example({"a": b"\\'", "b": b"'\\", "c": b"' \"d\"='1' "})
def test_a_row_comes_back_as_it_was(row: dict[str, bytes | None]) -> None:
    decoded = v1.decode(v1.encode(row))

    assert decoded == row
    assert list(decoded) == list(row)


@given(rows)
def test_a_reader_that_knows_doubled_characters_only_reads_the_same(row: dict[str, bytes | None]) -> None:
    found = re.findall(rb"""\"([^"]+)"=('(?:''|[^'])*')? """, v1.encode(row))
    read = {
        name.decode(): text[1:-1].replace(b"''", b"'").replace(rb"\\", b"\\") if text else None for name, text in found
    }

    assert read == row


def test_the_form_is_the_one_of_dbmirror() -> None:
    row = {"id": b"7", "name": b"Guns N' Roses", "comment": b"", "path": b"a\\b", "area": None}

    data = rb""""id"='7' "name"='Guns N'' Roses' "comment"='' "path"='a\\b' "area"= """

    assert v1.encode(row) == data
    assert v1.decode(data) == row
    assert v1.decode(rb""""name"='Guns N\' Roses' """) == {"name": b"Guns N' Roses"}
    assert v1.decode(b"") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"id='7' ",
        b"\"id\"='7'",
        b'"id"=\'7',
        b'"id"=7 ',
        b"\"id\"='7'  \"x\"='1' ",
        b"\"id\"='7' x",
        b"\"\"='7' ",
        b"\"id\"='a\\b' ",
        b"\"id\"='a\\' ",
        b"\"id\"='a'b' ",
        b'"id"=\'' + b"''" * 200_000,
        b'"id"=\'' + b"\\\\" * 200_000 + b"\\",
        b"\"i\xff\"='7' ",
        b"\"id\"='7' \"id\"='8' ",
    ],
)
def test_what_is_not_of_that_form_is_refused(data: bytes) -> None:
    with pytest.raises(PacketError):
        v1.decode(data)


def test_a_name_that_no_reader_would_understand_is_not_written() -> None:
    with pytest.raises(PacketError, match="cannot be written"):
        v1.encode({'a"b': b"1"})
