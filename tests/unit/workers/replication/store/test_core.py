from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from workers.replication.packet.names import digest_name, packet_name, signature_name
from workers.replication.store import open_store
from workers.replication.store.core import Named, Place, Stored, checked, content_type, expired, named, parsed

NOW = datetime(2026, 5, 11, 21, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)

HOSTILE = [
    "",
    ".",
    "..",
    "../replication-1.tar.bz2",
    "/replication-1.tar.bz2",
    "packets/replication-1.tar.bz2",
    "replication-1.tar.bz2/..",
    "replication-1.tar.bz2\n",
    "replication-1.tar.bz2\0",
    "replication--1.tar.bz2",
    "replication-01.tar.bz2",
    "replication-١.tar.bz2",
    "replication-1-v3.tar.bz2",
    "replication-1-v2-v2.tar.bz2",
    "replication-1.tar.bz2.asc.asc",
    "replication-" + "9" * 5000 + ".tar.bz2",
    "digest-1.json.asc",
    "digest-01.json",
    ".replication-1.tar.bz2.part",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_none_of_ours_is_refused(name: str) -> None:
    assert named(name) is None
    with pytest.raises(UsageError, match="not the name of a packet"):
        checked(name)


def test_names_say_what_a_file_is() -> None:
    assert named("replication-7.tar.bz2") == Named(7, 1)
    assert named("replication-7-v2.tar.bz2.asc") == Named(7, 2, signature=True)
    assert named("digest-7.json") == Named(7, None)
    types = {
        name: content_type(name) for name in ("replication-7.tar.bz2", "replication-7.tar.bz2.asc", "digest-7.json")
    }
    assert list(types.values()) == ["application/x-tar-bz2", "text/plain", "application/json"]


def test_urls_of_stores_are_read() -> None:
    assert parsed("file:///srv/my%20packets") == Place(Path("/srv/my packets"))
    assert parsed("s3://bucket") == Place(Path(), "bucket", "")
    assert parsed("s3://my.bucket/a/b/") == Place(Path(), "my.bucket", "a/b")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "packets",
        "/srv",
        "file://srv/packets",
        "file:///",
        "file:packets",
        "file:///a%00b",
        "s3:///x",
        "s3://B_d",
        "s3://a:b@bucket",
        "s3://bucket?x=1",
        "http://x/y",
    ],
)
def test_a_url_that_is_none_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="it "):
        open_store(url)


def test_a_name_that_is_no_buckets_is_told_from_none() -> None:
    with pytest.raises(ValueError, match="it must name a bucket"):
        open_store("s3:///x")
    with pytest.raises(ValueError, match="what it names cannot be a bucket: their names have 3 to 63 characters"):
        open_store("s3://pk/mb")


def stored(numbers: dict[int, int], names: tuple[str, ...] = ("v1", "v2")) -> list[Stored]:
    """Files of packets by number, each so many hours old."""
    made = []
    for n, age in numbers.items():
        packets = [packet_name(n, int(each[1])) for each in names]
        made += [Stored(name, 1, NOW - age * HOUR, "x") for name in [*packets, *map(signature_name, packets)]]
    return made


def numbers_of(names: list[str]) -> list[int]:
    return sorted({checked(name).sequence for name in names})


def test_nothing_goes_without_a_limit() -> None:
    assert expired(stored({1: 1000, 2: 999}), now=NOW, days=None, count=None) == []


def test_the_newest_by_number_stay_and_the_rest_goes_packet_before_signature() -> None:
    files = [*stored({9: 3, 10: 2, 11: 1}), Stored(digest_name(9), 1, NOW - 3 * HOUR, "x")]
    assert expired(files, now=NOW, days=None, count=2) == [
        "replication-9-v2.tar.bz2",
        "replication-9.tar.bz2",
        "digest-9.json",
        "replication-9-v2.tar.bz2.asc",
        "replication-9.tar.bz2.asc",
    ]


def test_age_counts_from_the_youngest_file_of_a_packet() -> None:
    files = stored({1: 72, 2: 49, 3: 10})
    files.append(Stored(packet_name(2, 1), 1, NOW - HOUR, "again"))
    assert numbers_of(expired(files, now=NOW, days=2, count=None)) == [1]


def test_the_newest_packet_stays_however_old_it_is() -> None:
    assert numbers_of(expired(stored({1: 9000, 2: 8999}), now=NOW, days=1, count=None)) == [1]
    assert expired(stored({1: 9000}), now=NOW, days=1, count=1) == []


def test_of_two_limits_the_longer_one_decides() -> None:
    files = stored({1: 100, 2: 50, 3: 40, 4: 1})
    assert numbers_of(expired(files, now=NOW, days=1, count=3)) == [1]
    assert numbers_of(expired(files, now=NOW, days=3, count=1)) == [1]


def test_what_a_killed_run_left_of_a_packet_goes_with_the_next() -> None:
    left = Stored(signature_name(packet_name(1, 2)), 1, NOW - 50 * HOUR, "x")
    assert expired([left, *stored({2: 1})], now=NOW, days=1, count=None) == [left.name]


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 200), min_size=1),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 10),
)
def test_retention_takes_a_beginning_and_never_the_newest(
    ages: dict[int, int], days: int | None, count: int | None
) -> None:
    gone = numbers_of(expired(stored(ages), now=NOW, days=days, count=count))
    assert gone == sorted(ages)[: len(gone)]
    assert max(ages) not in gone
    assert count is None or len(ages) - len(gone) >= min(count, len(ages))
    assert all(days is None or ages[n] >= 24 * days for n in gone)
