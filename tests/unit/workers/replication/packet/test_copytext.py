r"""COPY text means to us what it means to PostgreSQL."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.replication.packet import copytext
from workers.replication.packet.errors import PacketError

# Mostly what is special, so that it meets.
values = st.one_of(st.binary(), st.lists(st.sampled_from(list(b'\\\\\n\t\r\b\f\vNnx"'))).map(bytes))


@given(st.lists(st.none() | values, min_size=1))
@example([None, rb"\N", b"", b"\\"])
def test_a_row_comes_back_as_it_was(row: list[bytes | None]) -> None:
    line = copytext.encode(row)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.count(b"\t") == len(row) - 1
    assert copytext.decode(line[:-1]) == row


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_json_comes_back_as_it_was(value: object) -> None:
    text = json.dumps(value).encode()

    assert copytext.unescape(copytext.escape(text)) == text


def test_what_is_written_is_what_postgresql_writes() -> None:
    assert copytext.encode([b"a\\b\tc\nd\re\bf\fg\vh\x07", None, b"", b"\xc3\xa9"]) == (
        rb"a\\b\tc\nd\re\bf\fg\vh" + b"\x07\t" + rb"\N" + b"\t\t\xc3\xa9\n"
    )


@pytest.mark.parametrize(
    "field", [b"\\", rb"a\\\ ", rb"\N", rb"x\N", rb"\101", rb"\x41", rb"\q", rb"\.", b"\\\\\\", b"\\\n"]
)
def test_an_escape_that_copy_does_not_write_is_refused(field: bytes) -> None:
    with pytest.raises(PacketError, match="invalid escape"):
        copytext.unescape(field)
