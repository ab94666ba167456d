import pytest

from tests.unit.events.derivation.changes import TIME, Feed, Row, derive, told


@pytest.fixture
def feed() -> Feed:
    return Feed()


def edit(status: int = 1, **columns: object) -> Row:
    times = {"open_time": TIME, "close_time": None, "expire_time": TIME}
    return {"id": 1, "editor": 2, "type": 3, "status": status, "autoedit": 0, "quality": 1} | times | columns


def editor(**columns: object) -> Row:
    return {"id": 2, "name": "Aerozol", "privs": 0, "deleted": False} | columns


def test_an_edit_is_opened_and_later_closed(feed: Feed) -> None:
    feed.insert("outbox.edit", edit(), xid=1)
    feed.update("outbox.edit", edit(), {"status": 2, "close_time": TIME}, xid=2)
    opened, closed = derive(feed)
    assert (opened.name, opened.subject, closed.name) == ("edit.opened", "edit/1", "edit.closed")
    assert opened.data["autoedit"] is False
    assert (closed.data["status"], closed.data["close_time"]) == (2, TIME)


def test_an_autoedit_is_opened_and_closed_in_one_transaction(feed: Feed) -> None:
    feed.insert("outbox.edit", edit(autoedit=1))
    feed.update("outbox.edit", edit(autoedit=1), {"status": 2, "close_time": TIME})
    assert told(derive(feed)) == [("edit.opened", "edit/1"), ("edit.closed", "edit/1")]


def test_an_edit_is_closed_once(feed: Feed) -> None:
    feed.update("outbox.edit", edit(), {"status": 8}, xid=1)
    feed.update("outbox.edit", edit(8), {"status": 9}, xid=2)
    feed.update("outbox.edit", edit(), {"quality": 2}, xid=3)
    assert told(derive(feed)) == [("edit.closed", "edit/1")]


def test_a_changed_vote_is_told_by_the_new_one(feed: Feed) -> None:
    vote = {"id": 5, "editor": 2, "edit": 1, "vote": 1, "superseded": False, "vote_time": TIME}
    feed.update("outbox.vote", vote, {"superseded": True})
    feed.insert("outbox.vote", vote | {"id": 6, "vote": 0})
    (event,) = derive(feed)
    assert (event.name, event.subject) == ("edit.voted", "edit/1")
    assert event.data == {"edit_id": 1, "vote_id": 6, "editor_id": 2, "vote": 0, "vote_time": TIME}


def test_a_note_is_told_without_its_text(feed: Feed) -> None:
    note = {"id": 7, "editor": 2, "edit": 1, "post_time": TIME, "text": "secret"}
    feed.insert("outbox.edit_note", note)
    (event,) = derive(feed)
    assert (event.name, event.subject) == ("edit.noted", "edit/1")
    assert event.data == {"edit_id": 1, "note_id": 7, "editor_id": 2, "post_time": TIME}


def test_a_note_that_is_changed_or_removed_is_no_new_note(feed: Feed) -> None:
    note = {"id": 7, "editor": 2, "edit": 1, "post_time": TIME}
    feed.update("outbox.edit_note", note, {"post_time": "2025-01-01T00:00:00Z"}, xid=1)
    feed.delete("outbox.edit_note", note, xid=2)
    assert derive(feed) == []


def test_an_editor_registers_changes_and_is_deleted(feed: Feed) -> None:
    feed.insert("outbox.editor", editor(), xid=1)
    feed.update("outbox.editor", editor(), {"name": "Aero", "privs": 1}, xid=2)
    feed.update("outbox.editor", editor(), {"name": "Deleted Editor #2", "deleted": True}, xid=3)
    registered, updated, deleted = derive(feed)
    assert registered.data == {"editor_id": 2, "name": "Aerozol"}
    assert updated.data == {"editor_id": 2, "name": "Aero", "columns": ["name", "privs"], "spammer": False}
    assert (deleted.name, deleted.subject, deleted.data) == ("editor.deleted", "editor/2", {"editor_id": 2})


def test_an_update_tells_whether_the_editor_is_a_spammer_now_and_no_other_privilege(feed: Feed) -> None:
    feed.update("outbox.editor", editor(), {"privs": 1 | 4096}, xid=1)
    feed.update("outbox.editor", editor(privs=4097), {"privs": None}, xid=2)
    feed.update("outbox.editor", editor(privs=4096), {"name": "Zol"}, xid=3)
    drafts = derive(feed)
    assert [draft.data["spammer"] for draft in drafts] == [True, False, True]
    assert not any("privs" in draft.data for draft in drafts)


def test_an_editor_whose_row_goes_is_deleted_once(feed: Feed) -> None:
    feed.update("outbox.editor", editor(), {"deleted": True})
    feed.delete("outbox.editor", editor(deleted=True))
    assert told(derive(feed)) == [("editor.deleted", "editor/2")]


def test_a_truncated_table_is_told_with_the_types_that_lived_in_it(feed: Feed) -> None:
    for table in ("musicbrainz.track", "musicbrainz.track", "musicbrainz.unheard_of"):
        feed.delete("outbox.truncate", {"table": table})
    drafts = derive(feed)
    assert told(drafts) == [
        ("table.truncated", "table/musicbrainz.track"),
        ("table.truncated", "table/musicbrainz.unheard_of"),
    ]
    assert [draft.data["entity_types"] for draft in drafts] == [["recording", "release"], []]


def test_a_packet_is_published_with_its_files(feed: Feed) -> None:
    packet = {"number": 7, "schema_sequence": 31, "transactions": 2, "changes": 3, "size_bytes": 9, "exported_at": TIME}
    packet["files"] = [{"name": "replication-7-v2.tar.bz2", "size_bytes": 9, "sha256": "0" * 64}]
    feed.insert("outbox.packet", packet | {"secret": "stays"})
    (event,) = derive(feed)
    assert (event.name, event.subject, event.data) == ("packet.published", "packet/7", packet)
