"""Who is deleted or found to be a spammer is signed out: from the row of PostgreSQL to the session in Redis."""

import json
import threading
import urllib.request

import pytest

from events.ledger.messages import task_message
from events.queues.worker import run_worker
from ops.settings import RedisRole
from ops.web.sessions import COOKIE
from ops.wiring import Runtime
from workers.accounts.sessions.service import SignInRefusedError

SPAMMER = 4096


def work(runtime: Runtime) -> None:
    runtime.bridge.drain()
    run_worker(runtime.worker_broker, threads=2, stop=threading.Event(), drain=True)


EDITORS = {
    901: f"UPDATE musicbrainz.editor SET privs = privs | {SPAMMER} WHERE id = 901",
    902: "UPDATE musicbrainz.editor SET deleted = true, name = 'Deleted Editor #902', privs = 0 WHERE id = 902",
    903: "DELETE FROM musicbrainz.editor WHERE id = 903",
    904: "UPDATE musicbrainz.editor SET privs = privs | 1, name = 'Anne' WHERE id = 904",
    905: "UPDATE musicbrainz.editor SET email = 'a@b', last_login_date = now() WHERE id = 905",
    906: "SELECT 1",
}
BARRED = {901, 902, 903}


@pytest.fixture
def editors(runtime: Runtime) -> Runtime:
    """With accounts."""
    with runtime.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO musicbrainz.editor (id, name, email, password, ha1) VALUES (%s, %s, 'e@x', 'p', 'h')",
            [(editor, f"Editor {editor}") for editor in EDITORS],
        )
    return runtime


def execute(runtime: Runtime, statement: str) -> None:
    with runtime.connection() as connection:
        connection.execute(statement.encode())


def test_who_is_deleted_or_becomes_a_spammer_is_signed_out_everywhere_and_nobody_else(editors: Runtime) -> None:
    sessions = editors.sessions
    opened = {editor: [sessions.sign_in(editor).id for _ in range(2)] for editor in EDITORS}
    for statement in EDITORS.values():
        execute(editors, statement)
    work(editors)
    for editor, ids in opened.items():
        assert [sessions.get(each) is None for each in ids] == [editor in BARRED] * 2
    for editor in BARRED:
        with pytest.raises(SignInRefusedError):
            sessions.sign_in(editor)
        assert sessions.of_editor(editor) == []


def test_nobody_without_an_account_signs_in(editors: Runtime) -> None:
    with pytest.raises(SignInRefusedError):
        editors.sessions.sign_in(907)


def test_the_web_process_tells_who_is_signed_in(port: int, editors: Runtime) -> None:
    cookie = {"Cookie": f"{COOKIE}={editors.sessions.sign_in(901).id}"}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/session", headers=cookie)) as answer:
        assert json.loads(answer.read())["editor_id"] == 901


def test_the_work_is_done_after_redis_lost_its_message_and_once_only(editors: Runtime) -> None:
    execute(editors, EDITORS[901])
    editors.bridge.drain()
    editors.client(RedisRole.BROKER).flushall()
    execute(editors, "UPDATE musicbrainz.editor SET privs = 0 WHERE id = 901")
    mine = editors.sessions.sign_in(901).id
    assert editors.refill() >= 1
    work(editors)
    assert editors.sessions.get(mine) is None
    # Rehabilitated and signed in again: a copy of the old message does not end that.
    again = editors.sessions.sign_in(901).id
    with editors.connection() as connection:
        tasks = connection.execute(
            "SELECT id, state FROM mbevents.task WHERE actor = 'accounts.end_sessions' ORDER BY id"
        ).fetchall()
    assert {state for _, state in tasks} == {"done"}
    event = {"type": "org.musicbrainz.editor.deleted.v1", "data": {"editor_id": 901}}
    copies = [task_message(tasks[0][0], queue="accounts", actor="accounts.end_sessions", events=[event])]
    editors.worker_broker.enqueue_many(copies)
    run_worker(editors.worker_broker, threads=1, stop=threading.Event(), drain=True)
    assert editors.sessions.get(again) is not None
