"""Sessions that are used while they end."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import redis

from tests.integration.workers.accounts.sessions.conftest import kept, make_sessions
from workers.accounts.sessions.service import Opened, SessionEndedError, Sessions

Client = redis.Redis


def in_threads(*work: Callable[[], object]) -> None:
    """All at once; whatever one of them raises is raised."""
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(each) for each in work]:
            done.result(30)


class LogOut:
    """Four who use their sessions in threads while all of them are logged out."""

    def __init__(self, sessions: Sessions) -> None:
        self.came_back: list[str] = []
        self.seen: Counter[str] = Counter()
        self._sessions = sessions
        self._begin = threading.Barrier(5)
        self._over = threading.Event()
        opened = [sessions.sign_in(7) for _ in range(4)]
        in_threads(self._log_out, *(partial(self._use, each) for each in opened))

    def _use(self, mine: Opened) -> None:
        self._begin.wait(10)
        ended = False
        while not (ended and self._over.is_set()):
            # Whether it is over is asked before the session is: after it none may be there.
            was_over = self._over.is_set()
            found = self._sessions.get(mine.id)
            if found is not None and (was_over or ended):
                self.came_back.append(mine.id)
                return
            ended = found is None
            self.seen["ended" if ended else "there"] += 1
            try:
                self._sessions.write(mine.id, {"n": 1})
            except SessionEndedError:
                ended = True

    def _log_out(self) -> None:
        self._begin.wait(10)
        self._sessions.of_editor(7)
        assert self._sessions.end_all(7) == 4
        self._over.set()


def test_nothing_that_is_done_to_a_session_while_its_editor_is_logged_out_brings_it_back(client: Client) -> None:
    seen: Counter[str] = Counter()
    for _ in range(25):
        race = LogOut(make_sessions(client))
        assert race.came_back == []
        assert not kept(client)
        seen += race.seen
    # They did race: sessions were seen on both sides of their end.
    assert min(seen["there"], seen["ended"]) > 25


def test_of_many_who_sign_in_with_one_old_id_its_data_go_to_one_and_nobody_gets_it_back(sessions: Sessions) -> None:
    old = sessions.begin({"state": "once"})
    opened: list[Opened] = []
    in_threads(*[lambda: opened.append(sessions.sign_in(7, old.id))] * 8)
    assert [each.session.data for each in opened].count({"state": "once"}) == 1
    assert sessions.get(old.id) is None
    assert len({each.id for each in opened}) == len(sessions.of_editor(7)) == 8


def test_who_write_different_names_at_once_lose_nothing_and_of_one_name_the_last_stands(sessions: Sessions) -> None:
    mine = sessions.sign_in(7)

    def write(number: int) -> None:
        for step in range(20):
            sessions.write(mine.id, {f"own_{number}": step, "shared": [number, step]})

    in_threads(*(partial(write, number) for number in range(6)))
    found = sessions.get(mine.id)
    assert found is not None
    assert {name: value for name, value in found.data.items() if name != "shared"} == {f"own_{n}": 19 for n in range(6)}
    # Whoever wrote it last wrote its own last step last.
    assert found.data["shared"][1] == 19


def test_signing_in_beside_log_out_everywhere_leaves_no_session_that_cannot_be_ended(sessions: Sessions) -> None:
    ids: list[str] = []
    in_threads(
        *[lambda: ids.extend(sessions.sign_in(7).id for _ in range(10))] * 3,
        *[lambda: [sessions.end_all(7) for _ in range(20)]] * 2,
    )
    standing = [each for each in ids if sessions.look(each) is not None]
    assert len(standing) == len(sessions.of_editor(7)) == sessions.end_all(7)
    assert not any(sessions.look(each) for each in ids)
