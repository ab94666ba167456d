"""Version 1, from the rows of version 2."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from workers.replication.export.core import Shape
from workers.replication.export.legacy import Legacy
from workers.replication.packet import copytext, v1

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    min_size=1,
)


def data(new: str, shape: Shape | None = None) -> dict[str, bytes | None]:
    """The values of an inserted row."""
    legacy = Legacy({"musicbrainz.t": shape or Shape(("id",))}, last_seqid=1, last_xid=1)
    _, lines = legacy.rows(
        [[b"1", b"musicbrainz.t", b"i", b"1", rb"\N", copytext.escape(new.encode()), rb"\N", rb"\N"]]
    )
    (line,) = lines
    seqid, is_key, row = copytext.decode(line.removesuffix(b"\n"))
    assert (seqid, is_key) == (b"1", b"f")
    assert row is not None
    return v1.decode(row)


def plain(value: object) -> bytes | None:
    if value is None or isinstance(value, bool):
        return {None: None, True: b"t", False: b"f"}[value]
    return str(value).encode()


@given(ROWS)
def test_every_value_is_the_text_that_the_database_prints(row: dict[str, object]) -> None:
    assert data(orjson.dumps(row).decode()) == {column: plain(value) for column, value in row.items()}


def test_numbers_stay_what_they_are_to_the_digit() -> None:
    row = '{"id":1,"exact":1.10,"long":123456789012345678901234567890,"small":1e-7,"spaced" : 2}'
    assert data(row) == {
        "id": b"1", "exact": b"1.10", "long": b"123456789012345678901234567890", "small": b"1e-7", "spaced": b"2",
    }  # fmt: skip


def test_arrays_are_written_as_the_database_writes_them_and_json_as_it_was() -> None:
    row = (
        r'{"numbers":[1,2,null],"texts":["a","b \"c\"\\","null"],"grid":[[1,2],[3,4]],"none":[],"json":{"a": [1, 2.0]}'
    )
    row += r',"string":"x","list":[1, "y"],"docs":[{"a": 1},"z",null],"on":[true]}'
    shape = Shape(
        ("numbers",),
        {
            "numbers": "array", "texts": "array", "grid": "array", "none": "array", "on": "array", "json": "json",
            "string": "json", "list": "json", "docs": "json array",
        },
    )  # fmt: skip
    assert data(row, shape) == {
        "numbers": b'{"1","2",NULL}',
        "texts": rb'{"a","b \"c\"\\","null"}',
        "grid": b'{{"1","2"},{"3","4"}}',
        "none": b"{}",
        "json": b'{"a": [1, 2.0]}',
        "string": b'"x"',
        "list": b'[1, "y"]',
        "docs": rb'{"{\"a\": 1}","\"z\"",NULL}',
        "on": b'{"t"}',
    }


def line(table: str, op: str, old: str | None, new: str | None, *, seqid: int = 1, xid: int = 1) -> list[bytes]:
    rows = [rb"\N" if row is None else copytext.escape(row.encode()) for row in (old, new)]
    return [b"%d" % seqid, copytext.escape(table.encode()), op.encode(), b"%d" % xid, *rows, rb"\N", rb"\N"]


def test_an_update_has_its_old_key_and_its_new_row_and_a_delete_its_key() -> None:
    legacy = Legacy({"musicbrainz.t": Shape(("b", "a"))}, last_seqid=9, last_xid=9)
    pending, rows = legacy.rows(
        [
            line("musicbrainz.t", "u", '{"a":1,"b":2,"c":3}', '{"a":1,"b":5,"c":4}', seqid=7),
            line("musicbrainz.t", "d", '{"a":1,"b":5,"c":4}', None, seqid=8, xid=2),
        ]
    )
    assert pending == [b'7\t"musicbrainz"."t"\tu\t1\n', b'8\t"musicbrainz"."t"\td\t2\n']
    assert rows == [
        b"7\tt\t\"b\"='2' \"a\"='1' \n",
        b"7\tf\t\"a\"='1' \"b\"='5' \"c\"='4' \n",
        b"8\tt\t\"b\"='5' \"a\"='1' \n",
    ]


def test_a_table_without_a_known_key_is_addressed_by_all_its_columns() -> None:
    _, rows = Legacy({}, last_seqid=1, last_xid=1).rows([line("musicbrainz.gone", "d", '{"a":1,"b":null}', None)])
    assert rows == [b'1\tt\t"a"=\'1\' "b"= \n']


def test_names_of_tables_are_quoted_once() -> None:
    tables = ['musicbrainz."📜"', 'documentation."a.b"', "musicbrainz.artist", 'musicbrainz."a""b"']
    pending, _ = Legacy({}, last_seqid=1, last_xid=1).rows([line(table, "i", None, '{"a":1}') for table in tables])
    assert [each.split(b"\t")[1].decode() for each in pending] == [
        '"musicbrainz"."📜"', '"documentation"."a.b"', '"musicbrainz"."artist"', '"musicbrainz"."a""b"',
    ]  # fmt: skip


def test_what_does_not_fit_into_four_bytes_is_numbered_anew() -> None:
    legacy = Legacy({}, last_seqid=2**31, last_xid=2**31)
    lines = [
        line("musicbrainz.t", "i", None, '{"a":1}', seqid=seqid, xid=xid)
        for seqid, xid in ((5, 3), (9, 3), (2**31, 2**31))
    ]
    pending, rows = legacy.rows(lines)
    assert [each.split(b"\t")[::3] for each in pending] == [[b"1", b"1\n"], [b"2", b"1\n"], [b"3", b"2\n"]]
    assert [each.split(b"\t")[0] for each in rows] == [b"1", b"2", b"3"]
