from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from tests.unit.workers.caches.making import event
from workers.accounts.sessions.core import (
    MOST_BYTES,
    Session,
    checked_editor,
    decode,
    encode,
    hashed,
    is_session_id,
    plan,
)

ID = "A1-_" * 10 + "abc"
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
DATA = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), st.recursive(SCALARS, st.lists, max_leaves=5), max_size=5
)


def updated(editor_id: Any, **more: Any) -> dict[str, Any]:
    data = {"editor_id": editor_id, "name": "Ann", "columns": ["privs"], **more}
    return event("editor.updated", f"editor/{editor_id}", data)


def deleted(editor_id: Any) -> dict[str, Any]:
    return event("editor.deleted", f"editor/{editor_id}", {"editor_id": editor_id})


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID[:-1],
        ID + "a",
        ID[:-1] + "=",
        ID[:-1] + "\n",
        ID[:-1] + "é",
        "MB:sessions:editor:1",
        "*" * 43,
        "a" * 10_000,
    ],
)
def test_what_is_no_id_is_told_from_one(text: str) -> None:
    assert is_session_id(ID)
    assert not is_session_id(text)


def test_of_an_id_only_a_hash_is_known() -> None:
    assert len(hashed(ID)) == 64
    assert ID not in hashed(ID)


@given(DATA)
def test_data_come_back_as_they_were(data: dict[str, Any]) -> None:
    fields = {b"began": b"1000", b"ends": b"9000", b"editor": b"7", **encode(data)}
    session = decode(4000, fields)
    assert session is not None
    assert (session.editor_id, session.data) == (7, data)
    assert (session.ends - session.idle_ends).total_seconds() == 5


@given(st.dictionaries(st.sampled_from([b"began", b"ends", b"editor", b"data:a", b"x"]), st.binary(max_size=20)))
def test_what_no_release_of_ours_wrote_is_no_session_and_no_error(fields: dict[bytes, bytes]) -> None:
    assert decode(1, fields) is None or isinstance(decode(1, fields), Session)


@pytest.mark.parametrize("editor", [b"0", b"-1", b"true", b'"7"', b"2147483648", b"7.0"])
def test_an_editor_that_cannot_be_is_no_session(editor: bytes) -> None:
    assert decode(1, {b"began": b"1", b"ends": b"2", b"editor": editor}) is None


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "1a", "a" * 41, "é", "a\n"])
def test_names_of_data_are_plain(name: str) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        encode({name: 1})


def test_data_are_json_of_a_bounded_size() -> None:
    with pytest.raises(UsageError, match=r"state in a session must have a form in JSON; object has none"):
        encode({"state": object()})
    room = MOST_BYTES - len(b"data:a") - 2
    assert len(encode({"a": "x" * room})[b"data:a"]) == room + 2
    with pytest.raises(UsageError, match="4,096 bytes"):
        encode({"a": "x" * (room + 1)})


def test_what_a_session_holds_is_not_in_its_text() -> None:
    session = decode(1, {b"began": b"1", b"ends": b"2", b"data:state": orjson.dumps("secret")})
    assert session is not None
    assert "secret" not in repr(session)


@pytest.mark.parametrize("editor_id", [0, -1, 2**31, True, "7", None])
def test_what_is_no_editor_is_told(editor_id: Any) -> None:
    with pytest.raises(UsageError, match="is no id of an editor"):
        checked_editor(editor_id)


def test_who_is_deleted_or_left_a_spammer_loses_sessions_once_and_nobody_else() -> None:
    asked = plan([updated(1, spammer=True), updated(2, spammer=False), deleted(3), updated(4), deleted(1)])
    assert list(asked.editor_ids) == [1, 3]
    assert asked.problems == []


@pytest.mark.parametrize(
    "nonsense",
    [
        None, 5, {}, [], {"type": 1}, {"type": "editor.deleted"}, deleted("7"), deleted(True), deleted(-1),
        deleted(2**31), {**deleted(1), "data": None}, {**deleted(1), "data": []},
        event("edit.opened", "edit/1", {"editor_id": 1}),
    ],
)  # fmt: skip
def test_an_event_that_makes_no_sense_is_a_problem_and_ends_nothing(nonsense: Any) -> None:
    asked = plan([nonsense, deleted(9)])
    assert (list(asked.editor_ids), len(asked.problems)) == ([9], 1)


def test_a_problem_is_told_shortly() -> None:
    (problem,) = plan([{"type": "x" * 5000}]).problems
    assert len(problem) < 130


@pytest.mark.parametrize("truthy", [1, "yes", "false", [0]])
def test_only_true_is_true(truthy: Any) -> None:
    assert not plan([updated(1, spammer=truthy)]).editor_ids
