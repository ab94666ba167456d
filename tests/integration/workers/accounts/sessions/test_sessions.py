"""Sessions, one after another."""

import time
from datetime import UTC, datetime

import pytest
import redis

from events.errors import UsageError
from tests.integration.workers.accounts.sessions.conftest import kept, make_sessions
from tests.waiting import wait_for
from workers.accounts.sessions.core import MOST_BYTES, hashed
from workers.accounts.sessions.service import SessionEndedError, Sessions

Client = redis.Redis
INDEX = "MB:sessions:editor:7"


def key_of(session_id: str) -> str:
    return f"MB:session:{hashed(session_id)}"


def server_time(client: Client) -> datetime:
    seconds, micros = client.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def test_who_signs_in_is_signed_in_until_the_end(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    found = sessions.get(opened.id)
    assert found is not None
    assert found.editor_id == 7
    assert (found.ends - found.began).total_seconds() == 36_000
    assert abs((found.idle_ends - server_time(client)).total_seconds() - 10_800) < 2
    assert sessions.end(opened.id)
    assert sessions.get(opened.id) is None
    assert not sessions.end(opened.id)
    assert not kept(client)


def test_redis_holds_a_hash_of_the_id_and_json_and_everything_in_it_expires(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    sessions.write(opened.id, {"return_to": "/artist/1", "n": [1, None]})
    assert kept(client) == {key_of(opened.id).encode(), INDEX.encode()}
    stored = client.hgetall(key_of(opened.id))
    assert stored[b"data:return_to"] == b'"/artist/1"'
    assert set(stored) == {b"began", b"ends", b"editor", b"data:return_to", b"data:n"}
    assert opened.id not in repr([client.keys(), stored, client.zrange(INDEX, 0, -1)])
    assert 0 < client.pttl(key_of(opened.id)) <= 10_800_000
    assert 10_800_000 < client.pttl(INDEX) <= 36_000_000


def test_a_session_that_is_not_used_ends_and_one_that_is_used_does_not(client: Client) -> None:
    sessions = make_sessions(client, seconds=60, idle_seconds=0.4)
    used, unused, looked_at = (sessions.sign_in(7).id for _ in range(3))
    deadline = time.monotonic() + 0.9
    while time.monotonic() < deadline:
        assert sessions.get(used) is not None
        sessions.look(looked_at)
        time.sleep(0.02)
    assert sessions.look(unused) is None
    assert sessions.look(looked_at) is None


def test_no_renewal_outlives_the_absolute_end(client: Client) -> None:
    sessions = make_sessions(client, seconds=0.6, idle_seconds=0.5)
    opened = sessions.sign_in(7)
    last = opened.session
    while (found := sessions.get(opened.id)) is not None:
        assert found.idle_ends <= found.ends == opened.session.ends
        assert found.idle_ends >= last.idle_ends
        last = found
    assert last.idle_ends == last.ends
    assert 0 <= (server_time(client) - opened.session.ends).total_seconds() < 1
    # The index went with the last session that it had.
    wait_for(lambda: not kept(client), seconds=1)


def test_a_session_that_lost_its_expiry_ends_all_the_same(client: Client) -> None:
    sessions = make_sessions(client, seconds=0.3, idle_seconds=0.3)
    opened = sessions.sign_in(7)
    client.persist(key_of(opened.id))
    client.persist(INDEX)
    wait_for(lambda: sessions.look(opened.id) is None, seconds=2)
    assert not kept(client)


def test_the_clock_is_the_servers(sessions: Sessions, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    before = server_time(client)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 4e9)
        opened = sessions.sign_in(7)
        found = sessions.get(opened.id)
    assert found is not None
    assert (found.began - before).total_seconds() == pytest.approx(0, abs=1)


def test_signing_in_ends_the_old_id_and_begins_the_time_anew(client: Client) -> None:
    sessions = make_sessions(client, seconds=5, idle_seconds=5)
    old = sessions.begin({"return_to": "/edit/5"})
    assert old.session.editor_id is None
    wait_for(lambda: server_time(client).timestamp() > old.session.began.timestamp() + 0.001)
    new = sessions.sign_in(7, old.id)
    assert sessions.get(old.id) is None
    assert new.id != old.id
    assert new.session.began > old.session.began
    assert new.session.ends > old.session.ends
    assert new.session.data == {"return_to": "/edit/5"}
    again = sessions.sign_in(7, new.id)
    assert sessions.get(new.id) is None
    assert again.session.data == {"return_to": "/edit/5"}
    assert len(sessions.of_editor(7)) == 1


def test_an_id_that_somebody_planted_is_never_taken_over(sessions: Sessions, client: Client) -> None:
    planted = "a" * 43
    opened = sessions.sign_in(7, planted)
    assert opened.id != planted
    assert sessions.get(planted) is None
    with pytest.raises(SessionEndedError):
        sessions.write(planted, {"a": 1})
    assert client.exists(key_of(planted)) == 0


def test_what_another_editor_left_goes_to_nobody(sessions: Sessions) -> None:
    theirs = sessions.sign_in(8)
    sessions.write(theirs.id, {"draft": "mine"})
    opened = sessions.sign_in(7, theirs.id)
    assert opened.session.data == {}
    assert sessions.get(theirs.id) is None
    assert sessions.of_editor(8) == []


def test_a_voided_session_leaves_nothing_to_who_signs_in_with_it(sessions: Sessions) -> None:
    old = sessions.sign_in(7)
    sessions.write(old.id, {"draft": "x"})
    sessions.end_all(7)
    assert sessions.sign_in(7, old.id).session.data == {}


def test_log_out_everywhere_ends_every_session_of_this_editor_only(sessions: Sessions, client: Client) -> None:
    mine = [sessions.sign_in(7).id for _ in range(5)]
    other, nobodys = sessions.sign_in(70), sessions.begin({})
    assert len(sessions.of_editor(7)) == 5
    assert sessions.end_everywhere(mine[0]) == 5
    assert [sessions.get(each) for each in mine] == [None] * 5
    assert sessions.get(other.id) is not None
    assert sessions.get(nobodys.id) is not None
    # Who was logged out logs out nobody any more.
    again = sessions.sign_in(7)
    assert sessions.end_everywhere(mine[1]) == 0
    assert sessions.get(again.id) is not None
    assert sessions.end_everywhere(nobodys.id) == 1
    assert sessions.end_all(7) == 1
    assert sessions.end_all(7) == 0


def test_an_editor_has_a_bounded_number_of_sessions_and_the_oldest_goes(client: Client) -> None:
    sessions = make_sessions(client, most=3)
    ids = []
    for _ in range(5):
        ids.append(sessions.sign_in(7).id)
        moment = server_time(client)
        wait_for(lambda moment=moment: server_time(client).timestamp() > moment.timestamp() + 0.001)  # type: ignore[misc]
    assert [sessions.look(each) is not None for each in ids] == [False, False, True, True, True]
    assert (client.zcard(INDEX), len(kept(client))) == (3, 4)


def test_sessions_that_expired_leave_the_index_at_the_next_sign_in(client: Client) -> None:
    short, long = (make_sessions(client, idle_seconds=idle, most=3) for idle in (0.05, 60))
    kept = long.sign_in(7)
    gone = [short.sign_in(7).id for _ in range(2)]
    wait_for(lambda: all(short.look(each) is None for each in gone))
    assert client.zcard(INDEX) == 3
    assert len(long.of_editor(7)) == 1
    long.sign_in(7)
    assert client.zcard(INDEX) == 2
    assert long.get(kept.id) is not None


def test_without_its_index_a_session_is_none_so_that_every_session_can_be_ended(
    sessions: Sessions, client: Client
) -> None:
    first = sessions.sign_in(7)
    client.delete(INDEX)  # as eviction would
    second = sessions.sign_in(7)
    assert sessions.get(first.id) is None
    assert sessions.get(second.id) is not None
    assert client.exists(key_of(first.id)) == 0


def test_data_are_written_name_by_name_and_bounded(sessions: Sessions) -> None:
    opened = sessions.sign_in(7)
    sessions.write(opened.id, {"a": 1, "b": {"c": "é"}})
    sessions.write(opened.id, {"a": 2, "b": None, "d": True})
    found = sessions.get(opened.id)
    assert found is not None
    assert found.data == {"a": 2, "d": True}
    sessions.write(opened.id, {"big": "x" * (MOST_BYTES - 200)})
    with pytest.raises(UsageError, match="holds 4,096 bytes at most"):
        sessions.write(opened.id, {"more": "y" * 300, "a": 3})
    after = sessions.get(opened.id)
    assert after is not None
    assert (after.data["a"], "more" in after.data) == (2, False)
    sessions.write(opened.id, {"big": "z" * (MOST_BYTES - 100)})
    sessions.write(opened.id, {})


def test_writing_to_a_session_that_ended_is_told_and_makes_none(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    sessions.end(opened.id)
    with pytest.raises(SessionEndedError, match="Sign in again"):
        sessions.write(opened.id, {"a": 1})
    assert not kept(client)


def test_musicbrainz_servers_own_sessions_are_neither_read_nor_touched(sessions: Sessions, client: Client) -> None:
    theirs = {f"MB:session:{'a1' * 20}": b"BAoD", f"MB:expires:{'a1' * 20}": b"17", "MB:sessions:editor:": b"?"}
    client.mset(theirs)
    opened = sessions.sign_in(7)
    assert sessions.get("a1" * 20 + "aaa") is None
    sessions.end_all(7)
    assert sessions.get(opened.id) is None
    assert [client.get(name) for name in theirs] == list(theirs.values())
    assert len(kept(client)) == 3


def test_what_another_program_put_where_a_session_is_is_no_session(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    for field, value in (("data:a", "{not json"), ("ends", "soon")):
        client.hset(key_of(opened.id), field, value)
        assert sessions.get(opened.id) is None


def test_reading_is_one_round_trip(sessions: Sessions, client: Client) -> None:
    opened = sessions.sign_in(7)
    sessions.get(opened.id)
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    total = client.info("stats")["total_commands_processed"]
    sessions.get(opened.id)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 1
    assert client.info("stats")["total_commands_processed"] - total < 12
