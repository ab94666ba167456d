"""The log on a real PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import psycopg
import pytest

from events.ledger import service as ledger
from events.ledger.service import NewTask
from events.log import partitions, service
from schemas.envelope import Draft, Event

NOW = datetime.now(UTC)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as opened:
        opened.execute("CREATE SCHEMA mbevents")
        for package in ("events.log", "events.ledger"):
            opened.execute(files(package).joinpath("schema.sql").read_bytes())
        partitions.ensure(opened, NOW.date())
        yield opened


def _draft(n: int, name: str = "entity.updated") -> Draft:
    return Draft(f"id-{n}", name, f"artist/{n}", "2026-01-02T03:04:05.678901Z", 700 + n, {"id": n, "text": "Ünï\t\\N"})


def _append(connection: psycopg.Connection, *drafts: Draft) -> list[service.Logged]:
    with connection.transaction():
        head = service.head(connection)
        logged = list(service.append(connection, drafts, source="mb://test", after=head.position, recorded_at=NOW))
        service.advance(connection, logged[-1].position, after=head.position)
    return logged


def test_what_is_read_is_what_was_written_to_the_letter(connection: psycopg.Connection) -> None:
    written = _append(connection, *(_draft(n) for n in range(5)))
    read = service.read(connection, after=0, limit=10)
    assert [event.sequence for event in read] == [1, 2, 3, 4, 5]
    assert [each.body for each in service.encoded(read)] == [each.body for each in written]
    assert Event.from_dict(read[0].to_dict()) == read[0]
    assert read[0].data["text"] == "Ünï\t\\N"


def test_a_transaction_that_fails_leaves_no_gap(connection: psycopg.Connection) -> None:
    _append(connection, _draft(1))
    with connection.transaction(force_rollback=True):
        list(service.append(connection, [_draft(2)], source="s", after=1, recorded_at=NOW))
        service.advance(connection, 2, after=1)
    assert _append(connection, _draft(3))[0].position == 2
    assert service.head(connection) == service.Head(2, 0)


def test_two_writers_give_positions_one_after_the_other(connection: psycopg.Connection, database: str) -> None:
    with psycopg.connect(database) as other:
        list(service.append(other, [_draft(2)], source="s", after=0, recorded_at=NOW))
        service.advance(other, 1, after=0)
        # Who moves the head waits for who is about to.
        connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            _append(connection, _draft(1))
    assert _append(connection, _draft(3))[0].position == 2


def test_a_position_that_somebody_else_has_given_out_is_not_given_again(connection: psycopg.Connection) -> None:
    _append(connection, _draft(1))
    with pytest.raises(psycopg.errors.NotNullViolation):
        service.advance(connection, 1, after=0)
    assert service.head(connection).position == 1


def test_a_few_are_written_as_many_are(connection: psycopg.Connection) -> None:
    drafts = [_draft(n) for n in range(3)]
    many = _append(connection, *drafts)
    with connection.pipeline(), connection.transaction():
        few = service.append_few(connection, drafts, source="mb://test", after=3, recorded_at=NOW)
        service.advance(connection, 6, after=3)
    assert [each.body.replace(b'"sequence":"%d"' % each.position, b"") for each in few] == [
        each.body.replace(b'"sequence":"%d"' % each.position, b"") for each in many
    ]
    assert [each.body for each in service.encoded(service.read(connection, after=3, limit=9))] == [
        each.body for each in few
    ]


def test_published_only_rises(connection: psycopg.Connection) -> None:
    _append(connection, *(_draft(n) for n in range(9)))
    service.mark_published(connection, 7)
    service.mark_published(connection, 3)
    assert service.head(connection).published == 7


def test_events_are_found_by_position_id_type_and_subject(connection: psycopg.Connection) -> None:
    _append(connection, _draft(1), _draft(2, "entity.created"), _draft(3))
    found = service.get(connection, "2")
    assert found is not None
    assert found.id == "id-2"
    by_id = service.get(connection, "id-3")
    assert by_id is not None
    assert by_id.sequence == 3
    assert service.get(connection, "id-9") is None
    assert service.get(connection, "9" * 30) is None
    assert [event.sequence for event in service.read(connection, after=0, limit=9, types=["entity.created"])] == [2]
    assert [event.sequence for event in service.latest(connection, limit=2)] == [3, 2]
    assert [event.sequence for event in service.latest(connection, limit=2, subject="artist/1")] == [1]
    assert service.read(connection, after=0, limit=9, since=NOW + timedelta(minutes=1)) == []
    assert [event.sequence for event in service.at(connection, [3, 1, 77])] == [1, 3]


def test_expired_days_are_dropped_whole_unless_they_are_needed(connection: psycopg.Connection) -> None:
    today = NOW.date()
    old = today - timedelta(days=9)
    partitions.ensure(connection, old, ahead=1)
    with connection.transaction():
        when = datetime(old.year, old.month, old.day, 12, tzinfo=UTC)
        list(service.append(connection, [_draft(1)], source="s", after=0, recorded_at=when))
        service.advance(connection, 1, after=0)
    _append(connection, _draft(2))

    # Not published yet: both days are past their time, and only the empty one goes.
    assert partitions.drop_expired(connection, today, retention_days=7) == [_partition(old + timedelta(days=1))]
    service.mark_published(connection, 2)
    task = ledger.add(connection, [NewTask("a", "q", [1])])
    assert partitions.drop_expired(connection, today, retention_days=7) == []
    ledger.complete(connection, task[0])
    assert partitions.drop_expired(connection, today, retention_days=7) == [_partition(old)]
    assert [event.sequence for event in service.read(connection, after=0, limit=9)] == [2]


def test_partitions_are_made_once(connection: psycopg.Connection) -> None:
    partitions.ensure(connection, NOW.date())
    partitions.ensure(connection, NOW.date() + timedelta(days=1))
    rows = connection.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'mbevents.event'::regclass"
    ).fetchall()
    assert rows == [(4,)]


def _partition(day: date) -> str:
    return f"event_{day:%Y%m%d}"
