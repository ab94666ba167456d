import random
import threading
from functools import partial

import psycopg
import pytest

from events.errors import NotFoundError, UsageError, VersionMismatchError
from producers.capture.service import install
from tests.integration.workers.replication.verify.support import (
    EVERY_TYPE,
    START,
    Pair,
    apply,
    connect,
    export,
    sequence,
    unseen,
)
from workers.replication.verify import adapters
from workers.replication.verify.adapters import MovedOnError, NotComparedError
from workers.replication.verify.service import (
    Options,
    Report,
    compare,
    compare_with_master,
    make_digest,
    snapshot_of,
)


def different(report: Report) -> list[str]:
    return [each.table for each in report.tables if not each.same]


def test_a_mirror_with_the_same_rows_is_the_same_whatever_its_sessions_are_set_to(pair: Pair) -> None:
    for connection in (pair.master, pair.mirror):
        unseen(
            connection,
            "INSERT INTO musicbrainz.place (id, gid, name, coordinates, last_updated) VALUES "
            "(900, 'a0000000-0000-4000-8000-000000000001', 'Plàce\\ \"📜\"', '(0.1,-1e-300)', '2026-03-29 01:30Z'); "
            "INSERT INTO musicbrainz.medium_index VALUES (900, '(0.1, 2.3), (1e-7, 4)'); "
            "UPDATE musicbrainz.release_meta SET cover_art_presence = 'darkened'",
        )
    with connect(pair.mirror_url) as other:
        name = other.info.dbname
        for setting, value in (
            ("TimeZone", "Asia/Kolkata"), ("DateStyle", "SQL, DMY"), ("IntervalStyle", "sql_standard"),
            ("extra_float_digits", "-10"), ("bytea_output", "escape"), ("client_encoding", "LATIN1"),
        ):  # fmt: skip
            other.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
    report = pair.published()
    assert report.ok
    assert different(report) == []
    assert len(report.tables) > 300
    assert sum(each.found for each in report.tables) > 500
    assert "musicbrainz.editor" in report.left_out


def test_dropped_columns_and_another_order_of_columns_are_no_difference(pair: Pair) -> None:
    pair.mirror.execute(
        "ALTER TABLE musicbrainz.artist_type ADD extra text, DROP COLUMN description; "
        "ALTER TABLE musicbrainz.artist_type ADD description text"
    )
    unseen(pair.mirror, "UPDATE musicbrainz.artist_type SET extra = 'x'")
    unseen(pair.master, "UPDATE musicbrainz.artist_type SET description = NULL")
    assert different(pair.published()) == []


def test_changes_that_are_in_no_packet_yet_do_not_count(pair: Pair) -> None:
    pair.master.execute("UPDATE musicbrainz.artist SET comment = 'pending' || id WHERE id > 2")
    pair.master.execute("UPDATE musicbrainz.artist SET name = name || '?' WHERE id > 2 AND id % 2 = 0")
    pair.master.execute("DELETE FROM musicbrainz.artist_alias")
    pair.master.execute(
        "INSERT INTO musicbrainz.artist (gid, name, sort_name) SELECT gen_random_uuid(), 'N' || i, 'N' "
        "FROM generate_series(1, 100) i"
    )
    pair.master.execute("UPDATE musicbrainz.tag SET id = id + 1000000")
    pair.master.execute(
        "INSERT INTO musicbrainz.place (gid, name, coordinates) VALUES (gen_random_uuid(), 'P', '(0.1,1e-7)')"
    )
    pair.master.execute("DELETE FROM musicbrainz.place WHERE name = 'P'")
    assert different(pair.published()) == []
    assert different(pair.with_master()) == []


def test_changes_of_any_type_are_taken_back_exactly(pair: Pair) -> None:
    for connection in (pair.master, pair.mirror):
        connection.execute(EVERY_TYPE)
    install(pair.master_url)
    with connect(pair.master_url) as other:
        other.execute("SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'; SET bytea_output = 'escape'")
        other.execute(
            "UPDATE musicbrainz.thing SET id = -id, place = place * point(3, 1), box = cube_enlarge(box, 0.1, 3), "
            "ratio = ratio * 1.1, moment = moment + interval '1.000001 s', raw = sha256(raw), kind = 'absent', "
            "amount = amount / 3, numbers = numbers || 7, about = about || '{\"c\": 1e400}', day = day + 1 "
            "WHERE id % 3 = 0"
        )
        other.execute("DELETE FROM musicbrainz.thing WHERE id % 3 = 1")
        other.execute("UPDATE musicbrainz.thing SET name = name || E'\\u0001\\\\\\t\"'")
    assert different(pair.published()) == []
    assert different(pair.with_master(tables=["thing"])) == []


def test_digests_are_exact_while_others_write(pair: Pair) -> None:
    """Every packet's digest is that of the mirror which has applied it, with four writers and no pause."""
    stop = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with connect(pair.master_url) as connection:
            while not stop.is_set():
                try:
                    with connection.transaction():
                        for _ in range(chance.randrange(1, 6)):
                            connection.execute(chance.choice(STATEMENTS).format(n=chance.randrange(40)).encode())
                        if chance.random() < 0.2:
                            raise psycopg.Rollback
                except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                    pass

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    changes = 0
    try:
        with connect(pair.master_url) as one, connect(pair.master_url) as two:
            for number in range(START + 1, START + 6):
                packet = export(pair.master)
                digest = make_digest(one, number, others=[two])
                apply(pair.mirror, packet)
                report = compare(partial(connect, pair.mirror_url), digest, Options())
                assert different(report) == []
                changes += len(packet)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert changes > 100
    assert sequence(pair.mirror) == START + 5


STATEMENTS = (
    "INSERT INTO musicbrainz.tag (name, ref_count) VALUES ('tag {n}', 0) ON CONFLICT DO NOTHING",
    "UPDATE musicbrainz.tag SET ref_count = ref_count + 1 WHERE id % 40 = {n}",
    "DELETE FROM musicbrainz.tag WHERE name = 'tag {n}'",
    "UPDATE musicbrainz.tag SET id = id + 100000 WHERE name = 'tag {n}'",
    "INSERT INTO musicbrainz.artist (gid, name, sort_name) VALUES (gen_random_uuid(), 'new {n}', 'n')",
    "UPDATE musicbrainz.artist SET comment = comment || '{n}', ended = NOT ended WHERE id > 2 AND id % 40 = {n}",
    "DELETE FROM musicbrainz.artist WHERE name = 'new {n}'",
    "INSERT INTO musicbrainz.place (gid, name, coordinates) VALUES (gen_random_uuid(), 'p', '({n}.1, 0.3)')",
    "UPDATE musicbrainz.place SET coordinates = point(coordinates[0] / 3, {n}) WHERE name = 'p'",
    "UPDATE musicbrainz.release_meta SET cover_art_presence = 'present' WHERE id % 40 = {n}",
)


def test_the_differing_range_is_found_without_the_master(pair: Pair) -> None:
    unseen(
        pair.mirror,
        "INSERT INTO musicbrainz.tag (id, name) SELECT i, 'bulk ' || i FROM generate_series(1000000, 1010000) i",
    )
    with connect(pair.mirror_url) as connection:
        digest = make_digest(connection, START)
    unseen(pair.mirror, "UPDATE musicbrainz.tag SET ref_count = -1 WHERE id = 1005000")
    report = compare(partial(connect, pair.mirror_url), digest, Options(tables=["tag"]))
    (table,) = report.tables
    (found,) = table.ranges
    assert not report.ok
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1005000 < found.high
    assert found.high - found.low < 20_000


def test_rows_that_differ_are_told_by_key_and_column_and_pending_changes_are_not_among_them(pair: Pair) -> None:
    unseen(
        pair.master,
        "INSERT INTO musicbrainz.tag (id, name) SELECT i, 'bulk ' || i FROM generate_series(1000000, 1010000) i",
    )
    unseen(
        pair.mirror,
        "INSERT INTO musicbrainz.tag (id, name) SELECT i, 'bulk ' || i FROM generate_series(1000000, 1010000) i",
    )
    unseen(
        pair.mirror,
        "UPDATE musicbrainz.tag SET ref_count = -1 WHERE id = 1005000; "
        "DELETE FROM musicbrainz.tag WHERE id = 1000003; INSERT INTO musicbrainz.tag (id, name) VALUES (5, 'extra')",
    )
    pair.master.execute("UPDATE musicbrainz.tag SET ref_count = 7 WHERE id BETWEEN 1004000 AND 1006000")
    pair.master.execute("DELETE FROM musicbrainz.tag WHERE id IN (1000003, 1000004)")
    report = pair.with_master()
    assert different(report) == ["musicbrainz.tag"]
    (table,) = [each for each in report.tables if not each.same]
    told = [(each.kind, dict(each.key), each.columns) for each in table.differences]
    assert told == [
        ("extra", {"id": "5"}, ()),
        ("missing", {"id": "1000003"}, ()),
        ("changed", {"id": "1005000"}, ("ref_count",)),
    ]
    changed = table.differences[2].to_dict()
    assert changed["columns"] == {"ref_count": {"expected": "0", "found": "-1"}}


def test_a_repair_writes_the_masters_rows_of_the_packet(pair: Pair) -> None:
    unseen(
        pair.mirror,
        "UPDATE musicbrainz.artist SET name = 'wrong' || id, begin_date_year = 2 WHERE id > 2; "
        "DELETE FROM musicbrainz.artist_type WHERE id = 1; "
        "INSERT INTO musicbrainz.tag (id, name) VALUES (999999, 'extra'); "
        "DELETE FROM musicbrainz.release_meta",
    )
    pair.master.execute("UPDATE musicbrainz.artist SET comment = 'pending' WHERE id > 2 AND id % 3 = 0")
    report = pair.with_master(repair=True)
    assert [each.removeprefix("musicbrainz.") for each in different(report)] == [
        "artist", "artist_type", "release_meta", "tag",
    ]  # fmt: skip
    assert report.ok
    assert different(pair.published()) == []
    # And it goes on from there.
    packet = export(pair.master)
    apply(pair.mirror, packet)
    assert different(pair.with_master()) == []


def test_rows_that_swapped_a_unique_value_are_repaired(pair: Pair) -> None:
    for connection in (pair.master, pair.mirror):
        unseen(connection, "INSERT INTO musicbrainz.tag (id, name) VALUES (900001, 'one'), (900002, 'two')")
    unseen(
        pair.mirror,
        "UPDATE musicbrainz.tag SET name = 'three' WHERE id = 900001; UPDATE musicbrainz.tag SET name = 'one' "
        "WHERE id = 900002; UPDATE musicbrainz.tag SET name = 'two' WHERE id = 900001",
    )
    assert pair.with_master(repair=True).ok
    assert different(pair.with_master()) == []


def test_a_repair_that_a_trigger_spoils_is_told(pair: Pair) -> None:
    pair.mirror.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'spoiled'; RETURN NEW; END $$"
    )
    pair.mirror.execute(
        "CREATE TRIGGER spoil BEFORE UPDATE ON musicbrainz.artist_type FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    unseen(pair.mirror, "UPDATE musicbrainz.artist_type SET name = 'wrong' WHERE id = 1")
    report = pair.with_master(repair=True)
    (table,) = [each for each in report.tables if not each.same]
    assert not report.ok
    assert table.reason is not None
    assert "still differs" in table.reason


def test_uuid_and_text_keys_are_narrowed_and_repaired(pair: Pair) -> None:
    redirects = (
        "INSERT INTO musicbrainz.artist_gid_redirect (gid, new_id, created) "
        "SELECT md5(i::text)::uuid, 1, '2026-01-01Z' FROM generate_series(1, 5000) i"
    )
    for connection in (pair.master, pair.mirror):
        unseen(connection, redirects)
    unseen(
        pair.mirror,
        "UPDATE musicbrainz.artist_gid_redirect SET new_id = 2 WHERE gid = md5('77')::uuid; "
        "UPDATE musicbrainz.iso_3166_1 SET area = area + 1",
    )
    report = pair.with_master(tables=["artist_gid_redirect", "iso_*"], repair=True)
    by_name = {each.table: each for each in report.tables}
    redirect = by_name["musicbrainz.artist_gid_redirect"]
    assert [each.columns for each in redirect.differences] == [("new_id",)]
    assert redirect.repaired == 1
    assert len(redirect.ranges) == 1
    assert different(pair.with_master()) == []


def test_a_mirror_at_another_packet_is_not_compared(pair: Pair) -> None:
    with connect(pair.master_url) as connection:
        digest = make_digest(connection, START)
        packet = export(pair.master)
        with pytest.raises(MovedOnError, match="no digest of packet 100"):
            make_digest(connection, START)
    apply(pair.mirror, packet)
    with pytest.raises(MovedOnError, match="is at packet 101, the digest is of packet 100"):
        compare(partial(connect, pair.mirror_url), digest, Options())
    export(pair.master)
    with pytest.raises(MovedOnError, match="The mirror is at packet 101, its master at 102"):
        pair.with_master(wait=0)


def test_a_mirror_that_comes_up_to_its_master_meanwhile_is_compared(pair: Pair) -> None:
    packet = export(pair.master)
    timer = threading.Timer(0.5, apply, (pair.mirror, packet))
    timer.start()
    report = pair.with_master(wait=30)
    timer.join()
    assert report.sequence == START + 1
    assert different(report) == []


def test_a_packet_applied_during_a_repair_is_not_overwritten(pair: Pair) -> None:
    unseen(pair.mirror, "UPDATE musicbrainz.artist_type SET name = 'wrong' || id")
    pair.master.execute("UPDATE musicbrainz.artist_type SET name = 'new' || id")
    packet = export(pair.master)
    with snapshot_of(partial(connect, pair.mirror_url), 1) as here, connect(pair.mirror_url) as writing:
        shape = here.shapes()["musicbrainz.artist_type"]
        apply(pair.mirror, packet)
        with pytest.raises(MovedOnError, match="a packet was applied meanwhile"):
            adapters.repair(writing, here.sequence, shape, lambda: [])


def test_what_cannot_be_compared_is_refused(pair: Pair) -> None:
    with pytest.raises(NotFoundError, match="no replicated table 'nonsense'"):
        pair.with_master(tables=["nonsense"])
    unseen(pair.mirror, "UPDATE musicbrainz.replication_control SET current_schema_sequence = 30")
    for compared in (pair.published, pair.with_master):
        with pytest.raises(VersionMismatchError, match="has schema 30, and its master 31"):
            compared()
    unseen(pair.mirror, "DELETE FROM musicbrainz.replication_control")
    with pytest.raises(UsageError, match="no replication sequence"):
        pair.published()


def test_a_mirror_is_not_compared_with_itself_nor_with_another_mirror(pair: Pair) -> None:
    mirror, master = partial(connect, pair.mirror_url), partial(connect, pair.master_url)
    with pytest.raises(UsageError, match="is the mirror itself"):
        compare_with_master(mirror, mirror, Options())
    with pytest.raises(UsageError, match="captures no changes"):
        compare_with_master(master, mirror, Options())


def test_a_schema_that_is_another_is_told_before_a_packet_that_is(pair: Pair) -> None:
    export(pair.master)
    unseen(pair.mirror, "UPDATE musicbrainz.replication_control SET current_schema_sequence = 30")
    with pytest.raises(VersionMismatchError, match="has schema 30"):
        pair.published()
    with pytest.raises(VersionMismatchError, match="has schema 30"):
        pair.with_master(wait=0)


def test_a_database_that_refuses_to_be_read_is_named(pair: Pair) -> None:
    role = f"reader_of_{pair.master.info.dbname}"
    pair.master.execute(f"CREATE ROLE {role}".encode())
    with connect(pair.master_url) as reader:
        reader.execute(f"GRANT USAGE ON SCHEMA musicbrainz TO {role}; SET ROLE {role}".encode())
        with pytest.raises(NotComparedError, match=f"database {pair.master.info.dbname} .* permission denied for"):
            make_digest(reader, START)
    pair.master.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_an_error_of_one_connection_ends_the_others_at_once(pair: Pair) -> None:
    pair.mirror.execute(f"ALTER DATABASE {pair.mirror.info.dbname} SET lock_timeout = '300ms'".encode())
    with pair.mirror.transaction():
        pair.mirror.execute("LOCK TABLE musicbrainz.artist, musicbrainz.tag")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            pair.published()


def test_tables_with_any_name_are_compared_and_repaired(pair: Pair) -> None:
    pair.mirror.execute('CREATE TABLE musicbrainz."A ""📜"" {t}" ("The {Key}" text PRIMARY KEY, "x %s" int[])')
    pair.master.execute('CREATE TABLE musicbrainz."A ""📜"" {t}" ("x %s" int[], "The {Key}" text PRIMARY KEY)')
    pair.master.execute("""INSERT INTO musicbrainz."A ""📜"" {t}" VALUES ('{1,null}', 'é'), ('{2}', 'b')""")
    install(pair.master_url)
    pair.master.execute("""UPDATE musicbrainz."A ""📜"" {t}" SET "x %s" = '{3}' WHERE "The {Key}" = 'b'""")
    report = pair.with_master(repair=True)
    (table,) = [each for each in report.tables if not each.same]
    assert [each.key for each in table.differences] == [{"The {Key}": "b"}, {"The {Key}": "é"}]
    assert different(pair.with_master()) == []
    assert pair.mirror.execute('SELECT * FROM musicbrainz."A ""📜"" {t}" ORDER BY "x %s" DESC').fetchall() == [
        ("b", [2]),
        ("é", [1, None]),
    ]


def test_absent_tables_are_listed_and_missing_columns_are_differences(pair: Pair) -> None:
    pair.mirror.execute(
        "DROP TABLE documentation.l_area_area_example; ALTER TABLE musicbrainz.artist DROP comment CASCADE"
    )
    report = pair.published()
    assert report.absent == ("documentation.l_area_area_example",)
    (table,) = [each for each in report.tables if not each.same]
    assert table.reason == "the mirror has no column comment"
