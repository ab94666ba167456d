"""What the service decides, beside a store and a database that do as they are told."""

# ruff: noqa: ARG002 (the signatures are the protocols')

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from events.errors import UsageError
from tests.unit.workers.accounts.sessions.test_core import ID, deleted, updated
from workers.accounts.sessions.core import Session, hashed
from workers.accounts.sessions.service import (
    SessionEndedError,
    Sessions,
    SessionsUnavailableError,
    SignInRefusedError,
    WithoutRedis,
)
from workers.nonsense import InvalidEventsError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Store:
    """Remembers what was asked of it, in order; `away`: it does not answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.standing: dict[str, int | None] = {}
        self.away = False

    def _note(self, *what: object) -> None:
        self.asked.append(what)
        if self.away:
            raise SessionsUnavailableError("away")

    def open(self, name: str, editor_id: int | None, data: Mapping[bytes, bytes], *, old: str | None) -> Session:
        self._note("open", name, editor_id, old)
        self.standing[name] = editor_id
        return Session(editor_id, NOW, NOW, NOW)

    def read(self, name: str, *, renew: bool) -> Session | None:
        self._note("read", name, renew)
        return Session(self.standing[name], NOW, NOW, NOW) if name in self.standing else None

    def write(self, name: str, data: Mapping[bytes, bytes]) -> bool:
        self._note("write", name)
        return name in self.standing

    def end(self, name: str, *, everywhere: bool) -> int:
        self._note("end", name, everywhere)
        return int(self.standing.pop(name, -1) != -1)

    def end_all(self, editor_id: int) -> int:
        self._note("end_all", editor_id)
        return 2

    def of_editor(self, editor_id: int) -> list[Session]:
        self._note("of_editor", editor_id)
        return []


class Editors:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.answer: bool | Exception = True
        self.stood: list[int | None] = []

    def may_sign_in(self, editor_id: int) -> bool:
        self.stood = list(self.store.standing.values())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Counts:
    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        assert name == "mbevents_session_operations_total"
        self.seen[labels["operation"], labels["outcome"]] += 1

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class Made:
    def __init__(self, without_redis: WithoutRedis = "refuse") -> None:
        self.store = Store()
        self.editors = Editors(self.store)
        self.counts = Counts()
        self.sessions = Sessions(self.store, self.editors, without_redis=without_redis, telemetry=self.counts)


def test_every_id_is_new_and_only_its_hash_reaches_the_store() -> None:
    made = Made()
    ids = {made.sessions.sign_in(7).id for _ in range(50)} | {made.sessions.begin({}).id}
    assert len(ids) == 51
    assert set(made.store.standing) == set(map(hashed, ids))
    assert not any(each in repr(made.store.asked) for each in ids)


def test_an_id_is_not_in_the_text_of_what_was_opened() -> None:
    opened = Made().sessions.sign_in(7)
    assert opened.id not in repr(opened)


def test_whether_an_editor_may_is_asked_when_the_session_can_be_found() -> None:
    # The other way round, who is barred between the look and the session would keep it.
    made = Made()
    made.sessions.sign_in(7)
    assert made.editors.stood == [7]


def test_who_may_not_sign_in_has_no_session() -> None:
    made = Made()
    made.editors.answer = False
    with pytest.raises(SignInRefusedError, match="Editor 7 may not sign in"):
        made.sessions.sign_in(7)
    assert made.store.standing == {}
    assert made.counts.seen == {("sign_in", "refused"): 1}


def test_a_database_that_cannot_be_asked_leaves_no_session() -> None:
    made = Made()
    made.editors.answer = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        made.sessions.sign_in(7)
    assert made.store.standing == {}
    assert made.counts.seen == {("sign_in", "failed"): 1}


@pytest.mark.parametrize("what", ["", "short", ID + "x", "MB:session:1", "ü" * 43, "a" * 100_000])
def test_what_is_no_id_is_nobodys_and_redis_is_not_asked(what: str) -> None:
    made = Made()
    assert made.sessions.get(what) is None
    assert made.sessions.look(what) is None
    assert made.sessions.end(what) is False
    assert made.sessions.end_everywhere(what) == 0
    with pytest.raises(SessionEndedError):
        made.sessions.write(what, {"a": 1})
    assert made.store.asked == []
    made.sessions.sign_in(7, what)
    assert made.store.asked[0][-1] is None


def test_without_redis_reading_is_refused_or_finds_nobody_as_configured() -> None:
    refusing, anonymous = Made("refuse"), Made("anonymous")
    refusing.store.away = anonymous.store.away = True
    with pytest.raises(SessionsUnavailableError):
        refusing.sessions.get(ID)
    assert anonymous.sessions.get(ID) is None
    assert anonymous.sessions.look(ID) is None
    for made in (refusing, anonymous):
        assert made.counts.seen["read", "unavailable"] == 1


def test_without_redis_nothing_that_changes_something_is_called_done() -> None:
    made = Made("anonymous")
    made.store.away = True
    sessions = made.sessions
    for change in (
        lambda: sessions.begin({}),
        lambda: sessions.sign_in(7),
        lambda: sessions.write(ID, {"a": 1}),
        lambda: sessions.end(ID),
        lambda: sessions.end_everywhere(ID),
        lambda: sessions.end_all(7),
        lambda: sessions.end_barred([deleted(7)]),
        lambda: sessions.of_editor(7),
    ):
        with pytest.raises(SessionsUnavailableError):
            change()


def test_the_sessions_of_the_barred_end_before_nonsense_is_told() -> None:
    made = Made()
    with pytest.raises(InvalidEventsError, match="1 of the message's events make no sense"):
        made.sessions.end_barred([None, updated(3, spammer=True), deleted(4), updated(5, spammer=False)])
    assert made.store.asked == [("end_all", 3), ("end_all", 4)]


@pytest.mark.parametrize("editor_id", [0, -5, 2**31])
def test_an_editor_that_cannot_be_is_told_before_anything_is_asked(editor_id: int) -> None:
    made = Made()
    for work in (made.sessions.sign_in, made.sessions.end_all, made.sessions.of_editor):
        with pytest.raises(UsageError, match="no id of an editor"):
            work(editor_id)
    assert made.store.asked == []


def test_what_was_and_was_not_there_is_counted() -> None:
    made = Made()
    opened = made.sessions.sign_in(7)
    for each in (opened.id, ID):
        made.sessions.get(each)
        made.sessions.end(each)
    assert made.counts.seen == {
        ("sign_in", "done"): 1, ("read", "done"): 1, ("read", "none"): 1, ("end", "done"): 1, ("end", "none"): 1,
    }  # fmt: skip
