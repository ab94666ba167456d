import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.derivation import entity_map
from workers.replication.apply.core import Codec, Column, ContradictionError, Net, RowError, Table, ranks

PLAIN = Table("musicbrainz.t", (Column("id", "plain"), Column("name", "plain"), Column("flag", "plain")), ("id",))
ODD = Table(
    "musicbrainz.o",
    (
        Column("id", "plain"),
        Column("number", "exact"),
        Column("list", "array"),
        Column("doc", "json"),
        Column("docs", "json array"),
    ),
    ("id",),
)


def codec(table: Table = PLAIN) -> Codec:
    return Codec(table, table.key)


def written(data: bytes, table: Table = PLAIN) -> str:
    one = codec(table)
    return one.line(one.values(one.row(data)))


def read(line: str) -> list[str | None]:
    """As COPY … (NULL 'None') reads it."""
    values: list[str | None] = []
    for field in line.split("\t"):
        if field == "None":
            values.append(None)
            continue
        text, at = "", 0
        while at < len(field):
            if field[at] == "\\":
                at += 1
                text += {"n": "\n", "r": "\r", "t": "\t"}.get(field[at], field[at])
            else:
                text += field[at]
            at += 1
        values.append(text)
    return values


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.none() | st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
)
def test_a_plain_row_is_written_as_it_is(
    number: int, name: str | None, flag: bool | None, separators: tuple[str, str]
) -> None:
    data = json.dumps({"id": number, "name": name, "flag": flag}, separators=separators, ensure_ascii=False).encode()
    assert read(written(data)) == [str(number), name, None if flag is None else str(flag)]


@pytest.mark.parametrize("text", ["None", "\\N", "a\tb", "a\nb", "a\r", "\\", '"', '":', '" :', '{"id":1}'])
def test_texts_that_look_like_something_else_are_texts(text: str) -> None:
    data = json.dumps({"id": 1, "name": text, "flag": None}).encode()
    assert read(written(data)) == ["1", text, None]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"id":1,"id":2,"name":"x","flag":null}', "has 'id' twice"),
        (b'{"id":1,"name":"x","flag":null,"flag":null}', "has 'flag' twice"),
        (b'{"id":1,"name":"x"}', "lacks the column 'flag'"),
        (b'{"id":1,"name":"x","flag":null,"more":1}', "has a column 'more' that the mirror's table has not"),
        (b'{"id":1,"name":"x","flog":null}', "has a column 'flog'"),
        (b"[1,2,3]", "is no JSON object"),
        (b'{"id":1,"name":{"a":1},"flag":null}', "an object or list where a plain value belongs"),
        (b'{"id":1,"name":[],"flag":null}', "an object or list where a plain value belongs"),
        (b'{"id":1,', "is no JSON"),
        (b'{"id":1,"name":"\xff","flag":null}', "is no JSON"),
        (b"", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
    ],
)
@pytest.mark.parametrize("table", [PLAIN])
def test_what_is_no_row_of_the_table_is_refused(data: bytes, reason: str, table: Table) -> None:
    with pytest.raises(RowError) as refused:
        written(data, table)
    assert reason in str(refused.value)


def test_numbers_are_exact() -> None:
    data = b'{"id":9007199254740993,"number":1.10000000000000000000000000001,"list":null,"doc":null,"docs":null}'
    assert read(written(data, ODD))[:2] == ["9007199254740993", "1.10000000000000000000000000001"]


def test_arrays_and_documents_are_as_postgresql_reads_them() -> None:
    data = b'{"id":1,"number":2e3,"list":[1,null,[2,3]],"doc":{"a": [1.50, "x\\ty"]},"docs":[{"q":"\\"\\\\"},null]}'
    assert read(written(data, ODD)) == [
        "1",
        "2e3",
        '{"1",NULL,{"2","3"}}',
        '{"a": [1.50, "x\\ty"]}',
        '{"{\\"q\\":\\"\\\\\\"\\\\\\\\\\"}",NULL}',
    ]


def test_an_object_in_a_plain_column_of_an_odd_table_is_refused() -> None:
    with pytest.raises(RowError, match="an object or list where a plain value belongs"):
        written(b'{"id":{},"number":1,"list":[],"doc":1,"docs":[]}', ODD)


# What may happen to rows with the keys 0 to 3: made, changed (also to another key), deleted.
HISTORY = st.lists(st.tuples(st.sampled_from("iud"), st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(st.sets(st.integers(0, 3)), HISTORY)
def test_the_net_effect_is_the_effect_of_the_whole_history(
    there: set[int], history: list[tuple[str, int, int]]
) -> None:
    before = {key: (key, "old", None) for key in there}
    rows: dict[int, tuple[Any, ...]] = dict(before)
    net = Net(codec())
    for turn, (op, key, other) in enumerate(history):
        if op == "i" and key not in rows:
            rows[key] = (key, f"new {turn}", None)
            net.insert((key,), rows[key])
        elif op == "d" and key in rows:
            del rows[key]
            net.delete((key,))
        elif op == "u" and key in rows and (other == key or other not in rows):
            del rows[key]
            rows[other] = (other, f"changed {turn}", None)
            net.update((key,), (other,), rows[other])
    work = net.work()
    made = dict(before)
    for line in work.deletes:
        del made[int(line)]
    changed = {}
    for line in work.updates:
        *values, key_text = line.split("\t")
        del made[int(key_text)]
        assert int(values[0]) not in changed
        changed[int(values[0])] = (int(values[0]), values[1], None)
    made |= changed
    for line in work.inserts:
        values = line.split("\t")
        assert int(values[0]) not in made
        made[int(values[0])] = (int(values[0]), values[1], None)
    assert made == rows


@pytest.mark.parametrize(
    "history",
    [
        [("i", 1, 1), ("i", 1, 1)],
        [("d", 1, 1), ("d", 1, 1)],
        [("d", 1, 1), ("u", 1, 1)],
        [("i", 1, 1), ("u", 2, 1)],
    ],
)
def test_what_cannot_have_happened_is_told(history: list[tuple[str, int, int]]) -> None:
    net = Net(codec())

    def happen(op: str, key: int, other: int) -> None:
        if op == "i":
            net.insert((key,), (key, "x", None))
        elif op == "d":
            net.delete((key,))
        else:
            net.update((key,), (other,), (other, "x", None))

    happen(*history[0])
    with pytest.raises(ContradictionError):
        happen(*history[1])


def test_owners_come_before_their_parts() -> None:
    found = ranks(entity_map.load())
    for owner, part in (
        ("release_group", "release"), ("release", "medium"), ("medium", "track"), ("recording", "track"),
        ("release", "release_country"), ("artist", "artist_alias"), ("artist", "l_artist_url"),
    ):  # fmt: skip
        assert found[f"musicbrainz.{owner}"] < found[f"musicbrainz.{part}"], (owner, part)
