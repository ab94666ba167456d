"""MusicBrainz Server's own keys: flagged, then deleted, never written."""

from typing import Any

from tests.unit.workers.caches.making import mbid
from workers.caches.adapters import RedisMusicBrainz
from workers.caches.core import TheirEntity

from .conftest import Clients


def commands(clients: Clients, entities: list[TheirEntity]) -> list[tuple[int, str]]:
    """Database and text of what Redis was told during an invalidation."""
    seen: list[tuple[int, str]] = []
    with clients.pubsub.monitor() as monitor:  # type: ignore[no-untyped-call]  # (redis has no types here)
        RedisMusicBrainz(store=clients.store, cache=clients.entities).invalidate(entities)
        clients.pubsub.echo("end")
        while True:
            command: dict[str, Any] = monitor.next_command()
            if command["command"] == "ECHO end":
                return seen
            if not command["command"].startswith(("CLIENT ", "HELLO ", "SELECT ")):
                seen.append((command["db"], command["command"]))


def test_the_flag_comes_first_and_then_both_keys_go(clients: Clients) -> None:
    gid = mbid()
    assert commands(clients, [TheirEntity("artist", 123, gid)]) == [
        (1, "SET MB:artist:recently_invalidated:123 1 EX 601"),
        (0, f"DEL MB:artist:123 MB:artist:{gid}"),
    ]


def test_their_values_are_only_ever_deleted(clients: Clients) -> None:
    entities = [TheirEntity("release_group", number, mbid()) for number in range(1, 501)]
    for entity in entities:
        clients.entities.set(f"MB:release_group:{entity.id}", b"perl")
        clients.entities.set(f"MB:release_group:{entity.mbid}", entity.id or 0)
    clients.entities.set("MB:release_group:all", b"perl")
    seen = commands(clients, entities)
    verbs = [(database, text.split()[0]) for database, text in seen]
    assert verbs[:500] == [(1, "SET")] * 500
    assert set(verbs[500:]) == {(0, "DEL")}
    assert all(text.startswith("SET MB:release_group:recently_invalidated:") for _, text in seen[:500])
    assert clients.entities.keys() == [b"MB:release_group:all"]
    assert clients.store.dbsize() == 500
    assert 595 < clients.store.ttl("MB:release_group:recently_invalidated:500") <= 601


def test_an_mbid_without_a_row_has_no_flag(clients: Clients) -> None:
    gid = mbid()
    assert commands(clients, [TheirEntity("artist", None, gid)]) == [(0, f"DEL MB:artist:{gid}")]


def test_row_id_zero_is_a_row(clients: Clients) -> None:
    assert len(commands(clients, [TheirEntity("artist", 0, mbid())])) == 2
