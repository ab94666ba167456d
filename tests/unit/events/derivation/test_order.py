from hypothesis import given
from hypothesis import strategies as st

from events.derivation.core import Deriver
from schemas.capture import RowChange
from schemas.envelope import Draft
from tests.unit.events.derivation.changes import TIME, FakeResolver, Feed, derive, mbid, told


def alias(seqid: int, xid: int, artist: int) -> RowChange:
    return RowChange(seqid, xid, "musicbrainz.artist_alias", "i", None, {"id": seqid, "artist": artist}, TIME)


def note(seqid: int, xid: int, edit: int) -> RowChange:
    row = {"id": seqid, "editor": 1, "edit": edit, "post_time": TIME}
    return RowChange(seqid, xid, "outbox.edit_note", "i", None, row, TIME)


def drafts_of(changes: list[RowChange]) -> list[Draft]:
    deriver = Deriver("db")
    deriver.add(changes)
    return deriver.drafts(sorted({change.xid for change in changes}), FakeResolver())


def test_transactions_come_in_the_order_of_their_last_change() -> None:
    changes = [alias(1, 10, 1), alias(2, 20, 2), alias(3, 10, 3)]
    assert [draft.xid for draft in drafts_of(changes)] == [20, 10, 10]


def test_events_of_a_transaction_come_in_the_order_of_their_first_change() -> None:
    changes = [alias(1, 10, 5), alias(2, 10, 1), alias(3, 10, 5)]
    assert [draft.subject for draft in drafts_of(changes)] == [f"artist/{mbid(5)}", f"artist/{mbid(1)}"]


def test_an_event_by_way_of_a_part_takes_the_place_of_the_part_s_change() -> None:
    feed = Feed()
    feed.insert("musicbrainz.medium_cdtoc", {"id": 1, "medium": 3, "cdtoc": 4})
    feed.insert("musicbrainz.artist_alias", {"id": 1, "artist": 1})
    resolver = FakeResolver(parts={("musicbrainz.medium", 3): (4,)})
    assert [draft.subject for draft in derive(feed, resolver)] == [f"release/{mbid(4)}", f"artist/{mbid(1)}"]


def test_a_transaction_s_edit_follows_its_entities() -> None:
    changes = [note(1, 10, 1), alias(50, 10, 1), note(2, 20, 2)]
    assert [(draft.name, draft.xid) for draft in drafts_of(changes)] == [
        ("entity.updated", 10),
        ("edit.noted", 10),
        ("edit.noted", 20),
    ]


def test_both_orders_hold_where_they_contradict_each_other() -> None:
    # 10 changed its artist last, but noted first: as two transactions may that share neither artist nor edit.
    changes = [alias(1, 20, 1), alias(2, 10, 2), note(1, 10, 1), note(2, 20, 2)]
    drafts = drafts_of(changes)
    assert [draft.xid for draft in drafts if draft.name == "entity.updated"] == [20, 10]
    assert [draft.xid for draft in drafts if draft.name == "edit.noted"] == [10, 20]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(1, 4)), max_size=30),
    st.permutations(range(1, 7)),
)
def test_each_sequence_s_commit_order_holds_whatever_the_other_says(
    rows: list[tuple[int, bool, int]], xids: list[int]
) -> None:
    changes = [(alias if replicated else note)(seqid, xid, to) for seqid, (xid, replicated, to) in enumerate(rows)]
    deriver = Deriver("db")
    deriver.add(changes)
    drafts = deriver.drafts(xids, FakeResolver())
    for name, table in (("entity.updated", "musicbrainz.artist_alias"), ("edit.noted", "outbox.edit_note")):
        last = {change.xid: change.seqid for change in changes if change.table == table}
        order = [last[draft.xid] for draft in drafts if draft.name == name]
        assert order == sorted(order)


def test_only_what_is_asked_for_is_told_and_it_is_told_once() -> None:
    deriver = Deriver("db")
    deriver.add([alias(1, 10, 1), alias(2, 20, 2)])
    assert [draft.xid for draft in deriver.drafts([10, 99], FakeResolver())] == [10]
    deriver.add([alias(3, 20, 3)])
    assert [draft.subject for draft in deriver.drafts([10, 20, 20], FakeResolver())] == [
        f"artist/{mbid(2)}",
        f"artist/{mbid(3)}",
    ]


def test_drafts_can_be_taken_one_by_one_and_everything_is_looked_up_before() -> None:
    deriver = Deriver("db")
    deriver.add([alias(1, 10, 1), alias(2, 10, 2)])
    resolver = FakeResolver()
    stream = deriver.stream([10], resolver)
    assert resolver.asked == ["artist"]
    assert told(stream) == [("entity.updated", f"artist/{mbid(1)}"), ("entity.updated", f"artist/{mbid(2)}")]


def test_ids_differ_by_database_and_are_the_same_again() -> None:
    ids = []
    for source in ("https://a.example", "https://a.example", "https://b.example"):
        deriver = Deriver(source)
        deriver.add([alias(1, 10, 1)])
        ids.append(deriver.drafts([10], FakeResolver())[0].id)
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
    assert len(ids[0]) == 32
