"""What the triggers write, and when."""

import json
from collections.abc import Iterator

import psycopg
import pytest

from events.locks import AWAKE_KEY
from tests.integration.producers.capture.support import Connection, add_artist, brief, connect, pending, value


@pytest.fixture
def editing(captured: str) -> Iterator[Connection]:
    """A session of an editor, in a database with everything installed."""
    with connect(captured) as connection:
        yield connection


def test_each_change_of_a_row_is_logged_whole_in_column_order(editing: Connection) -> None:
    artist = add_artist(editing, "Nina")
    editing.execute("UPDATE artist SET name = 'Nina Simone' WHERE id = %s", (artist,))
    editing.execute("DELETE FROM artist_meta WHERE id = %s", (artist,))
    editing.execute("DELETE FROM artist WHERE id = %s", (artist,))
    of_artist = [change for change in pending(editing) if change.table == "musicbrainz.artist"]
    assert [change.op for change in of_artist] == ["i", "u", "d"]
    inserted, updated, deleted = of_artist
    assert inserted.old is None
    assert deleted.new is None
    assert updated.old == inserted.new
    assert deleted.old == updated.new
    assert updated.new is not None
    assert updated.new["name"] == "Nina Simone"
    columns = value(
        editing,
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = 'artist'::regclass AND attnum > 0 AND NOT attisdropped",
    )
    assert list(updated.new) == columns


def test_the_json_is_what_postgresql_says_of_the_row(editing: Connection) -> None:
    artist = add_artist(editing)
    said = value(editing, f"SELECT row_to_json(a)::text FROM artist a WHERE id = {artist}")
    written = value(editing, "SELECT newdata::text FROM dbmirror2.pending_data WHERE tablename = 'musicbrainz.artist'")
    assert written == said


def test_rows_of_a_composite_key_and_of_other_schemas_are_logged(editing: Connection) -> None:
    editing.execute("SET session_replication_role = replica")
    editing.execute("INSERT INTO tag (id, name) VALUES (1, 'jazz'); INSERT INTO tag (id, name) VALUES (2, 'soul')")
    editing.execute("SET session_replication_role = origin")
    artist = add_artist(editing)
    editing.execute("INSERT INTO artist_tag (artist, tag, count) VALUES (%s, 1, 1)", (artist,))
    editing.execute("UPDATE artist_tag SET tag = 2 WHERE artist = %s", (artist,))
    editing.execute("INSERT INTO statistics.statistic (name, value) VALUES ('count.artist', 1)")
    retagged = [change for change in pending(editing) if change.table == "musicbrainz.artist_tag"][-1]
    assert retagged.old is not None
    assert retagged.new is not None
    assert (retagged.old["tag"], retagged.new["tag"]) == (1, 2)
    assert pending(editing)[-1].table == "statistics.statistic"


def test_seqids_have_no_gaps_and_each_transaction_its_time_once(editing: Connection) -> None:
    with editing.transaction():
        started = value(editing, "SELECT transaction_timestamp()")
        xid = value(editing, "SELECT txid_current()")
        add_artist(editing)
        editing.execute("SELECT pg_sleep(0.01)")
        add_artist(editing)
    add_artist(editing)
    changes = pending(editing)
    assert [change.seqid for change in changes] == list(range(1, len(changes) + 1))
    times = {row[0]: row[1] for row in editing.execute("SELECT xid, ts FROM dbmirror2.pending_ts")}
    assert set(times) == {change.xid for change in changes}
    assert len(times) == 2
    assert times[xid] == started


def test_what_is_rolled_back_leaves_nothing(editing: Connection) -> None:
    with editing.transaction(force_rollback=True):
        add_artist(editing)
    assert pending(editing) == []
    assert value(editing, "SELECT count(*) FROM dbmirror2.pending_ts") == 0


def test_a_transaction_whose_first_row_a_savepoint_takes_back_still_gets_its_time(editing: Connection) -> None:
    with editing.transaction():
        with editing.transaction(force_rollback=True):
            add_artist(editing)
        assert value(editing, "SELECT count(*) FROM dbmirror2.pending_ts") == 0
        add_artist(editing)
        with editing.transaction():
            add_artist(editing)
    assert value(editing, "SELECT count(*) FROM dbmirror2.pending_ts") == 1
    assert brief(editing) == [("artist_meta", "i"), ("artist", "i")] * 2


def test_a_reset_of_all_settings_in_mid_transaction_is_no_error(editing: Connection) -> None:
    with editing.transaction():
        add_artist(editing)
        editing.execute("RESET ALL")
        editing.execute("SET LOCAL search_path = musicbrainz, public")
        add_artist(editing)
    assert value(editing, "SELECT count(*) FROM dbmirror2.pending_ts") == 1
    assert len(pending(editing)) == 4


def test_no_transaction_id_is_spent_on_capture(editing: Connection) -> None:
    before = value(editing, "SELECT txid_current()")
    for _ in range(3):
        add_artist(editing)
    assert value(editing, "SELECT txid_current()") == before + 4


def test_seqids_beyond_31_bits_work(editing: Connection) -> None:
    editing.execute("SELECT setval('dbmirror2.pending_data_seqid_seq', 2147483646)")
    artist = add_artist(editing)
    editing.execute("UPDATE artist SET name = 'x' WHERE id = %s", (artist,))
    assert [change.seqid for change in pending(editing)] == [2147483647, 2147483648, 2147483649]


def test_search_path_and_what_lies_on_it_do_not_matter(editing: Connection) -> None:
    editing.execute(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.txid_current() RETURNS bigint LANGUAGE sql RETURN -1;"
        "CREATE FUNCTION trap.lower(text) RETURNS text LANGUAGE sql RETURN 'x';"
        "CREATE DOMAIN trap.text AS pg_catalog.text CHECK (false);"
        "CREATE FUNCTION trap.equal(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql RETURN false;"
        "CREATE OPERATOR trap.= (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = trap.equal);"
    )
    editing.execute("SET search_path = trap, pg_catalog, musicbrainz, public")
    editing.execute("INSERT INTO artist (id, gid, name, sort_name) VALUES (999, gen_random_uuid(), 'x', 'x')")
    editing.execute("SET search_path = pg_catalog")
    editing.execute("UPDATE musicbrainz.artist SET edits_pending = 1 WHERE id = 999")
    assert brief(editing) == [("artist_meta", "i"), ("artist", "i"), ("artist", "u")]
    assert all(change.xid > 0 for change in pending(editing))


def test_an_editor_needs_no_right_on_what_is_ours(editing: Connection, captured: str) -> None:
    editing.execute("DROP ROLE IF EXISTS ordinary_editor")
    editing.execute("CREATE ROLE ordinary_editor")
    try:
        editing.execute("GRANT USAGE ON SCHEMA musicbrainz TO ordinary_editor")
        editing.execute("GRANT ALL ON ALL TABLES IN SCHEMA musicbrainz TO ordinary_editor")
        editing.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA musicbrainz TO ordinary_editor")
        with connect(captured) as ordinary:
            ordinary.execute("SET ROLE ordinary_editor")
            artist = add_artist(ordinary)
            ordinary.execute("UPDATE artist SET name = 'x' WHERE id = %s", (artist,))
            ordinary.execute("INSERT INTO editor (id, name, password, ha1) VALUES (900, 'Ed', 'p', 'h')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ordinary.execute("SELECT * FROM dbmirror2.pending_data")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ordinary.execute("SELECT mbevents.tell('edit', 'INSERT', NULL, '{}')")
        assert brief(editing) == [("artist_meta", "i"), ("artist", "i"), ("artist", "u"), ("editor", "i")]
    finally:
        editing.execute("DROP OWNED BY ordinary_editor; DROP ROLE ordinary_editor")


def test_edits_votes_notes_and_editors_reach_the_outbox_with_what_may_be_told(editing: Connection) -> None:
    editing.execute(
        "INSERT INTO editor (id, name, email, email_confirm_date, password, ha1) "
        "VALUES (901, 'Ann', 'secret@mail', now(), 'secretpw', 'secretha1')"
    )
    editing.execute(
        "INSERT INTO edit (id, editor, type, status, expire_time) VALUES (77, 901, 2, 1, '2030-01-01T00:00:00Z')"
    )
    editing.execute("INSERT INTO vote (id, editor, edit, vote) VALUES (5, 901, 77, 1)")
    editing.execute("INSERT INTO edit_note (id, editor, edit, text) VALUES (6, 901, 77, 'a secret note')")
    editing.execute("UPDATE edit SET status = 2, close_time = now() WHERE id = 77")
    editing.execute("DELETE FROM vote WHERE id = 5")
    rows = editing.execute("SELECT kind, op::text, old, new FROM mbevents.outbox ORDER BY seqid").fetchall()
    told = {(kind, op): (old, new) for kind, op, old, new in rows}
    assert [row[:2] for row in rows] == [
        ("editor", "i"), ("edit", "i"), ("vote", "i"), ("edit_note", "i"), ("edit", "u"), ("vote", "d"),
    ]  # fmt: skip
    assert told["editor", "i"] == (None, {"id": 901, "name": "Ann", "privs": 0, "deleted": False})
    old, new = told["edit", "u"]
    assert (old["status"], old["close_time"], new["status"]) == (1, None, 2)
    assert set(new) == {
        "id", "editor", "type", "status", "autoedit", "open_time", "close_time", "expire_time", "quality",
    }  # fmt: skip
    assert set(told["vote", "d"][0]) == {"id", "editor", "edit", "vote", "superseded", "vote_time"}
    assert told["vote", "d"][1] is None
    assert set(told["edit_note", "i"][1]) == {"id", "editor", "edit", "post_time"}
    assert value(editing, "SELECT count(DISTINCT xid) FROM mbevents.outbox") == 6


def test_nothing_private_of_an_editor_is_written_anywhere(editing: Connection) -> None:
    secrets = ["secret@mail", "secretpw", "secretha1", "https://secret.site", "secret bio", "1971-03-04", "secretnote"]
    editing.execute("SET session_replication_role = replica")
    editing.execute("INSERT INTO gender (id, name, gid) VALUES (4242, 'g', gen_random_uuid())")
    editing.execute("SET session_replication_role = origin")
    editing.execute(
        "INSERT INTO editor (id, name, privs, email, website, bio, birth_date, gender, password, ha1, "
        "email_confirm_date) VALUES (902, 'Bob', 8191, %s, %s, %s, %s, 4242, %s, %s, now())",
        ("secret@mail", "https://secret.site", "secret bio", "1971-03-04", "secretpw", "secretha1"),
    )
    editing.execute("UPDATE editor SET name = 'Bobby', email = 'secret@mail.2' WHERE id = 902")
    editing.execute("INSERT INTO edit (id, editor, type, status, expire_time) VALUES (78, 902, 2, 1, now())")
    editing.execute("INSERT INTO edit_note (editor, edit, text) VALUES (902, 78, 'secretnote')")
    editing.execute("DELETE FROM edit_note")
    editing.execute("DELETE FROM edit WHERE id = 78")
    editing.execute("DELETE FROM editor WHERE id = 902")
    written = editing.execute("SELECT d::text FROM dbmirror2.pending_data d").fetchall()
    written += editing.execute("SELECT o::text FROM mbevents.outbox o").fetchall()
    everything = "\n".join(row[0] for row in written)
    assert "Bobby" in everything
    assert [secret for secret in secrets if secret in everything] == []
    assert "4242" not in everything
    assert "8191" not in "\n".join(json.dumps(change) for change in pending(editing))


def test_an_update_of_what_nobody_may_know_is_not_written(editing: Connection) -> None:
    editing.execute("INSERT INTO editor (id, name, password, ha1) VALUES (903, 'Cy', 'p', 'h')")
    editing.execute("ALTER TABLE editor DISABLE TRIGGER b_upd_editor")
    editing.execute("UPDATE editor SET last_login_date = now() + interval '1 day', email = 'x@y' WHERE id = 903")
    assert brief(editing) == [("editor", "i")]
    assert value(editing, "SELECT count(*) FROM mbevents.outbox") == 1


def test_a_truncate_is_told_and_warned_of(editing: Connection) -> None:
    warnings: list[str | None] = []
    editing.add_notice_handler(lambda diagnostic: warnings.append(diagnostic.message_primary))
    editing.execute("TRUNCATE artist_ipi, vote")
    rows = editing.execute("SELECT kind, op::text, old, new FROM mbevents.outbox ORDER BY seqid").fetchall()
    assert sorted(rows, key=str) == [
        ("truncate", "d", {"table": "musicbrainz.artist_ipi"}, None),
        ("truncate", "d", {"table": "musicbrainz.vote"}, None),
    ]
    assert sum("is not replicated" in (warning or "") for warning in warnings) == 2


class TestHint:
    def notified(self, listening: Connection) -> list[tuple[str, str]]:
        return [(each.channel, each.payload) for each in listening.notifies(timeout=0.1)]

    @pytest.fixture
    def listening(self, captured: str) -> Iterator[Connection]:
        with connect(captured) as connection:
            connection.execute("LISTEN mbevents")
            yield connection

    def test_each_transaction_wakes_a_sleeping_bridge_once(self, editing: Connection, listening: Connection) -> None:
        with editing.transaction():
            add_artist(editing)
            add_artist(editing)
            editing.execute("INSERT INTO editor (id, name, password, ha1) VALUES (904, 'Di', 'p', 'h')")
        editing.execute("DELETE FROM editor WHERE id = 904")
        assert self.notified(listening) == [("mbevents", "")] * 2

    def test_the_outbox_alone_wakes_it_too(self, editing: Connection, listening: Connection) -> None:
        editing.execute("TRUNCATE artist_ipi")
        assert self.notified(listening) == [("mbevents", "")]

    def test_nobody_wakes_a_bridge_that_is_awake(
        self, editing: Connection, listening: Connection, captured: str
    ) -> None:
        with connect(captured) as bridge:
            bridge.execute("SELECT pg_advisory_lock(%s)", (AWAKE_KEY,))
            add_artist(editing)
            assert self.notified(listening) == []
        with connect(captured) as bridge:
            # The other session may end a moment after its socket.
            bridge.execute("SELECT pg_advisory_lock(%s), pg_advisory_unlock(%s)", (AWAKE_KEY, AWAKE_KEY))
            add_artist(editing)
            assert self.notified(listening) == [("mbevents", "")]

    def test_a_rolled_back_change_wakes_nobody_and_leaves_no_lock(
        self, editing: Connection, listening: Connection
    ) -> None:
        with editing.transaction(force_rollback=True):
            add_artist(editing)
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert value(editing, locks) == 0
        assert self.notified(listening) == []
